//! The log for people: who did what, when and why, for ever. Reads go to the log itself, not to a read model, so that
//! nothing is between the record and its reader.
//!
//! A tenant sees its own events; those of the platform (relays, receipts that nobody knows) are for operators.
//! Credentials of relays, and hashes of keys, are never shown.

mod concerns;
pub mod events;
pub(crate) mod message;
mod view;

pub use view::EventView;
