//! The calls to a relay: how many are in progress at once, and how long it was called in all.

use std::collections::BTreeMap;

/// How long it was called, all calls together.
#[derive(Debug, Default)]
pub(super) struct Calls {
    under_way: i64,
    /// Until when each of them is waited for.
    waited_for: BTreeMap<u64, i64>,
    begun: u64,
    /// Until then it is counted.
    until_ms: i64,
    pub(super) total_ms: i64,
}

impl Calls {
    pub(super) fn count(&mut self, change: i64, now_ms: i64) {
        self.total_ms += self.under_way * (now_ms - self.until_ms);
        self.until_ms = now_ms;
        self.under_way += change;
    }

    /// One begins. Answers its number.
    pub(super) fn begin(&mut self, now_ms: i64, timeout_ms: i64) -> u64 {
        self.count(1, now_ms);
        self.begun += 1;
        self.waited_for.insert(self.begun, now_ms + timeout_ms);
        self.begun
    }

    pub(super) fn end(&mut self, number: u64, now_ms: i64) {
        self.count(-1, now_ms);
        self.waited_for.remove(&number);
    }

    pub(super) fn at_once(&self, now_ms: i64) -> usize {
        self.waited_for.values().filter(|until_ms| **until_ms > now_ms).count()
    }
}
