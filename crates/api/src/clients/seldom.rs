//! A log line that anybody could cause as often as they like is written only once in a while, with the number of
//! times that it was due.

use std::sync::atomic::{AtomicU64, Ordering};

/// Between two lines, in milliseconds.
const INTERVAL_MS: u64 = 10_000;

/// When the last line was written, and what came since.
#[derive(Debug, Default)]
pub struct Seldom {
    next_ms: AtomicU64,
    occasions: AtomicU64,
}

impl Seldom {
    /// Counts an occasion at a time in milliseconds. If a line is due: how many occasions it stands for.
    pub fn due(&self, now_ms: u64) -> Option<u64> {
        self.due_for(1, now_ms)
    }

    /// Counts several occasions at once.
    pub fn due_for(&self, occasions: u64, now_ms: u64) -> Option<u64> {
        self.occasions.fetch_add(occasions, Ordering::Relaxed);
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        if now_ms < next_ms {
            return None;
        }
        let is_ours = self
            .next_ms
            .compare_exchange(next_ms, now_ms + INTERVAL_MS, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        is_ours.then(|| self.occasions.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_with_all_that_came_since() {
        let seldom = Seldom::default();
        assert_eq!(seldom.due(5), Some(1));
        assert!((6..1_000).all(|now_ms| seldom.due(now_ms).is_none()));
        assert_eq!(seldom.due(5 + INTERVAL_MS), Some(995));
    }
}
