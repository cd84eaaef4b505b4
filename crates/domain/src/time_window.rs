//! The hours in which advertisements may not be sent, and the days and hours of Seoul.
//!
//! 정보통신망법 제50조 forbids advertisements between 21:00 and 08:00 without a separate consent. Some relays
//! and channels are stricter, so a window is data. 21:00:00 counts as inside and 08:00:00 as outside.
//!
//! Seoul is UTC+9 without summer time since 9 October 1988, before any message here was sent, so the arithmetic
//! is that of a fixed offset: a division, fast enough for every message at hand-over. A test compares it with
//! the time zone database.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

const SECONDS_OF_DAY: i64 = 86_400;
const SEOUL_OFFSET_SECONDS: i64 = 9 * 3_600;

/// A daily span of Seoul time in which something is forbidden: from `start` up to, but not including, `end`. It may
/// span midnight. As text, and as JSON: `21:00-08:00`, with seconds if they are not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NightWindow {
    start_second: u32,
    end_second: u32,
}

/// Why a text or a pair of times is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NightWindowError {
    /// Not of the form `21:00-08:00`.
    #[error("{text:?} is not a window such as 21:00-08:00")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// It would be empty or the whole day, and nothing says which.
    #[error("a window must not end when it starts ({time})")]
    EndIsStart {
        /// The time given twice.
        time: NaiveTime,
    },
}

impl Default for NightWindow {
    /// The window of the law.
    fn default() -> Self {
        Self { start_second: 21 * 3_600, end_second: 8 * 3_600 }
    }
}

impl NightWindow {
    /// A window from `start` up to, but not including, `end`, both Seoul time in whole seconds.
    ///
    /// # Errors
    /// If both are the same.
    pub fn new(start: NaiveTime, end: NaiveTime) -> Result<Self, NightWindowError> {
        let window = Self {
            start_second: start.num_seconds_from_midnight(),
            end_second: end.num_seconds_from_midnight(),
        };
        if window.start_second == window.end_second {
            return Err(NightWindowError::EndIsStart { time: start });
        }
        Ok(window)
    }

    /// Reads `21:00-08:00` or `21:00:00-08:00:00`.
    ///
    /// # Errors
    /// If it is not of that form, or ends when it starts.
    pub fn parse(text: &str) -> Result<Self, NightWindowError> {
        let malformed = || NightWindowError::Malformed { text: text.to_owned() };
        let (start, end) = text.split_once('-').ok_or_else(malformed)?;
        let start = parse_time(start.trim()).ok_or_else(malformed)?;
        let end = parse_time(end.trim()).ok_or_else(malformed)?;
        Self::new(start, end)
    }

    /// When it starts, in Seoul time.
    #[must_use]
    pub fn start(&self) -> NaiveTime {
        time_of(self.start_second)
    }

    /// When it ends, in Seoul time.
    #[must_use]
    pub fn end(&self) -> NaiveTime {
        time_of(self.end_second)
    }

    /// Whether `at` is inside the window.
    #[must_use]
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        let second = second_of_seoul_day(at);
        if self.start_second <= self.end_second {
            (self.start_second..self.end_second).contains(&second)
        } else {
            second >= self.start_second || second < self.end_second
        }
    }

    /// The first moment at or after `at` that is outside the window: `at` itself, or the end of the window.
    #[must_use]
    pub fn next_open(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        if !self.contains(at) {
            return at;
        }
        let until_end =
            (i64::from(self.end_second) - i64::from(second_of_seoul_day(at))).rem_euclid(SECONDS_OF_DAY);
        // Only the last day that a date can express has no end of its window.
        DateTime::from_timestamp(at.timestamp() + until_end, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// When a message that waited for the window to open is sent: somewhere from `open` up to, but not
    /// including, `open` + `spread`, so that not all of them go in the same second.
    ///
    /// The moment depends only on the arguments: the same `key`, such as a hash of the message id, gives the
    /// same moment on every node and after every restart. A spread that would reach the next window is shortened.
    #[must_use]
    pub fn spread_after_open(&self, open: DateTime<Utc>, key: u64, spread: Duration) -> DateTime<Utc> {
        let until_start = (i64::from(self.start_second) - i64::from(second_of_seoul_day(open)))
            .rem_euclid(SECONDS_OF_DAY)
            .unsigned_abs();
        let room_ms = (until_start * 1_000).saturating_sub(u64::from(open.timestamp_subsec_millis()));
        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).min(room_ms);
        let offset_ms = ((u128::from(mixed(key)) * u128::from(spread_ms)) >> 64) as i64;
        open.checked_add_signed(TimeDelta::milliseconds(offset_ms)).unwrap_or(open)
    }
}

