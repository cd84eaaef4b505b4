//! What tests and tools share: real processes, waiting for conditions, seeded random numbers, relays to send through
//! and a customer who sends, a judge of whole runs, and the rules of the workspace.
//!
//! A development dependency only. Deliberately absent: anything that a crate under test could come to depend on, and
//! mocks of our own ports (their adapters in memory are beside the ports).

pub mod certificates;
pub mod customer;
pub mod dice;
pub mod hostile;
pub mod metrics;
pub mod nats;
pub mod night;
pub mod operator;
pub mod oracle;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod relays;
pub mod senders;
pub mod wait;
pub mod workspace;
