//! How long to wait before a relay is asked (again) about messages whose answer was lost.

use chrono::TimeDelta;

/// Pauses before the first question, the second, and so on; the last one repeats.
const PAUSES: [TimeDelta; 6] = [
    TimeDelta::seconds(1),
    TimeDelta::seconds(5),
    TimeDelta::seconds(30),
    TimeDelta::minutes(5),
    TimeDelta::minutes(30),
    TimeDelta::hours(1),
];

/// The pause before the question of this round, from 0.
pub(crate) fn pause(round: u8) -> TimeDelta {
    PAUSES[usize::from(round).min(PAUSES.len() - 1)]
}

/// The round that comes after a pause of this length: the log keeps the pauses, not the rounds.
pub(crate) fn round_after(pause: TimeDelta) -> u8 {
    let round = PAUSES.iter().position(|known| pause <= *known).unwrap_or(PAUSES.len() - 1);
    round as u8 + u8::from(pause > TimeDelta::zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_told_from_the_pause_before_it() {
        for round in 0..6 {
            assert_eq!(round_after(pause(round)), round + 1);
        }
        assert_eq!(round_after(TimeDelta::zero()), 0, "asked at once: after a restart");
        assert_eq!(pause(200), TimeDelta::hours(1));
        assert_eq!(round_after(TimeDelta::days(3)), 6);
    }
}
