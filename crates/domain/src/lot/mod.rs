//! A lot (묶음): up to 1,000 messages of one sending and everything that happens to them.
//!
//! Its events are about *sets* of messages, so a lot needs tens of events, not thousands. The rules that matter most
//! are here: at most one attempt in flight, an unanswered attempt is unknown and not failed, state follows rank and
//! not arrival, a failure and what follows from it are in one append.
//!
//! There is one file per decision: `routing` (first routes), `submit`, `respond`, `receive`, `close`. Each returns
//! the events to append, in order, and changes nothing. `failover` is what follows a failure in any of them; `retry`
//! is for messages that were refused for now; `doubt` is for answers that did not come; `copied` is for a log that is
//! a copy; `state` is the fold.

mod close;
mod copied;
mod doubt;
mod events;
mod failover;
mod ledger;
mod message;
#[cfg(feature = "mutations")]
mod mutations;
mod receive;
mod respond;
mod retry;
mod routing;
mod said;
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
pub use said::{Said, first_line, has_subject, said, sender, value_of};
pub use state::{Lot, PendingHandover};
pub use submit::{Handover, Submission};
