//! What is in the cells of a table.

use chrono::{DateTime, SecondsFormat, Utc};
use std::borrow::Cow;

/// A cell that no spreadsheet runs as a formula: a `'` is put before a text that begins like one. A `+` or `-` before
/// digits is left alone, because it begins a number. A text that already has such a `'` gets one more, so that
/// [`as_given`] removes only ours.
pub(crate) fn harmless(cell: &str) -> Cow<'_, str> {
    if is_formula(cell.trim_start_matches('\'')) { format!("'{cell}").into() } else { cell.into() }
}

/// A cell without what [`harmless`] has put before it.
pub(crate) fn as_given(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| is_formula(rest.trim_start_matches('\''))).unwrap_or(cell)
}

/// East Asian spreadsheets accept full-width signs for the plain ones, and some skip a tab or a line break before
/// them.
fn is_formula(cell: &str) -> bool {
    let mut rest = cell.chars();
    match rest.next() {
        Some('=' | '@' | '＝' | '＠' | '＋' | '－' | '\t' | '\r' | '\n') => true,
        Some('+' | '-') => !is_number(rest.as_str()),
        _ => false,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A time in ISO 8601, UTC, to the millisecond.
pub(crate) fn time(time: impl Into<Option<DateTime<Utc>>>) -> String {
    time.into().map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default()
}

/// A value that may be missing.
pub(crate) fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_kept_from_spreadsheets_and_numbers_are_left_alone() {
        for formula in [
            "=1+1", "+cmd|x", "-2+3", "-5%", "+", "-", "@sum", "＝1+1", "＋1", "－1", "＠sum", "\t=1",
            "\r=1", "\n=1",
        ] {
            assert_eq!(harmless(formula), format!("'{formula}"));
        }
        for harmless_already in ["+14155552671", "-9000", "-0.5", "홍길동", "a=b", "'tis", ""] {
            assert_eq!(harmless(harmless_already), harmless_already);
        }
    }

    #[test]
    fn what_was_kept_from_spreadsheets_is_read_as_it_was() {
        for cell in
            ["=1+1", "'=1+1", "''＝1", "-5%", "@home", "+cmd|x", "+14155552671", "'tis", "", "'", "''"]
        {
            assert_eq!(as_given(&harmless(cell)), cell);
        }
    }

    #[test]
    fn times_are_in_utc_to_the_millisecond_and_may_be_missing() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_007).unwrap();
        assert_eq!(time(at), "2027-01-15T08:00:00.007Z");
        assert_eq!(time(None), "");
    }
}
