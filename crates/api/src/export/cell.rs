//! What stands in the cells of a table.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

/// A cell that no spreadsheet runs as a formula. A `+` is left alone before digits: it begins a number of another country.
/// So is a `-`: it begins a number.
pub(crate) fn harmless(cell: &str) -> String {
    let is_number =
        |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match cell.as_bytes().first() {
        Some(b'=' | b'@' | b'\t' | b'\r') => format!("'{cell}"),
        Some(b'+' | b'-') if !is_number(&cell[1..]) => format!("'{cell}"),
        _ => cell.to_owned(),
    }
}

/// A time in ISO 8601, UTC, to the millisecond.
pub(crate) fn time(time: impl Into<Option<DateTime<Utc>>>) -> String {
    time.into().map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default()
}

/// A value that may be missing.
pub(crate) fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A closed word as on the wire; nothing for none.
pub(crate) fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_kept_from_spreadsheets_and_numbers_are_left_alone() {
        assert_eq!(harmless("=1+1"), "'=1+1");
        assert_eq!(harmless("+cmd|x"), "'+cmd|x");
        assert_eq!(harmless("-2+3"), "'-2+3");
        assert_eq!(harmless("+"), "'+");
        assert_eq!(harmless("@sum"), "'@sum");
        assert_eq!(harmless("+14155552671"), "+14155552671");
        assert_eq!(harmless("-9000"), "-9000");
        assert_eq!(harmless("홍길동"), "홍길동");
        assert_eq!(harmless(""), "");
    }

    #[test]
    fn times_are_in_utc_to_the_millisecond_and_may_be_missing() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_007).unwrap();
        assert_eq!(time(at), "2027-01-15T08:00:00.007Z");
        assert_eq!(time(None), "");
    }
}
