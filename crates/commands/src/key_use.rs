//! When keys were last used.
//!
//! A use costs a request one look at a number, and once a second a key one store: it is kept with the key in memory. It gets
//! into the log seldom, as one event for many keys: at the first use of a key, and then when what the log says is a day
//! old. So a key that was never used, or not for weeks, is known as such for ever and by every process, and the log grows
//! by a few events a day, however many requests there are. What is shown is the newer of the two: exact to the second for
//! what came over this process since it began, else up to a day too old.
//!
//! Deliberately absent: a file or table of its own. It would be lost with the machine, and every process would have another.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::keys::{KEY_USES_STREAM, KeyUse, KeysUsed};
use kite_event_store::Expected;
use smol_str::SmolStr;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::directory::Directory;
use crate::journal::{Cause, Entry, Journal, JournalError};
use crate::worker::{Step, Worker, WorkerError};

/// What the log says of a key's last use is renewed when it is older than this.
const AGE_MAX: TimeDelta = TimeDelta::days(1);
/// How often the recorder looks.
const LOOK_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// Keys in one event.
const USES_MAX: usize = 1_000;

/// A key that is not revoked, and when it was last used. Whoever has a snapshot of the directory has the same one.
#[derive(Debug)]
pub struct LiveKey<T> {
    issued: T,
    /// Seconds since 1970; 0: never.
    used_s: AtomicI64,
    /// The same, as the log has it.
    recorded_s: AtomicI64,
}

impl<T> Deref for LiveKey<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.issued
    }
}

impl<T: PartialEq> PartialEq for LiveKey<T> {
    fn eq(&self, other: &Self) -> bool {
        self.issued == other.issued && self.last_used_at() == other.last_used_at()
    }
}

impl<T> LiveKey<T> {
    /// Never used, as far as is known.
    pub fn new(issued: T) -> Self {
        Self { issued, used_s: AtomicI64::new(0), recorded_s: AtomicI64::new(0) }
    }

    /// It is used now.
    pub fn note_use(&self, now: DateTime<Utc>) {
        let now_s = now.timestamp();
        // Mostly it is known already, and reading costs the other threads nothing.
        if self.used_s.load(Ordering::Relaxed) < now_s {
            self.used_s.fetch_max(now_s, Ordering::Relaxed);
        }
    }

    /// When it was last used.
    pub fn last_used_at(&self) -> Option<DateTime<Utc>> {
        let used_s = self.used_s.load(Ordering::Relaxed);
        (used_s > 0).then(|| DateTime::from_timestamp(used_s, 0)).flatten()
    }

    /// The log has it that it was used then.
    pub(crate) fn record(&self, at: DateTime<Utc>) {
        self.used_s.fetch_max(at.timestamp(), Ordering::Relaxed);
        self.recorded_s.fetch_max(at.timestamp(), Ordering::Relaxed);
    }

    /// What the log should have and has not.
    fn unrecorded(&self, key_id: &SmolStr) -> Option<KeyUse> {
        let at = self.last_used_at()?;
        let recorded_s = self.recorded_s.load(Ordering::Relaxed);
        let is_due = recorded_s == 0 || at.timestamp() - recorded_s >= AGE_MAX.num_seconds();
        is_due.then(|| KeyUse { key_id: key_id.clone(), at })
    }
}

/// Writes down when keys were last used.
pub struct KeyUseRecorder {
    journal: Journal,
    directory: Directory,
}

impl KeyUseRecorder {
    /// Writes to this log what is known of the keys in this directory.
    pub fn new(journal: Journal, directory: Directory) -> Self {
        Self { journal, directory }
    }

    fn unrecorded(&self) -> Vec<KeyUse> {
        let state = self.directory.snapshot();
        let tenants = state.api_keys.iter().filter_map(|(id, key)| key.unrecorded(id));
        let operators = state.operator_keys.iter().filter_map(|(id, key)| key.unrecorded(id));
        tenants.chain(operators).take(USES_MAX).collect()
    }

    async fn record(&self, uses: Vec<KeyUse>) -> Result<(), JournalError> {
        let entry = Entry {
            stream: KEY_USES_STREAM.into(),
            expected: Expected::Any,
            tenant: None,
            cause: Cause::new("key-use", self.journal.next_id()),
            events: vec![KeysUsed { uses }.into()],
        };
        self.journal.append_one(entry).await?;
        self.directory.catch_up(&self.journal).await?;
        Ok(())
    }
}

#[async_trait]
impl Worker for KeyUseRecorder {
    fn name(&self) -> &str {
        "key-use"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let uses = self.unrecorded();
        if uses.is_empty() {
            return Ok(Step::Idle(Some(self.journal.now() + LOOK_INTERVAL)));
        }
        self.record(uses).await?;
        Ok(Step::Worked)
    }
}
