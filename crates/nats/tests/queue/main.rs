//! The queue on real servers.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod contract;
mod faults;
mod ground;
mod letters;
mod who;
