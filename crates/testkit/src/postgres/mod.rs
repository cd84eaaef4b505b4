//! Real PostgreSQL servers: where their programs are, servers of one's own to kill and to promote, and databases on the server
//! that all tests share.
//!
//! `cargo xtask test` finds or installs the programs and starts the shared server. Whatever needs one fails without it.

mod database;
mod installation;
mod server;

pub use database::Database;
pub use installation::Installation;
pub use server::Server;
