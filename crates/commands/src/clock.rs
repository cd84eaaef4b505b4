//! Time and ids, injected, so that everything that decides can be simulated.

use chrono::{DateTime, Utc};
use std::sync::Arc;
use uuid::Uuid;

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// The time, UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// Where ids come from.
pub trait Ids: Send + Sync + 'static {
    /// A new id that sorts after those before it (UUIDv7).
    fn next(&self) -> Uuid;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the real time comes in")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// The machine's random ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place where real ids come in")]
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }
}

impl<T: Clock + ?Sized> Clock for Arc<T> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }
}

impl<T: Ids + ?Sized> Ids for Arc<T> {
    fn next(&self) -> Uuid {
        (**self).next()
    }
}

/// A clock and ids of a test or a simulation: both move only when told.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: std::sync::atomic::AtomicI64,
    ids: std::sync::atomic::AtomicU64,
}

impl ManualClock {
    /// Starts at this time.
    pub fn at(time: DateTime<Utc>) -> Self {
        Self { now_ms: time.timestamp_millis().into(), ids: 0.into() }
    }

    /// Moves on.
    pub fn advance(&self, by: chrono::Duration) {
        self.now_ms.fetch_add(by.num_milliseconds(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Jumps, backwards too.
    pub fn set(&self, time: DateTime<Utc>) {
        self.now_ms.store(time.timestamp_millis(), std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.now_ms.load(std::sync::atomic::Ordering::SeqCst))
            .expect("only set from a time")
    }
}

impl Ids for ManualClock {
    fn next(&self) -> Uuid {
        let count = self.ids.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let millis = self.now_ms.load(std::sync::atomic::Ordering::SeqCst).max(0) as u64;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&count.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}
