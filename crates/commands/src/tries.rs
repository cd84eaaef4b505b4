//! Trying again when another process was faster: after growing pauses with jitter, so that the same two do not
//! collide again, and not for ever. `pauses.rs` says who waits.

use backon::{BackoffBuilder, ExponentialBuilder};
use std::time::Duration;

use crate::journal::Journal;

/// The pauses: from 2 to 400 milliseconds, 0.8 to 1.7 seconds in all. An intent has five.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(2))
    .with_max_delay(Duration::from_millis(200))
    .with_max_times(10)
    .with_jitter();

/// The tries of one change. The first costs nothing.
pub(crate) struct Tries<'j> {
    journal: &'j Journal,
    pauses: Option<<ExponentialBuilder as BackoffBuilder>::Backoff>,
}

impl<'j> Tries<'j> {
    pub(crate) fn of(journal: &'j Journal) -> Self {
        Self { journal, pauses: None }
    }

    /// Waits before the next try; false: there were enough.
    pub(crate) async fn again(&mut self) -> bool {
        // The random part of an id is a good seed, and in a simulation it is repeatable.
        let begin = || PAUSES.with_jitter_seed(self.journal.next_id().as_u64_pair().1).build();
        let Some(pause) = self.pauses.get_or_insert_with(begin).next() else { return false };
        self.journal.pauses().pause(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::pauses::Pauses;
    use async_trait::async_trait;
    use chrono::{DateTime, Utc};
    use kite_event_store::MemoryEventStore;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Default)]
    struct Noted(Mutex<Vec<Duration>>);

    #[async_trait]
    impl Pauses for Noted {
        async fn pause(&self, time: Duration) {
            self.0.lock().push(time);
        }
    }

    async fn pauses(clock: &Arc<ManualClock>) -> Vec<Duration> {
        let noted = Arc::new(Noted::default());
        let journal = Journal::new(Arc::new(MemoryEventStore::new()), clock.clone(), clock.clone())
            .with_pauses(noted.clone());
        let mut tries = Tries::of(&journal);
        while tries.again().await {}
        assert!(!tries.again().await, "enough is enough");
        std::mem::take(&mut *noted.0.lock())
    }

    #[tokio::test]
    async fn pauses_grow_differ_and_come_to_an_end() {
        let clock = Arc::new(ManualClock::at(DateTime::<Utc>::UNIX_EPOCH));
        let (one, other) = (pauses(&clock).await, pauses(&clock).await);
        assert_eq!(one.len(), 10);
        for (place, pause) in one.iter().enumerate() {
            let least = Duration::from_millis((2 << place).min(200));
            assert!((least..=least * 2).contains(pause), "{place}: {pause:?}");
        }
        assert_ne!(one, other, "two that met do not meet again");
        assert!(one.iter().sum::<Duration>() < Duration::from_secs(2));
    }
}
