//! Real NATS servers with JetStream: where their program is, servers of one's own to kill, and clusters of them whose leaders can be
//! killed.
//!
//! `cargo xtask test` installs the program. Whatever needs it fails without it.
//!
//! Deliberately absent: a client. A server is asked over HTTP how it is; whoever sends messages brings a client of their own.

mod accounts;
mod cluster;
mod installation;
mod monitoring;
mod options;
mod server;

pub use accounts::Accounts;
pub use cluster::Cluster;
pub use installation::Installation;
pub use options::{Login, Options, Tls};
pub use server::Server;
