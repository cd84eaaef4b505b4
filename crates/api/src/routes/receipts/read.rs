//! Reads the receipts of a genuine call. One that cannot be read does not affect the others: the good ones are
//! recorded, and it is kept as it came.

use kite_domain::not_understood::{Misread, MisreadReason};
use kite_domain::receipt::{
    CODE_LENGTH_MAX, REFERENCE_LENGTH_MAX, RELAY_REFERENCE_LENGTH_MAX, RawReceipt, bounded, bounded_time,
    read_receipt,
};
use kite_domain::strict_json;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{ReceiptBody, ReceiptsBody};
use crate::extract::read_loosely;
use crate::problem::{Answer, Code, FieldError, Problem};

/// The most receipts in one call.
const RECEIPTS_MAX: usize = 5_000;

/// The most unreadable receipts that an answer names. All are kept.
const NAMED_MAX: usize = 100;

/// What a call holds.
#[derive(Debug)]
pub(crate) struct Understood {
    /// The receipts that could be read, in the order of the call.
    pub(crate) receipts: Vec<RawReceipt>,
    /// Those that are not, in the same order.
    pub(crate) misread: Vec<Misread>,
}

/// A call whose receipts are read one by one.
#[derive(Deserialize)]
struct LooseBody {
    receipts: Vec<Box<RawValue>>,
}

/// Reads a call.
///
/// # Errors
/// The body is not JSON, has no list of receipts, or too many of them.
pub(crate) fn read(bytes: &[u8]) -> Answer<Understood> {
    if let Ok(body) = strict_json::from_slice::<ReceiptsBody>(bytes) {
        let bodies = few_enough(body.receipts)?;
        if let Some(receipts) = bodies.into_iter().map(in_our_words).collect() {
            return Ok(Understood { receipts, misread: Vec::new() });
        }
    }
    // Only now is the slower way worth its cost.
    let written = few_enough(read_loosely::<LooseBody>(bytes)?.receipts)?;
    let mut understood = Understood { receipts: Vec::with_capacity(written.len()), misread: Vec::new() };
    for (row, one) in (0..).zip(&written) {
        match read_receipt(row, one.get()) {
            Ok(receipt) => understood.receipts.push(receipt),
            Err(misread) => understood.misread.push(misread),
        }
    }
    Ok(understood)
}

/// An unreadable body, as it is kept; none: it is refused for its size, and not looked at.
pub(super) fn whole(bytes: &[u8], problem: &Problem) -> Option<Misread> {
    let raw = || String::from_utf8_lossy(bytes).into_owned();
    match problem.code() {
        Code::MalformedJson => {
            Some(Misread { row: None, field: None, reason: MisreadReason::NoJson, raw: raw() })
        }
        Code::InvalidBody => {
            let field = problem.errors().first().map(|error| error.field.as_str().into());
            Some(Misread { row: None, field, reason: MisreadReason::WrongType, raw: raw() })
        }
        _ => None,
    }
}

/// What tells a body from every other.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The answer to a call with unreadable receipts.
pub(super) fn not_understood(recorded: usize, misread: &[Misread]) -> Problem {
    let error = |one: &Misread| {
        let field = one.field.as_deref().unwrap_or("receipts");
        let error = FieldError::new(field, one.reason.as_str(), one.reason.to_string());
        match one.row {
            Some(row) => error.in_row(row),
            None => error,
        }
    };
    let total = misread.len();
    let named = if total > NAMED_MAX { format!(" The first {NAMED_MAX} are named.") } else { String::new() };
    let detail = format!("{total} receipts were not understood, {recorded} others are recorded.{named}");
    Problem::new(Code::ReceiptsNotUnderstood, detail)
        .with_errors(misread.iter().take(NAMED_MAX).map(error).collect())
}

fn few_enough<T>(receipts: Vec<T>) -> Answer<Vec<T>> {
    if receipts.len() > RECEIPTS_MAX {
        let detail = format!("One call may hold at most {RECEIPTS_MAX} receipts.");
        return Err(Problem::new(Code::BodyTooLarge, detail));
    }
    Ok(receipts)
}

