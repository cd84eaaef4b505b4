//! What is so, and what was so a moment ago. Whoever decides reads the log, and may not have read its newest event yet.

use chrono::{DateTime, TimeDelta, Utc};
use std::cell::Cell;

/// How long news may be unknown to somebody who reads the log.
const NOTICE: TimeDelta = TimeDelta::seconds(5);
/// The same where several processes do: their clocks are off by ten seconds at most each way, and what was decided is in the log
/// after some seconds, or comes to nothing.
const NOTICE_OF_SEVERAL: TimeDelta = TimeDelta::seconds(40);

thread_local! {
    /// A case is played and checked on one thread.
    static IN_FORCE: Cell<TimeDelta> = const { Cell::new(NOTICE) };
}

/// How long news may be unknown in the case that is played.
pub(super) fn notice() -> TimeDelta {
    IN_FORCE.get()
}

/// Says whether several processes work in the case that is played now.
pub(super) fn play(is_shared: bool) {
    IN_FORCE.set(if is_shared { NOTICE_OF_SEVERAL } else { NOTICE });
}

/// A fact that changes, with what it was before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Noted<T> {
    now: T,
    /// What was so, and until when.
    before: Vec<(T, DateTime<Utc>)>,
}

impl<T> Noted<T> {
    pub(super) fn set(&mut self, value: T, at: DateTime<Utc>) {
        let before = std::mem::replace(&mut self.now, value);
        self.before.push((before, at));
    }

    pub(crate) fn now(&self) -> &T {
        &self.now
    }

    /// All that was so at some moment since then.
    fn since(&self, since: DateTime<Utc>) -> impl Iterator<Item = &T> {
        let before = self.before.iter().filter(move |(_, until)| *until >= since);
        std::iter::once(&self.now).chain(before.map(|(value, _)| value))
    }

    /// Whether somebody who decides at this time may believe it.
    pub(super) fn may(&self, at: DateTime<Utc>, is_so: impl FnMut(&T) -> bool) -> bool {
        self.since(at - notice()).any(is_so)
    }

    /// Whether whoever decides at this time must know it.
    pub(super) fn must(&self, at: DateTime<Utc>, is_so: impl FnMut(&T) -> bool) -> bool {
        self.throughout(at - notice(), is_so)
    }

    /// Whether it was so all the time since then.
    pub(super) fn throughout(&self, since: DateTime<Utc>, is_so: impl FnMut(&T) -> bool) -> bool {
        self.since(since).all(is_so)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_may_be_unknown_for_a_while_and_no_longer() {
        let at = |seconds: i64| DateTime::from_timestamp(1_000 + seconds, 0).unwrap();
        let mut noted = Noted { now: 1, before: Vec::new() };
        noted.set(2, at(0));
        assert!(noted.may(at(5), |value| *value == 1) && !noted.may(at(6), |value| *value == 1));
        assert!(!noted.must(at(5), |value| *value == 2) && noted.must(at(6), |value| *value == 2));
        assert!(noted.may(at(0), |value| *value == 2), "whoever reads at once knows");
    }
}
