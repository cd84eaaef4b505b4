//! Notices that a relay which was silent answers again. Then messages that wait for its answer need not wait for
//! their own time.

use chrono::{DateTime, TimeDelta, Utc};

use super::Observation;

/// A relay that was silent for less than this has only lost a call.
const SILENCE_MIN: TimeDelta = TimeDelta::seconds(5);

/// Since when a relay has answered nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    silent_since: Option<DateTime<Utc>>,
}

impl Recovery {
    /// Records what a call says, and returns whether the relay is back after a silence.
    pub fn observe(&mut self, observation: &Observation, now: DateTime<Utc>) -> bool {
        match observation {
            Observation::NoAnswer { .. } => {
                self.silent_since.get_or_insert(now);
                false
            }
            Observation::Answered { .. } => {
                self.silent_since.take().is_some_and(|since| now - since >= SILENCE_MIN)
            }
            Observation::Receipts { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Observation = Observation::NoAnswer { messages: 1 };
    const ANSWERED: Observation = Observation::Answered { worked: 0, faulted: 0 };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn a_relay_is_back_once_with_the_first_answer_after_a_silence() {
        let mut recovery = Recovery::default();
        assert!(!recovery.observe(&ANSWERED, at(0)));
        assert!(!recovery.observe(&LOST, at(1)) && !recovery.observe(&LOST, at(30)));
        assert!(!recovery.observe(&Observation::Receipts { worked: 9, faulted: 0 }, at(31)));
        assert!(recovery.observe(&ANSWERED, at(32)));
        assert!(!recovery.observe(&ANSWERED, at(33)));
    }

    #[test]
    fn a_lost_call_among_others_is_no_silence() {
        let mut recovery = Recovery::default();
        for second in 0..20 {
            assert!(!recovery.observe(&LOST, at(second)) && !recovery.observe(&ANSWERED, at(second + 1)));
        }
    }
}