/// Nothing for a reference that is too long.
fn in_our_words(receipt: ReceiptBody) -> Option<RawReceipt> {
    let ReceiptBody { reference, relay_reference, status, code, at } = receipt;
    if reference.chars().nth(REFERENCE_LENGTH_MAX).is_some() {
        return None;
    }
    let relay_reference = relay_reference.map(|text| bounded(text, RELAY_REFERENCE_LENGTH_MAX));
    Some(RawReceipt {
        reference: bounded(reference, REFERENCE_LENGTH_MAX),
        relay_reference,
        status: status.into(),
        code: bounded(code, CODE_LENGTH_MAX),
        at: bounded_time(at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn one(reference: &str) -> Value {
        json!({"reference": reference, "status": "undelivered", "code": "3043", "at": "2027-01-15T08:00:05Z"})
    }

    fn read_value(body: &Value) -> Understood {
        read(body.to_string().as_bytes()).unwrap()
    }

    fn references(understood: &Understood) -> Vec<&str> {
        understood.receipts.iter().map(|receipt| receipt.reference.as_str()).collect()
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_rest_kept_in_order() {
        let mut unknown_status = one("b");
        unknown_status["status"] = json!("lost in thought");
        let mut no_time = one("c");
        no_time.as_object_mut().unwrap().remove("at");
        let mut wrong_type = one("d");
        wrong_type["reference"] = json!(4);
        let long = one(&"e".repeat(65));
        let all = [one("a"), unknown_status, no_time, wrong_type, json!(null), long, one("f")];
        let understood = read_value(&json!({ "receipts": all }));
        assert_eq!(references(&understood), ["a", "f"]);
        let misread: Vec<_> =
            understood.misread.iter().map(|one| (one.row, one.field.as_deref(), one.reason)).collect();
        let expected = [
            (Some(1), Some("status"), MisreadReason::UnknownWord),
            (Some(2), Some("at"), MisreadReason::Missing),
            (Some(3), Some("reference"), MisreadReason::WrongType),
            (Some(4), None, MisreadReason::NoObject),
            (Some(5), Some("reference"), MisreadReason::TooLong),
        ];
        assert_eq!(misread, expected);
    }

    #[test]
    fn a_list_is_no_receipt_and_no_call() {
        let listed = json!(["a", null, "delivered", "4000", "2027-01-15T08:00:05Z"]);
        let understood = read_value(&json!({ "receipts": [listed, one("b")] }));
        assert_eq!(references(&understood), ["b"]);
        assert_eq!((understood.misread.len(), understood.misread[0].reason), (1, MisreadReason::NoObject));
        assert!(read(b"[[]]").is_err());
    }

    #[test]
    fn a_reference_has_at_most_64_characters() {
        let (longest, too_long) = ("가".repeat(64), "가".repeat(65));
        let understood = read_value(&json!({"receipts": [one(&longest), one(&too_long)]}));
        assert_eq!(references(&understood), [longest]);
        assert_eq!((understood.misread.len(), understood.misread[0].reason), (1, MisreadReason::TooLong));
    }

    #[test]
    fn a_long_code_and_a_long_reference_of_the_relay_are_cut() {
        let mut receipt = one("a");
        receipt["code"] = json!("9".repeat(100_000));
        receipt["relay_reference"] = json!("r".repeat(100_000));
        let understood = read_value(&json!({ "receipts": [receipt] }));
        let receipt = &understood.receipts[0];
        assert_eq!(receipt.code, "9".repeat(CODE_LENGTH_MAX));
        assert_eq!(receipt.relay_reference.as_deref(), Some(&*"r".repeat(RELAY_REFERENCE_LENGTH_MAX)));
    }

    #[test]
    fn a_zero_is_replaced_and_a_clock_beyond_the_calendar_is_brought_back() {
        let mut receipt = one("a");
        receipt["code"] = json!("30\u{0}43");
        receipt["at"] = json!("+12345-01-15T08:00:05Z");
        let understood = read_value(&json!({ "receipts": [receipt] }));
        let receipt = &understood.receipts[0];
        assert_eq!(receipt.code, "30\u{fffd}43");
        assert_eq!(receipt.at.to_rfc3339(), "9999-12-31T23:59:59+00:00");
    }

    #[test]
    fn what_is_not_understood_is_given_back_byte_by_byte() {
        let body = br#"{"receipts":[ {"status" : "lost\u0000",  "reference":"a"} ]}"#;
        let understood = read(body).unwrap();
        assert_eq!(understood.misread[0].raw, r#"{"status" : "lost\u0000",  "reference":"a"}"#);
    }

    #[test]
    fn an_answer_names_row_and_field_of_the_first_hundred() {
        let understood = read_value(&json!({ "receipts": vec![json!({}); 101] }));
        let problem = not_understood(0, &understood.misread);
        assert_eq!((problem.code(), problem.errors().len()), (Code::ReceiptsNotUnderstood, NAMED_MAX));
        let last = &problem.errors()[99];
        assert_eq!((last.row, last.field.as_str(), last.code.as_str()), (Some(99), "reference", "missing"));
    }

    #[test]
    fn bad_receipts_count_towards_the_most_in_a_call() {
        let mut receipts = vec![json!({}); RECEIPTS_MAX];
        assert_eq!(read_value(&json!({ "receipts": receipts })).misread.len(), RECEIPTS_MAX);
        receipts.push(one("a"));
        let refused = read(json!({ "receipts": receipts }).to_string().as_bytes()).unwrap_err();
        assert_eq!(refused.code(), Code::BodyTooLarge);
    }
}
