//! A key of a tenant or an operator, as the processes that check it share it.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::keys::KeyUse;
use smol_str::SmolStr;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};

/// The last use that the log has of a key is renewed when it is older than this.
const AGE_MAX: TimeDelta = TimeDelta::days(1);

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
    pub(crate) fn unrecorded(&self, key_id: &SmolStr) -> Option<KeyUse> {
        let at = self.last_used_at()?;
        let recorded_s = self.recorded_s.load(Ordering::Relaxed);
        let is_due = recorded_s == 0 || at.timestamp() - recorded_s >= AGE_MAX.num_seconds();
        is_due.then(|| KeyUse { key_id: key_id.clone(), at })
    }
}
