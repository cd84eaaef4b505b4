//! Receipts that are pulled, from relays that keep them. Deliberately absent: those that a relay pushes (crate
//! `kite-api`).

mod pull;
pub(crate) mod wire;

pub use pull::ReceiptPuller;
