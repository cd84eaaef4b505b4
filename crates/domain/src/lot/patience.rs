//! How much longer than it asks a relay is left alone with a message that it does not take, call after call.
//!
//! Every call is in the log, before and after. A relay that says "too many", or that a greylist keeps waiting, may say so
//! for a night; called every second, it would fill the log with that. Neither does it help the relay.
//!
//! The next call is at a full multiple of the pause, by the clock: so messages that were first put off at different times
//! soon go in one call, and are one event of their lot.

use chrono::{DateTime, Utc};

/// The pause doubles after so many calls, so that a message waits about an eighth longer than the relay makes it wait.
const CALLS_A_DOUBLING: u8 = 8;
/// The longest pause is 2⁸ seconds: a good four minutes.
const DOUBLINGS_MAX: u8 = 8;

/// When to call again with a message that was called with so often. The relay wants it not to be before `asked`.
pub(super) fn next_call(asked: DateTime<Utc>, calls: u8) -> DateTime<Utc> {
    let doublings = (calls / CALLS_A_DOUBLING).min(DOUBLINGS_MAX);
    if doublings == 0 {
        return asked;
    }
    let pause_ms = 1_000_i64 << doublings;
    let pauses = asked.timestamp_millis().saturating_add(pause_ms - 1).div_euclid(pause_ms);
    DateTime::from_timestamp_millis(pauses.saturating_mul(pause_ms)).unwrap_or(asked)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_relay_that_takes_nothing_for_a_night_is_called_some_two_hundred_times() {
        let evening = DateTime::from_timestamp(1_750_000_000, 0).unwrap();
        let mut now = evening;
        let calls = (1..=u8::MAX).take_while(|calls| {
            now = next_call(now + TimeDelta::seconds(1), *calls);
            now < evening + TimeDelta::hours(11)
        });
        assert_eq!(calls.count(), 210);
    }

    proptest! {
        #[test]
        fn it_is_never_sooner_than_asked_and_at_most_a_pause_later(
            asked_ms in 0_i64..4_000_000_000_000, calls: u8,
        ) {
            let asked = DateTime::from_timestamp_millis(asked_ms).unwrap();
            let next = next_call(asked, calls);
            prop_assert!(next >= asked && next < asked + TimeDelta::seconds(256));
            prop_assert!(calls >= 8 || next == asked);
            prop_assert_eq!(next_call(next, calls), next);
        }

        #[test]
        fn whoever_was_called_with_oftener_goes_in_one_call_with_who_was_not(
            asked_ms in 0_i64..4_000_000_000_000, calls: u8, more: u8,
        ) {
            let asked = DateTime::from_timestamp_millis(asked_ms).unwrap();
            let late = next_call(asked, calls.saturating_add(more));
            prop_assert_eq!(next_call(late, calls), late);
        }
    }
}
