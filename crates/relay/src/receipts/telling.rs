//! How often a failure is logged: when it begins, then from time to time, and when it is over.

use chrono::{DateTime, TimeDelta, Utc};

/// Something that persists is reported at most this often.
const INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    since: DateTime<Utc>,
    told_at: DateTime<Utc>,
}

/// What is to be said now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// That it begins.
    Begins,
    /// It persists.
    GoesOn {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// Nothing: it was said a moment ago.
    Silent,
}

impl Telling {
    /// It goes wrong.
    pub(super) fn trouble(&mut self, now: DateTime<Utc>) -> Word {
        match &mut self.trouble {
            None => {
                self.trouble = Some(Trouble { since: now, told_at: now });
                Word::Begins
            }
            Some(trouble) if now - trouble.told_at >= INTERVAL => {
                trouble.told_at = now;
                Word::GoesOn { since: trouble.since }
            }
            Some(_) => Word::Silent,
        }
    }

    /// It works. Returns since when it did not, if that was reported.
    pub(super) fn over(&mut self) -> Option<DateTime<Utc>> {
        self.trouble.take().map(|trouble| trouble.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn a_relay_that_is_down_is_told_of_when_it_begins_and_then_once_a_minute() {
        let mut telling = Telling::default();
        let told: Vec<(i64, Word)> = (0..150)
            .map(|second| (second, telling.trouble(at(second))))
            .filter(|(_, word)| *word != Word::Silent)
            .collect();
        let goes_on = Word::GoesOn { since: at(0) };
        assert_eq!(told, [(0, Word::Begins), (60, goes_on), (120, goes_on)]);
        assert_eq!(telling.over(), Some(at(0)));
        assert_eq!(telling.over(), None, "once");
        assert_eq!(telling.trouble(at(151)), Word::Begins);
    }
}
