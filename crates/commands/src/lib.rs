//! The write side: load, decide, append, and try again on a conflict (`tries.rs`).
//!
//! Every process that reads the log and acts on it (router, timekeeper) is a [`Worker`]: a loop over `step()`. A
//! wake-up only shortens the wait; the log and periodic scans make sure that nothing is forgotten.
//!
//! Deliberately absent: HTTP, relays, SQL, sleeping, a clock of its own.

pub mod accept;
pub mod address_book;
pub mod adviser;
pub mod awaited;
pub mod backup_desk;
pub mod clock;
pub mod directory;
mod failure;
pub mod governed;
pub mod journal;
pub mod key_use;
pub mod lease;
pub mod lots;
pub mod manage;
pub mod not_understood;
pub mod open_work;
mod parked;
pub mod pauses;
pub mod policy;
pub mod receipts;
pub mod recent;
pub mod refusal_keeper;
pub mod relay_desk;
pub mod router;
pub mod sealer;
pub mod seals;
pub mod settler;
pub mod timekeeper;
mod too_old;
pub mod trace;
pub mod tries;
pub mod vault;
pub mod worker;
mod write_side;

pub use awaited::Awaited;
pub use clock::{Clock, Ids};
pub use journal::{Cause, Journal, JournalError};
/// The log's port, for those who read it through the write side.
pub use kite_event_store as event_store;
pub use lots::{Lots, LotsError};
pub use pauses::Pauses;
pub use too_old::TooOld;
pub use trace::TraceParent;
pub use vault::Vault;
pub use worker::{Step, Worker, WorkerError, describe};
pub use write_side::WriteSide;
