//! The endpoints, one per file: types, OpenAPI, a handler, tests.

pub mod admin;
pub mod audit;
pub mod contacts;
pub(crate) mod csv_file;
mod csv_quotes;
pub mod groups;
pub(crate) mod lengths;
pub mod messages;
pub mod opt_outs;
pub mod policies;
pub mod receipts;
pub mod relays;
pub mod routing;
pub mod senders;
pub mod sendings;
pub mod service;
pub mod statistics;
pub mod templates;
