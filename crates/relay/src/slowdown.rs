//! Less than the agreed rate while a relay says "too many": the rate is cut by a part at each such answer, and grows
//! a little every second without one.
//!
//! A pause alone (Retry-After) would let every burst run into the same refusal again.

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

/// The agreed rate, in thousandths of itself.
const FULL: u32 = 1_000;
/// What a cut leaves of the share, in thousandths.
const LEFT_BY_CUT: u32 = 700;
/// The smallest share. A relay that refuses everything is for the breaker.
const LEAST: u32 = 50;
/// What comes back in a second.
const RECOVERY_PER_S: i64 = 20;
/// Answers to calls that were in progress when the rate was cut say nothing about the new rate.
const SETTLING: TimeDelta = TimeDelta::seconds(1);
/// A smaller change is not worth telling.
const TELLING: u32 = 10;

/// The share of its agreed rate at which a relay is called now.
#[derive(Debug)]
pub(crate) struct Slowdown(Mutex<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    /// After the last cut.
    share: u32,
    /// It grows from then on, and is not cut again until then.
    grows_from_ms: i64,
    /// What was told last; 0: nothing yet.
    told: u32,
}

impl State {
    fn share(self, now: DateTime<Utc>) -> u32 {
        let grown =
            (now.timestamp_millis() - self.grows_from_ms).max(0).saturating_mul(RECOVERY_PER_S) / 1_000;
        u32::try_from(grown).unwrap_or(FULL).saturating_add(self.share).min(FULL)
    }
}

impl Default for Slowdown {
    fn default() -> Self {
        Self(Mutex::new(State { share: FULL, grows_from_ms: i64::MIN / 2, told: 0 }))
    }
}

impl Slowdown {
    /// The relay said "too many", and wants no calls until then.
    pub(crate) fn cut(&self, now: DateTime<Utc>, until: DateTime<Utc>) {
        let mut state = self.0.lock();
        if now.timestamp_millis() < state.grows_from_ms {
            return;
        }
        state.share = (state.share(now) * LEFT_BY_CUT / FULL).max(LEAST);
        state.grows_from_ms = until.max(now + SETTLING).timestamp_millis();
    }

    /// This much of something, at the present share; at least one.
    pub(crate) fn part_of(&self, whole: u32, now: DateTime<Utc>) -> u32 {
        let part = u64::from(whole) * u64::from(self.0.lock().share(now)) / u64::from(FULL);
        u32::try_from(part).unwrap_or(whole).max(1)
    }

    /// What the agreed rate is charged for this much, so that the present share is kept.
    pub(crate) fn charge_for(&self, parts: u32, now: DateTime<Utc>) -> u32 {
        let charge = (u64::from(parts) * u64::from(FULL)).div_ceil(u64::from(self.0.lock().share(now)));
        u32::try_from(charge).unwrap_or(u32::MAX)
    }

    /// The share, if it has changed since this was last asked: 1 is the agreed rate.
    pub(crate) fn news(&self, now: DateTime<Utc>) -> Option<f64> {
        let mut state = self.0.lock();
        let share = state.share(now);
        let is_news = share.abs_diff(state.told) >= TELLING || (share == FULL && state.told != FULL);
        is_news.then(|| {
            state.told = share;
            f64::from(share) / f64::from(FULL)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn it_falls_at_once_and_comes_back_slowly() {
        let slowdown = Slowdown::default();
        assert_eq!(slowdown.part_of(1_000, at(0)), 1_000);
        slowdown.cut(at(0), at(0));
        assert_eq!(slowdown.part_of(1_000, at(1)), 700);
        assert_eq!(slowdown.part_of(1_000, at(6)), 800);
        slowdown.cut(at(6), at(6));
        assert_eq!(slowdown.part_of(1_000, at(7)), 560);
        assert_eq!(slowdown.part_of(1_000, at(60)), 1_000);
    }

    #[test]
    fn calls_under_way_and_a_pause_count_as_one_refusal() {
        let slowdown = Slowdown::default();
        for _ in 0..8 {
            slowdown.cut(at(0), at(30));
        }
        slowdown.cut(at(29), at(40));
        assert_eq!(slowdown.part_of(1_000, at(30)), 700);
    }

    #[test]
    fn it_never_stands_still() {
        let slowdown = Slowdown::default();
        for second in 0..100 {
            slowdown.cut(at(second), at(second));
        }
        assert_eq!(slowdown.part_of(1_000, at(100)), LEAST);
        assert_eq!(slowdown.part_of(3, at(100)), 1);
        assert_eq!(slowdown.charge_for(3, at(100)), 60);
    }

    #[test]
    fn a_change_is_told_once() {
        let slowdown = Slowdown::default();
        assert_eq!((slowdown.news(at(0)), slowdown.news(at(0))), (Some(1.0), None));
        slowdown.cut(at(1), at(1));
        assert_eq!((slowdown.news(at(1)), slowdown.news(at(2))), (Some(0.7), None));
        assert_eq!(slowdown.news(at(7)), Some(0.8));
        assert_eq!((slowdown.news(at(99)), slowdown.news(at(100))), (Some(1.0), None));
    }
}
