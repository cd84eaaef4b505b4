//! A lot (묶음): up to 1,000 messages of one sending and everything that happens to them.
//!
//! Its events speak of *sets* of messages, so a lot takes tens of events, not thousands. The rules that matter most
//! are here: at most one attempt in flight, an unanswered attempt is unknown and not failed, state by rank and not
//! by arrival, a failure and what follows from it in one append.
//!
//! One file a decision: `routing` (first routes), `submit`, `respond`, `receive`, `close`; each answers with the events
//! to append, in order, and changes nothing. `failover` is what follows a failure in any of them; `retry` is what was refused
//! for now; `doubt` is an answer that did not come; `copied` is a log that is a copy; `state` is the fold.

mod close;
mod copied;
mod doubt;
mod events;
mod failover;
mod ledger;
mod message;
mod receive;
mod respond;
mod retry;
mod routing;
mod state;
mod submit;

pub use copied::{Cancelled, Doubted};
pub use doubt::{Asking, Callers, NotFound, NotRepeated, ON_ITS_WAY};
pub use events::{
    AcceptedSet, DeferredSet, LeftOut, LotAccepted, LotPersonal, MessagesDoubted, MessagesFinished,
    MessagesHeld, MessagesRouted, MessagesSubmitted, ReceiptSet, ReceiptsRecorded, Recipient, Refusal,
    RefusedForNowSet, RefusedSet, RelayResponded, RouteSet, SplitRecord, TypeGroup, UnknownSet,
};
pub use failover::RoutingContext;
pub use ledger::{LedgerAhead, SplitLedger};
pub use message::{Attempt, AttemptState, Message, Outcome, OutcomeCounts};
pub use receive::Note;
pub use respond::{AcceptedMessage, AnswerTo, NoAnswer, RefusedForNowMessage, RefusedMessage, ResponseNote};
pub use retry::CONNECTION_LOST;
pub use routing::{PolicyInForce, RoutingBlocked};
pub use state::{Lot, PendingHandover};
pub use submit::{Handover, Submission};
