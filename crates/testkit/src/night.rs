//! A night of the test's own: hours in which no advertisement may be handed over.

use chrono::{DateTime, TimeDelta, Timelike, Utc};

/// From and until, in whole seconds as Kite's settings have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Night {
    /// Its first moment.
    pub from: DateTime<Utc>,
    /// The first moment after it.
    pub until: DateTime<Utc>,
}

impl Night {
    /// Between these times, both cut to whole seconds.
    #[must_use]
    pub fn between(from: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        let whole = |time: DateTime<Utc>| time.with_nanosecond(0).unwrap_or(time);
        Self { from: whole(from), until: whole(until) }
    }

    /// As Kite's setting has it: times of day in Seoul, nine hours ahead of UTC.
    #[must_use]
    pub fn setting(&self) -> String {
        let in_seoul = |time: DateTime<Utc>| (time + TimeDelta::hours(9)).format("%H:%M:%S");
        format!("{}-{}", in_seoul(self.from), in_seoul(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_and_the_judge_mean_the_same_moment() {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_772_366_400_000 + ms).unwrap();
        let night = Night::between(at(1_900), at(75_100));
        assert_eq!(night, Night { from: at(1_000), until: at(75_000) });
        assert_eq!(night.setting(), "21:00:01-21:01:15");
    }
}
