//! What everything that is kept in PostgreSQL shares: how the server is reached, what it must be like, and how the shape of a
//! schema is brought about.
//!
//! Deliberately absent: what is kept there (each adapter is beside its port), and anything that waits or retries.

mod connect;
mod error;
mod hosts;
mod schema;
mod silence;

pub use connect::{Cancelling, Connector, Driven, Server, check_server};
pub use error::{OpenError, is_silence};
pub use schema::{Rights, Schema};
pub use silence::Silence;
