//! Reads a receipt as a relay writes it, with all care: either it is understood, or the error says what is wrong.
//! Pushed and pulled receipts have the same reader.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::{CODE_LENGTH_MAX, RELAY_REFERENCE_LENGTH_MAX, RawReceipt, ReceiptStatus, bounded, bounded_time};
use crate::not_understood::{Misread, MisreadReason};

/// No reference of ours is longer, in characters.
pub const REFERENCE_LENGTH_MAX: usize = 64;

/// A receipt in which every field is as the protocol says. The fast way to read many: if one of a list is not like
/// this, each is read separately, with [`read_receipt`].
#[derive(Debug, Deserialize)]
pub struct WrittenReceipt {
    reference: SmolStr,
    #[serde(default)]
    relay_reference: Option<SmolStr>,
    status: ReceiptStatus,
    #[serde(default)]
    code: SmolStr,
    at: DateTime<Utc>,
}

impl WrittenReceipt {
    /// The receipt; none: its reference is longer than any of ours.
    pub fn understood(self) -> Option<RawReceipt> {
        let Self { reference, relay_reference, status, code, at } = self;
        if reference.chars().nth(REFERENCE_LENGTH_MAX).is_some() {
            return None;
        }
        Some(RawReceipt {
            reference: bounded(reference, REFERENCE_LENGTH_MAX),
            relay_reference: relay_reference.map(|text| bounded(text, RELAY_REFERENCE_LENGTH_MAX)),
            status,
            code: bounded(code, CODE_LENGTH_MAX),
            at: bounded_time(at),
        })
    }
}

/// A field that is wrong, and how.
type Wrong = (Option<&'static str>, MisreadReason);

/// Reads one receipt, the `row`-th of its list.
///
/// # Errors
/// It is not a valid receipt: the first field that is wrong, and the receipt as it came.
pub fn read_receipt(row: u32, text: &str) -> Result<RawReceipt, Misread> {
    read(text).map_err(|(field, reason)| Misread {
        row: Some(row),
        field: field.map(SmolStr::new_static),
        reason,
        raw: text.to_owned(),
    })
}

fn read(text: &str) -> Result<RawReceipt, Wrong> {
    let value: Value = serde_json::from_str(text).map_err(|_| (None, MisreadReason::NoJson))?;
    let Value::Object(fields) = value else { return Err((None, MisreadReason::NoObject)) };
    let reference = text_of(&fields, "reference")?;
    if reference.chars().nth(REFERENCE_LENGTH_MAX).is_some() {
        return Err((Some("reference"), MisreadReason::TooLong));
    }
    let relay_reference = match fields.get("relay_reference") {
        None | Some(Value::Null) => None,
        Some(_) => Some(bounded(text_of(&fields, "relay_reference")?.into(), RELAY_REFERENCE_LENGTH_MAX)),
    };
    let status = text_of(&fields, "status")?;
    let status = status.parse().map_err(|_| (Some("status"), MisreadReason::UnknownWord))?;
    let code = if fields.contains_key("code") { text_of(&fields, "code")? } else { "" };
    text_of(&fields, "at")?;
    let at = DateTime::<Utc>::deserialize(&fields["at"]).map_err(|_| (Some("at"), MisreadReason::NoTime))?;
    Ok(RawReceipt {
        reference: bounded(reference.into(), REFERENCE_LENGTH_MAX),
        relay_reference,
        status,
        code: bounded(code.into(), CODE_LENGTH_MAX),
        at: bounded_time(at),
    })
}

fn text_of<'f>(fields: &'f Map<String, Value>, name: &'static str) -> Result<&'f str, Wrong> {
    let value = fields.get(name).ok_or((Some(name), MisreadReason::Missing))?;
    value.as_str().ok_or((Some(name), MisreadReason::WrongType))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(field: &str, value: Value) -> String {
        let mut receipt = json!({
            "reference": "a", "relay_reference": "R1", "status": "undelivered", "code": "3043",
            "at": "2027-01-15T17:00:05+09:00", "a field of the relay": 1,
        });
        receipt[field] = value;
        receipt.to_string()
    }

    #[test]
    fn a_receipt_is_read_field_by_field() {
        let receipt = read_receipt(0, &with("more", json!(null))).unwrap();
        assert_eq!((receipt.reference.as_str(), receipt.relay_reference.as_deref()), ("a", Some("R1")));
        assert_eq!((receipt.status, receipt.code.as_str()), (ReceiptStatus::Undelivered, "3043"));
        assert_eq!(receipt.at.to_rfc3339(), "2027-01-15T08:00:05+00:00");
        let bare = read_receipt(0, r#"{"reference":"a","status":"delivered","at":"2027-01-15T08:00:05Z"}"#);
        assert_eq!(bare.map(|receipt| (receipt.relay_reference, receipt.code)), Ok((None, "".into())));
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_is_guessed() {
        use MisreadReason::{Missing, NoJson, NoObject, NoTime, TooLong, UnknownWord, WrongType};
        let no_reference = r#"{"status":"delivered","at":"2027-01-15T08:00:05Z"}"#.to_owned();
        let cases = [
            (with("status", json!("lost in thought")), Some("status"), UnknownWord),
            (with("status", json!("Delivered")), Some("status"), UnknownWord),
            (with("status", json!(4000)), Some("status"), WrongType),
            (with("at", json!("2027-01-15T08:00:05")), Some("at"), NoTime),
            (with("at", json!("yesterday")), Some("at"), NoTime),
            (with("at", json!(null)), Some("at"), WrongType),
            (with("code", json!(3043)), Some("code"), WrongType),
            (with("reference", json!("e".repeat(65))), Some("reference"), TooLong),
            (with("relay_reference", json!([])), Some("relay_reference"), WrongType),
            (no_reference, Some("reference"), Missing),
            ("null".to_owned(), None, NoObject),
            (r#"["a",null,"delivered","4000","2027-01-15T08:00:05Z"]"#.to_owned(), None, NoObject),
            ("{".to_owned(), None, NoJson),
        ];
        for (text, field, reason) in cases {
            let misread = read_receipt(7, &text).unwrap_err();
            assert_eq!(
                (misread.row, misread.field.as_deref(), misread.reason),
                (Some(7), field, reason),
                "{text}"
            );
            assert_eq!(misread.raw, text);
        }
    }

    #[test]
    fn a_reference_has_at_most_64_characters_and_the_rest_is_cut() {
        let longest = "가".repeat(REFERENCE_LENGTH_MAX);
        assert_eq!(read_receipt(0, &with("reference", json!(longest))).unwrap().reference, longest);
        let receipt = read_receipt(0, &with("code", json!("9".repeat(100_000)))).unwrap();
        assert_eq!(receipt.code, "9".repeat(CODE_LENGTH_MAX));
    }
}
