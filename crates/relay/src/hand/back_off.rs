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

/// From this round on nothing is on its way any more that was handed over before: the pause before it is half a minute.
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
