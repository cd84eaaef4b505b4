//! What operators see of the writer.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::time::Instant;

/// The writer's metrics, looked up once. A recorder has to be installed before the store is opened.
pub(crate) struct Measures {
    commit_seconds: Histogram,
    commit_events: Histogram,
    appended_events: Counter,
    queue_requests: Gauge,
}

impl Measures {
    pub(crate) fn new() -> Self {
        Self {
            commit_seconds: histogram!("kite_event_store_commit_seconds"),
            commit_events: histogram!("kite_event_store_commit_events"),
            appended_events: counter!("kite_event_store_appended_events_total"),
            queue_requests: gauge!("kite_event_store_queue_requests"),
        }
    }

    pub(crate) fn committed(&self, stopwatch: &Stopwatch, events: usize) {
        self.commit_seconds.record(stopwatch.0.elapsed());
        self.commit_events.record(events as f64);
        self.appended_events.increment(events as u64);
    }

    pub(crate) fn queue(&self, requests: usize) {
        self.queue_requests.set(requests as f64);
    }
}

/// Real time, for metrics only.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "measures how long the disk takes; not part of any decision"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }
}
