//! Events are for ever: what was once written must be read, and what is written must not change unnoticed.
//!
//! `golden/` holds one file for every version of every event. `UPDATE_GENERATED=1` writes the files of new versions and
//! `docs/events.md`; a file of a version that was released is never changed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/samples.rs"]
mod samples;

mod catalogue;
mod golden;
mod in_force;
mod stored_words;
mod streams;
