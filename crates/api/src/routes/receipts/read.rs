//! The receipts of a genuine call. One that cannot be read is left out: refusing the whole call would make the relay
//! repeat it for ever, and the good receipts in it would be lost.

use kite_domain::objects::{self, Objects};
use kite_domain::receipt::{CODE_LENGTH_MAX, RELAY_REFERENCE_LENGTH_MAX, RawReceipt, bounded, bounded_time};
use kite_domain::slug::RelayId;
use serde::Deserialize;
use serde_json::Value;

use super::{ReceiptBody, ReceiptsBody};
use crate::extract::read_loosely;
use crate::problem::{Answer, Code, Problem};

/// The most receipts in one call.
const RECEIPTS_MAX: usize = 5_000;

/// In characters. No reference of ours is longer.
const REFERENCE_LENGTH_MAX: usize = 64;

/// What a call holds.
#[derive(Debug)]
pub(crate) struct Understood {
    /// The receipts that can be read, in the order of the call.
    pub(crate) receipts: Vec<RawReceipt>,
    /// How many cannot.
    pub(crate) left_out: LeftOut,
}

/// How many receipts of a call were left out, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LeftOut {
    /// A field is missing, has the wrong type or an unknown value.
    unreadable: usize,
    /// The reference is too long to be one of ours.
    overlong: usize,
}

impl LeftOut {
    /// All of them.
    pub(crate) fn total(self) -> usize {
        self.unreadable + self.overlong
    }

    /// Counts and logs them, if there are any. Says how many and never what they held, which may be personal.
    pub(super) fn tell(self, relay: &RelayId) {
        let total = self.total();
        if total == 0 {
            return;
        }
        metrics::counter!("kite_receipts_malformed_total", "relay" => relay.to_string())
            .increment(total as u64);
        let Self { unreadable, overlong } = self;
        tracing::warn!(%relay, unreadable, overlong, "malformed receipts were left out");
    }
}

/// A call whose receipts are read one by one.
#[derive(Deserialize)]
struct LooseBody {
    receipts: Vec<Value>,
}

/// Reads a call.
///
/// # Errors
/// The body is no JSON, has no list of receipts, or too many of them.
pub(crate) fn read(bytes: &[u8]) -> Answer<Understood> {
    let mut left_out = LeftOut::default();
    let bodies = match objects::from_slice::<ReceiptsBody>(bytes) {
        Ok(body) => few_enough(body.receipts)?,
        // Only now is the slower way worth its cost.
        Err(_) => {
            let loose = few_enough(read_loosely::<LooseBody>(bytes)?.receipts)?;
            let total = loose.len();
            let bodies: Vec<ReceiptBody> =
                loose.iter().filter_map(|value| ReceiptBody::deserialize(Objects(value)).ok()).collect();
            left_out.unreadable = total - bodies.len();
            bodies
        }
    };
    let total = bodies.len();
    let receipts: Vec<RawReceipt> = bodies.into_iter().filter_map(in_our_words).collect();
    left_out.overlong = total - receipts.len();
    Ok(Understood { receipts, left_out })
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
    use serde_json::json;

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
    fn what_cannot_be_read_is_left_out_and_the_rest_kept_in_order() {
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
        assert_eq!(understood.left_out, LeftOut { unreadable: 4, overlong: 1 });
    }

    #[test]
    fn a_list_is_no_receipt_and_no_call() {
        let listed = json!(["a", null, "delivered", "4000", "2027-01-15T08:00:05Z"]);
        let understood = read_value(&json!({ "receipts": [listed, one("b")] }));
        assert_eq!(references(&understood), ["b"]);
        assert_eq!(understood.left_out, LeftOut { unreadable: 1, overlong: 0 });
        assert!(read(b"[[]]").is_err());
    }

    #[test]
    fn a_reference_has_at_most_64_characters() {
        let (longest, too_long) = ("가".repeat(64), "가".repeat(65));
        let understood = read_value(&json!({"receipts": [one(&longest), one(&too_long)]}));
        assert_eq!(references(&understood), [longest]);
        assert_eq!(understood.left_out, LeftOut { unreadable: 0, overlong: 1 });
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
    fn bad_receipts_count_towards_the_most_in_a_call() {
        let mut receipts = vec![json!({}); RECEIPTS_MAX];
        assert_eq!(read_value(&json!({ "receipts": receipts })).left_out.unreadable, RECEIPTS_MAX);
        receipts.push(one("a"));
        let refused = read(json!({ "receipts": receipts }).to_string().as_bytes()).unwrap_err();
        assert_eq!(refused.code(), Code::BodyTooLarge);
    }
}
