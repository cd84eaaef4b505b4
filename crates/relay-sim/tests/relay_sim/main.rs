//! The simulator over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod admin;
mod binary;
mod determinism;
mod faults;
mod fixtures;
mod forced;
mod receipts;
mod smtp;
mod support;
