//! The API from outside: requests in, answers out, over a log in memory and real read models in a temporary directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod address_book;
mod admin;
mod audit;
mod bad_input;
mod bounds;
mod callers;
mod captured_log;
mod documents;
mod freshness;
mod idempotency;
mod isolation;
mod keys;
mod lists;
mod opt_outs;
mod pushed_receipts;
mod relay_credentials;
mod relay_tls;
mod senders;
mod sendings;
mod support;
mod tcp;
mod tenants;
mod timeline;
mod views;
