//! The write side as a whole, on a log in memory, with a clock and ids that move only when told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faulty_store;
mod house;

mod acceptance;
mod adviser;
mod bounds;
mod cancelling;
mod causation;
mod copies;
mod directory;
mod earlier;
mod idempotency;
mod idempotency_law;
mod key_use;
mod limits;
mod lots;
mod manage;
mod not_understood;
mod opt_outs;
mod parked;
mod pausing;
mod receipts;
mod refusals;
mod router;
mod router_faults;
mod rows;
mod seals;
mod senders;
mod timekeeper;
