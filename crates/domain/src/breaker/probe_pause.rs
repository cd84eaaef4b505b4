//! How soon a relay in trouble is tried again: the more urgent the waiting messages, the sooner.

use chrono::{DateTime, TimeDelta, Utc};

use crate::sending::MessageClass;

/// The shortest pause between two looks.
const PAUSE_MIN: TimeDelta = TimeDelta::seconds(1);
/// The longest pause: with nothing but advertisements waiting it is the breaker's own back-off, up to this.
const PAUSE_MAX: TimeDelta = TimeDelta::seconds(300);
/// In old trouble not even the end of a lifetime makes the pause shorter than this: among many messages one is always
/// near its end.
const PAUSE_MIN_OLD: TimeDelta = TimeDelta::seconds(5);
/// The pause is at most this part of the lifetime that is left, however short that is.
const LAST_CHANCES: i32 = 10;
/// For a long lifetime the pause may grow up to this part of what is left of it.
const PART_OF_LIFETIME: i32 = 120;
/// In long trouble the pause may grow up to this part of the time that it has lasted.
const PART_OF_TROUBLE: i32 = 20;

/// Messages of one class that wait for a relay which takes nothing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaiting {
    /// Their class.
    pub class: MessageClass,
    /// When the first of them becomes useless.
    pub expires_at: DateTime<Utc>,
}

impl Awaiting {
    /// The longest pause before a relay that has been in trouble for so long is tried again.
    ///
    /// Five seconds for one-time passwords and thirty for notices. It is longer only if their lifetime is long and
    /// the trouble has lasted, so that an outage of a night does not cause a probe every few seconds. It is shorter
    /// towards the end of a lifetime.
    pub fn pause_max(&self, troubled: TimeDelta, now: DateTime<Utc>) -> TimeDelta {
        let usual = match self.class {
            MessageClass::Otp => TimeDelta::seconds(5),
            MessageClass::Notice => TimeDelta::seconds(30),
            MessageClass::Ad => PAUSE_MAX,
        };
        let left = self.expires_at - now;
        let patient = (left / PART_OF_LIFETIME).min(troubled / PART_OF_TROUBLE);
        let least = (troubled / PART_OF_TROUBLE).clamp(PAUSE_MIN, PAUSE_MIN_OLD);
        let pause = patient.clamp(usual, PAUSE_MAX).min((left / LAST_CHANCES).max(least));
        // Whole milliseconds, which is what everybody waits in.
        TimeDelta::milliseconds(pause.num_milliseconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MessageClass::{Ad, Notice, Otp};

    /// The longest pause in seconds, for a lifetime that is left and trouble that has lasted so many seconds.
    fn pause(class: MessageClass, left_s: i64, troubled_s: i64) -> i64 {
        let now = DateTime::UNIX_EPOCH;
        let awaiting = Awaiting { class, expires_at: now + TimeDelta::seconds(left_s) };
        awaiting.pause_max(TimeDelta::seconds(troubled_s), now).num_seconds()
    }

    #[test]
    fn passwords_are_looked_after_every_five_seconds_and_notices_every_thirty() {
        assert_eq!([0, 60, 600, 86_400].map(|troubled_s| pause(Otp, 600, troubled_s)), [5, 5, 5, 5]);
        assert_eq!([0, 60, 600].map(|troubled_s| pause(Notice, 86_400, troubled_s)), [30, 30, 30]);
        assert_eq!([0, 60, 86_400].map(|troubled_s| pause(Ad, 86_400, troubled_s)), [300, 300, 300]);
    }

    #[test]
    fn the_end_of_a_lifetime_makes_it_shorter_and_never_shorter_than_a_second() {
        assert_eq!([40, 20, 10, 3, 0, -5].map(|left_s| pause(Otp, left_s, 0)), [4, 2, 1, 1, 1, 1]);
        assert_eq!(pause(Notice, 100, 3_600), 10);
        assert_eq!(pause(Ad, 600, 3_600), 60);
    }

    #[test]
    fn a_stream_of_messages_near_their_end_is_no_probe_a_second_in_old_trouble() {
        assert_eq!([0, 40, 100, 3_600].map(|troubled_s| pause(Otp, 3, troubled_s)), [1, 2, 5, 5]);
        assert_eq!(pause(Notice, 3, 3_600), 5);
    }

    #[test]
    fn a_pause_is_whole_milliseconds() {
        let awaiting =
            Awaiting { class: Otp, expires_at: DateTime::UNIX_EPOCH + TimeDelta::milliseconds(12_347) };
        let pause = awaiting.pause_max(TimeDelta::milliseconds(27_851), DateTime::UNIX_EPOCH);
        assert_eq!(pause, TimeDelta::milliseconds(1_392));
    }

    #[test]
    fn a_long_lifetime_in_a_long_trouble_is_patient() {
        assert_eq!([60, 1_200, 3_600, 36_000].map(|s| pause(Otp, 50_000, s)), [5, 60, 180, 300]);
        assert_eq!([60, 1_200, 36_000].map(|s| pause(Notice, 86_400, s)), [30, 60, 300]);
        assert_eq!(pause(Otp, 600, 36_000), 5, "a new password in an old trouble");
    }
}
