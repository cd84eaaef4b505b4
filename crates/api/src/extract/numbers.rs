//! Numbers that a caller wants back as they came.
//!
//! JSON's numbers may have any number of digits; ours have 64 bits. A number that does not fit would come back as
//! another, so it is refused, with its place. A caller that needs all digits sends a text.

use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use crate::problem::{Answer, Code, FieldError, Problem};

/// Refuses a number in this field of a JSON body, read as `value`, that would not come back the same.
pub(crate) fn refuse_inexact(bytes: &[u8], field: &str, value: Option<&Value>) -> Answer<()> {
    // Integers that fit are kept as they are.
    if !value.is_some_and(has_fraction) {
        return Ok(());
    }
    let Ok(fields) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(bytes) else { return Ok(()) };
    let found = fields.get(field).and_then(|raw| inexact(raw.get(), field.to_owned()));
    match found {
        None => Ok(()),
        Some((path, number)) => {
            let detail = format!("the number {number} cannot be kept exactly; send it as a text");
            let error = FieldError::new(&path, "number_not_exact", &detail);
            Err(Problem::new(Code::InvalidBody, format!("`{path}`: {detail}.")).at(error))
        }
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// The place and the text of the first number that is not kept.
fn inexact(raw: &str, path: String) -> Option<(String, String)> {
    match raw.trim_ascii_start().as_bytes().first()? {
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(raw).ok()?;
            fields.iter().find_map(|(name, value)| inexact(value.get(), format!("{path}.{name}")))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            items
                .iter()
                .enumerate()
                .find_map(|(place, value)| inexact(value.get(), format!("{path}[{place}]")))
        }
        b'-' | b'0'..=b'9' => {
            let kept: Value = serde_json::from_str(raw).ok()?;
            (digits(raw.trim_ascii()) != digits(&kept.to_string()))
                .then(|| (path, shortened(raw.trim_ascii())))
        }
        _ => None,
    }
}

/// A number's digits without zeros at either end, and the power of ten of the last one: the same for the same number,
/// however it is written.
fn digits(number: &str) -> (bool, String, i64) {
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX >> 1);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let trimmed = all.trim_end_matches('0');
    let dropped = (all.len() - trimmed.len()) as i64;
    let significant = trimmed.trim_start_matches('0');
    match significant.is_empty() {
        true => (false, String::new(), 0),
        false => (is_negative, significant.to_owned(), exponent - fraction.len() as i64 + dropped),
    }
}

/// At most so much of a number is said again.
const TOLD_MAX: usize = 60;

fn shortened(number: &str) -> String {
    match number.get(..TOLD_MAX) {
        Some(begin) if number.len() > TOLD_MAX => format!("{begin}…"),
        _ => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(custom: &str) -> Option<String> {
        let body = format!("{{\"custom\": {custom}}}");
        let value: Value = serde_json::from_str(custom).unwrap();
        let problem = refuse_inexact(body.as_bytes(), "custom", Some(&value)).err()?;
        assert_eq!(problem.errors()[0].code, "number_not_exact");
        Some(problem.errors()[0].field.clone())
    }

    #[test]
    fn a_number_that_would_come_back_as_another_is_refused_with_its_place() {
        let big = "123456789012345678901234567890";
        assert_eq!(refused(&format!("{{\"big\": {big}}}")).as_deref(), Some("custom.big"));
        assert_eq!(refused(&format!("{{\"a\": [1, {{\"b\": -{big}}}]}}")).as_deref(), Some("custom.a[1].b"));
        assert_eq!(refused("18446744073709551616").as_deref(), Some("custom"), "one more than 64 bits hold");
        assert_eq!(refused("0.12345678901234567890123").as_deref(), Some("custom"));
        assert_eq!(refused("[1e-400]").as_deref(), Some("custom[0]"));
    }

    #[test]
    fn a_number_that_comes_back_is_taken_however_it_is_written() {
        for number in [
            "0",
            "-0",
            "-0.0",
            "1",
            "1.5",
            "0.1",
            "1e3",
            "1E+3",
            "1.50",
            "100e-2",
            "0.000001",
            "1e300",
            "-2.5e-8",
            "18446744073709551615",
            "-9223372036854775808",
            "9007199254740993",
            "3.141592653589793",
        ] {
            assert_eq!(refused(number), None, "{number}");
        }
        assert_eq!(refused("{\"text\": \"123456789012345678901234567890\", \"rate\": 0.5}"), None);
    }

    #[test]
    fn a_number_is_said_again_as_far_as_a_line_takes_it() {
        let told = |length: usize| {
            let number = "9".repeat(length);
            let body = format!("{{\"custom\": {number}}}");
            let value: Value = serde_json::from_str(&number).unwrap();
            refuse_inexact(body.as_bytes(), "custom", Some(&value)).unwrap_err().errors()[0].detail.clone()
        };
        assert!(told(TOLD_MAX).contains(&format!("the number {} cannot", "9".repeat(TOLD_MAX))));
        assert!(told(TOLD_MAX + 1).contains(&format!("the number {}… cannot", "9".repeat(TOLD_MAX))));
    }
}