/// Spreads neighbouring keys over all 64 bits (the finaliser of SplitMix64). Fixed for ever: a change would
/// move messages that already wait.
fn mixed(key: u64) -> u64 {
    let mut bits = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn parse_time(text: &str) -> Option<NaiveTime> {
    NaiveTime::parse_from_str(text, "%H:%M:%S").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M")).ok()
}

fn time_of(second: u32) -> NaiveTime {
    NaiveTime::from_num_seconds_from_midnight_opt(second, 0).unwrap_or(NaiveTime::MIN)
}

impl fmt::Display for NightWindow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_seconds = !self.start_second.is_multiple_of(60) || !self.end_second.is_multiple_of(60);
        let format = if has_seconds { "%H:%M:%S" } else { "%H:%M" };
        write!(formatter, "{}-{}", self.start().format(format), self.end().format(format))
    }
}

impl std::str::FromStr for NightWindow {
    type Err = NightWindowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for NightWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NightWindow {
    /// The form of a window is not a rule that could become stricter, so this checks.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn second_of_seoul_day(at: DateTime<Utc>) -> u32 {
    (at.timestamp() + SEOUL_OFFSET_SECONDS).rem_euclid(SECONDS_OF_DAY) as u32
}

/// The day in Seoul.
#[must_use]
pub fn seoul_day(at: DateTime<Utc>) -> NaiveDate {
    at.naive_utc()
        .checked_add_signed(TimeDelta::seconds(SEOUL_OFFSET_SECONDS))
        .map_or(NaiveDate::MAX, |seoul| seoul.date())
}

/// The hour of the day in Seoul, from 0 to 23.
#[must_use]
pub fn seoul_hour(at: DateTime<Utc>) -> u32 {
    second_of_seoul_day(at) / 3_600
}

/// The moment at which a day begins in Seoul.
#[must_use]
pub fn seoul_day_start(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN)
        .checked_sub_signed(TimeDelta::seconds(SEOUL_OFFSET_SECONDS))
        .map_or(DateTime::<Utc>::MIN_UTC, |utc| utc.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use proptest::prelude::*;

    fn seoul(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(&format!("{text}+09:00")).unwrap().to_utc()
    }

    #[test]
    fn the_window_starts_at_21_00_00_and_has_ended_at_08_00_00() {
        let window = NightWindow::default();
        let cases = [
            ("2025-03-01T20:59:59.999", false),
            ("2025-03-01T21:00:00", true),
            ("2025-03-01T23:59:59.999", true),
            ("2025-03-02T00:00:00", true),
            ("2025-03-02T07:59:59.999", true),
            ("2025-03-02T08:00:00", false),
            ("2025-03-02T12:00:00", false),
        ];
        for (at, inside) in cases {
            assert_eq!(window.contains(seoul(at)), inside, "{at}");
        }
    }

    #[test]
    fn it_opens_at_the_end_or_is_open() {
        let window = NightWindow::default();
        let cases = [
            ("2025-03-01T20:59:59.999", "2025-03-01T20:59:59.999"),
            ("2025-03-01T21:00:00", "2025-03-02T08:00:00"),
            ("2024-12-31T23:59:59.5", "2025-01-01T08:00:00"),
            ("2025-03-02T00:00:00", "2025-03-02T08:00:00"),
            ("2025-03-02T07:59:59.999", "2025-03-02T08:00:00"),
            ("2025-03-02T08:00:00", "2025-03-02T08:00:00"),
        ];
        for (at, open) in cases {
            assert_eq!(window.next_open(seoul(at)), seoul(open), "{at}");
        }
    }

    #[test]
    fn a_window_is_data() {
        let kakao: NightWindow = serde_json::from_str("\"20:50-08:00\"").unwrap();
        assert!(kakao.contains(seoul("2025-03-01T20:50:00")));
        assert!(!kakao.contains(seoul("2025-03-01T20:49:59")));
        assert_eq!(serde_json::to_string(&kakao).unwrap(), "\"20:50-08:00\"");
        assert_eq!(NightWindow::parse("20:50:30 - 08:00").unwrap().to_string(), "20:50:30-08:00:00");
        let lunch = NightWindow::parse("12:00-13:00").unwrap();
        assert!(
            lunch.contains(seoul("2025-03-01T12:30:00")) && !lunch.contains(seoul("2025-03-01T13:00:00"))
        );
        for text in ["", "21:00", "21-8", "24:00-08:00", "21:00-08:00-09:00"] {
            assert!(matches!(NightWindow::parse(text), Err(NightWindowError::Malformed { .. })), "{text}");
        }
        assert!(matches!(NightWindow::parse("08:00-08:00"), Err(NightWindowError::EndIsStart { .. })));
    }

    #[test]
    fn held_messages_are_spread_evenly_and_for_ever_alike() {
        let window = NightWindow::default();
        let open = seoul("2025-03-02T08:00:00");
        let spread = Duration::from_secs(600);
        let mut per_minute = [0; 10];
        for key in 0..10_000 {
            let at = window.spread_after_open(open, key, spread);
            per_minute[(at - open).num_minutes() as usize] += 1;
        }
        assert!(per_minute.iter().all(|count| (900..1_100).contains(count)), "{per_minute:?}");
        // Messages wait under these moments: they must never move.
        let offset = |key| (window.spread_after_open(open, key, spread) - open).num_milliseconds();
        assert_eq!([offset(0), offset(1), offset(2)], [529_986, 339_936, 354_713]);
    }

    #[test]
    fn days_and_hours_are_those_of_seoul() {
        let at = Utc.with_ymd_and_hms(2025, 2, 28, 15, 0, 0).unwrap();
        assert_eq!(seoul_day(at), NaiveDate::from_ymd_opt(2025, 3, 1).unwrap());
        assert_eq!(seoul_hour(at), 0);
        assert_eq!(seoul_day_start(seoul_day(at)), at);
        assert_eq!(seoul_hour(at - TimeDelta::milliseconds(1)), 23);
        assert_eq!(seoul_day(DateTime::<Utc>::MAX_UTC), NaiveDate::MAX);
    }

    fn any_moment() -> impl Strategy<Value = DateTime<Utc>> {
        // From 1990 to 2100, in milliseconds.
        (631_152_000_000_i64..4_102_444_800_000).prop_map(|ms| DateTime::from_timestamp_millis(ms).unwrap())
    }

    fn any_window() -> impl Strategy<Value = NightWindow> {
        (0..86_400_u32, 0..86_400_u32)
            .prop_filter("a window has a length", |(start, end)| start != end)
            .prop_map(|(start_second, end_second)| NightWindow { start_second, end_second })
    }

    proptest! {
        #[test]
        fn seoul_is_as_in_the_time_zone_database(at in any_moment()) {
            let there = at.with_timezone(&chrono_tz::Asia::Seoul);
            prop_assert_eq!(seoul_day(at), there.date_naive());
            prop_assert_eq!(seoul_hour(at), there.hour());
        }

        #[test]
        fn the_next_opening_is_outside_and_the_moment_before_is_inside(window in any_window(), at in any_moment()) {
            let open = window.next_open(at);
            prop_assert!(!window.contains(open));
            prop_assert!(open >= at);
            if open > at {
                prop_assert!(window.contains(at));
                prop_assert!(window.contains(open - TimeDelta::milliseconds(1)));
                prop_assert!(open - at <= TimeDelta::days(1));
            }
        }

        #[test]
        fn spreading_never_leads_into_a_window(
            window in any_window(),
            at in any_moment(),
            key in any::<u64>(),
            spread_ms in 0..200_000_000_u64,
        ) {
            let open = window.next_open(at);
            let sent = window.spread_after_open(open, key, Duration::from_millis(spread_ms));
            prop_assert!(sent >= open);
            prop_assert!(sent < open + TimeDelta::milliseconds(spread_ms.max(1) as i64));
            prop_assert!(!window.contains(sent), "{} {} {}", window, open, sent);
        }

        #[test]
        fn a_window_is_read_back_from_its_text(window in any_window()) {
            prop_assert_eq!(NightWindow::parse(&window.to_string()), Ok(window));
        }

        #[test]
        fn no_moment_panics(seconds in any::<i64>(), key in any::<u64>()) {
            let bounded = seconds.rem_euclid(8_000_000_000_000);
            if let Some(at) = DateTime::from_timestamp(bounded, 0) {
                let window = NightWindow::default();
                let open = window.next_open(at);
                let _ = (window.spread_after_open(open, key, Duration::MAX), seoul_day(at), seoul_hour(at));
            }
        }
    }
}
