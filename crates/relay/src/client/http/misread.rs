//! Finds what in a relay's answer could not be read. Called only if something could not.

use chrono::DateTime;
use kite_domain::not_understood::{Misread, MisreadReason, SaidHow};
use kite_domain::strict_json;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use smol_str::SmolStr;

#[derive(Deserialize)]
struct Results {
    results: Vec<Box<RawValue>>,
}

/// The results that could not be read, each as it came; or the whole answer, if it is not even a list of results, or
/// if nothing else explains the failure.
pub(super) fn of_results(body: &[u8], how: SaidHow, is_readable: bool) -> Vec<Misread> {
    let results = match strict_json::from_slice::<Results>(body) {
        Ok(Results { results }) => results,
        Err(error) => return vec![whole(body, &error, "results")],
    };
    let one = |(row, result): (u32, &RawValue)| {
        let (field, reason) = wrong(result.get(), how)?;
        let field = field.map(SmolStr::new_static);
        Some(Misread { row: Some(row), field, reason, raw: result.get().to_owned() })
    };
    let found: Vec<Misread> = (0..).zip(results.iter().map(AsRef::as_ref)).filter_map(one).collect();
    if found.is_empty() && !is_readable {
        let raw = String::from_utf8_lossy(body).into_owned();
        return vec![Misread {
            row: None,
            field: Some("results".into()),
            reason: MisreadReason::WrongType,
            raw,
        }];
    }
    found
}

/// An answer that could not be read at all, and the list that it was to hold.
pub(super) fn whole(body: &[u8], error: &serde_json::Error, list: &'static str) -> Misread {
    let raw = String::from_utf8_lossy(body).into_owned();
    let (field, reason) = match error.is_data() {
        true => (Some(SmolStr::new_static(list)), MisreadReason::WrongType),
        false => (None, MisreadReason::NoJson),
    };
    Misread { row: None, field, reason, raw }
}

/// The first field of a result that is wrong, and how.
fn wrong(result: &str, how: SaidHow) -> Option<(Option<&'static str>, MisreadReason)> {
    let Ok(value) = serde_json::from_str::<Value>(result) else { return Some((None, MisreadReason::NoJson)) };
    let Value::Object(fields) = value else { return Some((None, MisreadReason::NoObject)) };
    if let Err(wrong) = text_of(&fields, "reference") {
        return Some(wrong);
    }
    let status = match text_of(&fields, "status") {
        Ok(status) => status,
        Err(wrong) => return Some(wrong),
    };
    let (words, is_asked): (&[&str], bool) = match how {
        SaidHow::Answered => (&["not_found", "accepted", "delivered", "undelivered", "refused"], true),
        SaidHow::Responded | SaidHow::Pushed | SaidHow::Pulled => {
            (&["accepted", "refused", "deferred"], false)
        }
    };
    if !words.contains(&status) {
        return Some((Some("status"), MisreadReason::UnknownWord));
    }
    let is_over = is_asked && matches!(status, "delivered" | "undelivered");
    let at = fields.get("at").and_then(Value::as_str);
    if is_over && at.is_some_and(|at| DateTime::parse_from_rfc3339(at).is_err()) {
        return Some((Some("at"), MisreadReason::NoTime));
    }
    let is_text = |name: &&str| fields.get(*name).is_none_or(|value| value.is_string() || value.is_null());
    let texts = ["relay_reference", "code", "reason", "at"];
    texts.into_iter().find(|name| !is_text(name)).map(|name| (Some(name), MisreadReason::WrongType))
}

fn text_of<'f>(
    fields: &'f Map<String, Value>,
    name: &'static str,
) -> Result<&'f str, (Option<&'static str>, MisreadReason)> {
    let value = fields.get(name).ok_or((Some(name), MisreadReason::Missing))?;
    value.as_str().ok_or((Some(name), MisreadReason::WrongType))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str, how: SaidHow) -> Vec<(Option<u32>, Option<String>, MisreadReason)> {
        let seen = of_results(body.as_bytes(), how, false);
        seen.into_iter().map(|one| (one.row, one.field.map(String::from), one.reason)).collect()
    }

    #[test]
    fn the_result_that_is_not_understood_is_named_and_no_other() {
        let body = r#"{"results":[{"reference":"a","status":"accepted"},{"reference":"b","status":"perhaps"},
            {"reference":"c","status":"accepted","code":5},7]}"#;
        let status = (Some(1), Some("status".to_owned()), MisreadReason::UnknownWord);
        let code = (Some(2), Some("code".to_owned()), MisreadReason::WrongType);
        let seven = (Some(3), None, MisreadReason::NoObject);
        assert_eq!(found(body, SaidHow::Responded), [status, code, seven]);
        let raws = of_results(body.as_bytes(), SaidHow::Responded, false);
        assert_eq!(raws[0].raw, r#"{"reference":"b","status":"perhaps"}"#);
    }

    #[test]
    fn a_word_belongs_to_one_kind_of_answer() {
        let body = r#"{"results":[{"reference":"a","status":"delivered","at":"2027-01-15T08:00:05"}]}"#;
        let status = (Some(0), Some("status".to_owned()), MisreadReason::UnknownWord);
        assert_eq!(found(body, SaidHow::Responded), [status]);
        let at = (Some(0), Some("at".to_owned()), MisreadReason::NoTime);
        assert_eq!(found(body, SaidHow::Answered), [at]);
    }

    #[test]
    fn an_answer_that_cannot_be_read_at_all_is_kept_as_a_whole() {
        assert_eq!(found("<html>", SaidHow::Responded), [(None, None, MisreadReason::NoJson)]);
        let results = Some("results".to_owned());
        assert_eq!(found("{}", SaidHow::Responded), [(None, results.clone(), MisreadReason::WrongType)]);
        let strange = r#"{"results":[{"reference":"a","status":"accepted","duplicate":"yes"}]}"#;
        assert_eq!(found(strange, SaidHow::Responded), [(None, results, MisreadReason::WrongType)]);
    }
}
