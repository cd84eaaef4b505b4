//! How long to wait before a relay is asked (again) about messages whose answer was lost.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::lot::{AnswerTo, Question};
use kite_domain::sending::MessageClass;

/// Pauses before the first three questions. They are the same for all: what is believed rests on them.
const PAUSES: [TimeDelta; 3] = [TimeDelta::seconds(1), TimeDelta::seconds(5), TimeDelta::seconds(30)];
/// Pauses after those of [`urgent`]; the last one repeats.
const LATE_PAUSES: [TimeDelta; 3] = [TimeDelta::minutes(5), TimeDelta::minutes(30), TimeDelta::hours(1)];

/// How long after it was given up a call may still come in at a relay.
pub(super) const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(30);

/// From this round on nothing is on its way any more that was handed over before: so long is the pause before it.
const LATE_ROUND: u8 = 3;

/// Whether whatever was handed over before this round came in by now, or never will: then "never came in" is believed, and
/// so is a refusal.
pub(super) fn is_late(round: u8) -> bool {
    round >= LATE_ROUND
}

/// After the third question messages of a class are asked about so often, with this pause: for as long as they are worth
/// something, and no longer. A lot of questions about a lot that nobody waits for any more would only fill the log.
fn urgent(class: MessageClass) -> (u8, TimeDelta) {
    match class {
        MessageClass::Otp => (30, TimeDelta::seconds(5)),
        MessageClass::Notice => (10, TimeDelta::seconds(30)),
        MessageClass::Ad => (0, TimeDelta::zero()),
    }
}

fn pause_after(round: u8, class: MessageClass) -> TimeDelta {
    if let Some(pause) = PAUSES.get(usize::from(round)) {
        return *pause;
    }
    let late = round - LATE_ROUND;
    let (times, pause) = urgent(class);
    match late.checked_sub(times) {
        None => pause,
        Some(later) => LATE_PAUSES[usize::from(later).min(LATE_PAUSES.len() - 1)],
    }
}

/// The question that follows a call or question of this round; 0: that follows the first call, or a restart. After a call it
/// is never asked so soon that the call could still be on its way in a round in which it is believed not to be.
pub(super) fn question_after(
    answer_to: AnswerTo,
    round: u8,
    class: MessageClass,
    now: DateTime<Utc>,
) -> Question {
    let pause = pause_after(round, class);
    let pause = match answer_to {
        AnswerTo::Call if round >= LATE_ROUND - 1 => pause.max(ON_ITS_WAY),
        AnswerTo::Call | AnswerTo::Question => pause,
    };
    Question { at: now + pause, round: round.saturating_add(1) }
}

/// The round of a question that is asked before its time, which is that of one before it. A relay that is handed messages
/// over again may have been called since, so of it nothing is believed that a third question would prove.
pub(super) fn early(round: u8, deduplicates: bool) -> u8 {
    let before = round.saturating_sub(1);
    if deduplicates { before.min(LATE_ROUND - 1) } else { before }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AnswerTo::{Call, Question as Asked};
    use MessageClass::{Ad, Notice, Otp};

    fn seconds(answer_to: AnswerTo, class: MessageClass, rounds: &[u8]) -> Vec<i64> {
        let now = DateTime::UNIX_EPOCH;
        let pause = |round: &u8| (question_after(answer_to, *round, class, now).at - now).num_seconds();
        rounds.iter().map(pause).collect()
    }

    #[test]
    fn the_third_question_is_late_and_the_pauses_up_to_it_are_the_same_for_all() {
        for class in [Otp, Notice, Ad] {
            assert_eq!(seconds(Call, class, &[0, 1, 2]), [1, 5, 30]);
            assert_eq!(seconds(Asked, class, &[0, 1, 2]), [1, 5, 30]);
        }
        let round = |round| question_after(Call, round, Otp, DateTime::UNIX_EPOCH).round;
        assert_eq!([0, 1, 2, 254, 255].map(round), [1, 2, 3, 255, 255]);
        assert_eq!([1, 2, 3, 255].map(is_late), [false, false, true, true]);
        assert!(PAUSES[2] >= ON_ITS_WAY);
    }

    #[test]
    fn later_ones_follow_what_the_message_is_worth() {
        assert_eq!(seconds(Asked, Otp, &[3, 4, 32, 33, 34, 35, 255]), [5, 5, 5, 300, 1_800, 3_600, 3_600]);
        assert_eq!(seconds(Asked, Notice, &[3, 12, 13, 14, 15]), [30, 30, 300, 1_800, 3_600]);
        assert_eq!(seconds(Asked, Ad, &[3, 4, 5, 255]), [300, 1_800, 3_600, 3_600]);
    }

    #[test]
    fn after_a_repeated_call_it_is_waited_until_that_one_has_come_in() {
        assert_eq!(seconds(Call, Otp, &[2, 3, 4, 33]), [30, 30, 30, 300]);
    }

    #[test]
    fn a_question_before_its_time_counts_as_the_one_before() {
        assert_eq!([0, 1, 2, 3, 4, 9].map(|round| early(round, false)), [0, 0, 1, 2, 3, 8]);
        assert_eq!([0, 1, 2, 3, 4, 9].map(|round| early(round, true)), [0, 0, 1, 2, 2, 2]);
    }
}
