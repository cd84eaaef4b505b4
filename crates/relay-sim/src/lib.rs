//! Simulated carriers (중계사): the other side of the relay protocol, for the demo, the tests and load runs.
//!
//! The contract is `docs/relay-protocol.md`, and `docs/relay-sim.md` describes the simulator. Nothing here is shared
//! with the client that Kite uses, because shared types would hide contract bugs. Both sides are tested with the
//! fixtures in `docs/relay-protocol/`.
//!
//! What happens to a message depends only on the seed, the relay, the recipient and the attempt (`decide`), never on
//! order or time. The ledger is the carriers' own record, and so the oracle of the crash tests.
//!
//! Deliberately absent: storage (a simulator that ends forgets), TLS and STARTTLS, bounce mails over SMTP, and
//! message texts in the ledger.

mod behaviour_change;
mod clock;
mod codes;
mod decide;
mod forced;
mod forge;
mod http;
mod ledger;
mod relay;
mod scenario;
mod shared;
mod sim;
mod smtp;
mod wire;

pub use codes::{CodeStyle, MEANINGS, Meaning};
pub use forge::{ForgeKind, ForgeRequest, ForgedReceipt};
pub use ledger::{Counters, EntryStatus, LedgerEntry};
pub use scenario::{
    Behaviour, Channel, Distribution, Faults, LedgerMode, Outage, OutageMode, ReceiptMode, Receipts,
    RelayKind, RelayScenario, Retry, Scenario, Slow,
};
pub use shared::{RelaySummary, Summary};
pub use sim::{LedgerView, RelaySim};
