//! The laws (docs/laws.md) that are about pure state, each as property tests over whole histories.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/samples.rs"]
mod samples;
mod world;

mod any_events;
mod doubt;
mod failover;
mod handover;
mod histories;
mod receipts;
mod retry;
mod split;
