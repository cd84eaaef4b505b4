//! Receipts that are pulled, from relays that keep them. Deliberately absent: those that a relay pushes (crate
//! `kite-api`).

mod pull;
mod telling;
#[cfg(test)]
mod tests;

pub use pull::ReceiptPuller;
