//! How long to wait before a relay is asked (again) about messages whose answer was lost.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::lot::Question;

/// Pauses before the first question, the second, and so on; the last one repeats.
const PAUSES: [TimeDelta; 6] = [
    TimeDelta::seconds(1),
    TimeDelta::seconds(5),
    TimeDelta::seconds(30),
    TimeDelta::minutes(5),
    TimeDelta::minutes(30),
    TimeDelta::hours(1),
];

/// How long after it was given up a call may still come in at a relay.
pub(super) const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(30);

/// From this round on nothing is on its way any more that was handed over before: so long is the pause before it.
const LATE_ROUND: u8 = 3;

/// Whether whatever was handed over before this round came in by now, or never will: then "never came in" is believed, and
/// so is a refusal.
pub(super) fn is_late(round: u8) -> bool {
    round >= LATE_ROUND
}

/// The question that follows one of this round; 0: that follows the call itself, or a restart.
pub(super) fn question_after(round: u8, now: DateTime<Utc>) -> Question {
    let pause = PAUSES[usize::from(round).min(PAUSES.len() - 1)];
    Question { at: now + pause, round: round.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_an_hour_and_the_third_question_is_late() {
        let now = DateTime::UNIX_EPOCH;
        let after = |round| {
            let question = question_after(round, now);
            ((question.at - now).num_seconds(), question.round, is_late(question.round))
        };
        assert_eq!([0, 1, 2].map(after), [(1, 1, false), (5, 2, false), (30, 3, true)]);
        assert_eq!([3, 4, 5].map(after), [(300, 4, true), (1_800, 5, true), (3_600, 6, true)]);
        assert_eq!(after(255), (3_600, 255, true));
        assert!(question_after(LATE_ROUND - 1, now).at - now >= ON_ITS_WAY);
    }
}
