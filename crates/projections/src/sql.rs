//! Conversions between columns and our types. Times are milliseconds since 1970, ids are 16 bytes, enums are their
//! words or their places in a list that only grows.

use chrono::{DateTime, Utc};

use crate::error::QueryError;

/// A time column.
pub(crate) fn time(milliseconds: i64) -> Result<DateTime<Utc>, QueryError> {
    DateTime::from_timestamp_millis(milliseconds).ok_or_else(|| QueryError::corrupt("a time is out of range"))
}

/// A time column that may be empty.
pub(crate) fn optional_time(milliseconds: Option<i64>) -> Result<Option<DateTime<Utc>>, QueryError> {
    milliseconds.map(time).transpose()
}

/// A value as JSON text for a column.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("our values hold only strings, numbers and string-keyed maps")
}

/// A JSON column.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, QueryError> {
    serde_json::from_str(text).map_err(QueryError::corrupt)
}

/// SQLite's numbers are signed; none of ours reaches beyond.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A limit as SQLite takes it, and one more, so that a page knows whether there is another.
pub(crate) fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1).saturating_add(1)
}
