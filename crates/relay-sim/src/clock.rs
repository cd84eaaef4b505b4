//! The only place that reads wall time and waits.
//!
//! What the simulator *decides* never depends on time; time only says when a decision shows. Everything else takes
//! milliseconds since the Unix epoch as an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that never goes backwards: the wall time at its creation plus the monotonic time since.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    origin_us: u64,
    /// Where outage windows count from; moved by a reset.
    start_ms: AtomicU64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the simulator's clock is the one reader of wall time")]
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin_us = since_epoch.as_micros() as u64;
        Self { origin: Instant::now(), origin_us, start_ms: AtomicU64::new(origin_us / 1_000) }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn now_us(&self) -> u64 {
        self.origin_us + self.origin.elapsed().as_micros() as u64
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_us() / 1_000
    }

    /// Milliseconds since the start or the last reset.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        self.now_ms().saturating_sub(self.start_ms.load(Ordering::Relaxed))
    }

    /// Lets outage windows count from now.
    pub(crate) fn restart(&self) {
        self.start_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Waits for `duration`; a zero duration does not yield.
    #[expect(
        clippy::disallowed_methods,
        reason = "the simulator's clock is the one that waits: a carrier is slow in real time"
    )]
    pub(crate) async fn wait(&self, duration: Duration) {
        if !duration.is_zero() {
            tokio::time::sleep(duration).await;
        }
    }
}
