//! JSON bodies: read strictly, with the path of an error.
//!
//! A body is first read in one pass without keeping track of paths; only a wrong one is read again to find the place.
//!
//! U+0000 is in no text on purpose, and not every database can store it: it is refused here, wherever in the body it
//! is. In a row of recipients it costs only that row; the reader of the row refuses it.

use axum::body::Body;
use axum::extract::FromRequest;
use axum::http::Request;
use kite_domain::strict_json::{self, Objects};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use super::body::{media_type_is, read_body};
use super::plain::plain;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// The stable word for U+0000 in a text.
pub(crate) const ZERO_CODE: &str = "character_not_allowed";
/// The same for people.
pub(crate) const ZERO_DETAIL: &str = "the text holds U+0000, which cannot be stored";
/// So many places of it are named.
const ZEROS_TOLD_MAX: usize = 20;

/// The content of these fields is never repeated, not even to its sender: answers are kept in places where secrets do
/// not belong.
const SECRET_FIELDS: [&str; 1] = ["credentials"];

/// A JSON body of an endpoint whose requests are small.
#[derive(Debug)]
pub struct ApiJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &ApiState) -> Answer<Self> {
        if !media_type_is(request.headers(), "application/json") {
            return Err(Problem::new(Code::UnsupportedMediaType, "The body must be application/json."));
        }
        let body = read_body(state, request, state.config.body_bytes_max).await?;
        read_json(&body.bytes).map(Self)
    }
}

/// Reads JSON, or says where it is wrong.
pub(crate) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let value = read_loosely(bytes)?;
    refuse_zeros(bytes)?;
    Ok(value)
}

/// [`read_json`] for callers that do the rest: U+0000 is left in.
pub(crate) fn read_loosely<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    strict_json::from_slice(bytes).map_err(|error| explain::<T>(bytes, error))
}

/// Refuses U+0000 in JSON that was read, except for the values of recipients' rows.
pub(crate) fn refuse_zeros(bytes: &[u8]) -> Answer<()> {
    // JSON can write it in one way only.
    if !bytes.split(|byte| *byte == b'\\').skip(1).any(|after| after.starts_with(b"u0000")) {
        return Ok(());
    }
    let mut fields = Vec::new();
    match serde_json::from_slice::<BTreeMap<String, &RawValue>>(bytes) {
        // What holds none is not looked into, and neither are rows: they may be large.
        Ok(values) => {
            for (name, value) in values {
                let is_asked =
                    name != "recipients" && (name.contains('\0') || value.get().contains("\\u0000"));
                if is_asked && let Ok(value) = serde_json::from_str::<Value>(value.get()) {
                    find_zeros(
                        &Value::Object([(name, value)].into_iter().collect()),
                        &mut String::new(),
                        &mut fields,
                    );
                }
            }
        }
        Err(_) => {
            let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
            find_zeros(&value, &mut String::new(), &mut fields);
        }
    }
    let errors: Vec<FieldError> = fields
        .into_iter()
        .map(|field| FieldError { row: row_of(&field), ..FieldError::new(field, ZERO_CODE, ZERO_DETAIL) })
        .collect();
    match errors.first() {
        None => Ok(()),
        Some(first) => {
            let detail = format!("`{}`: {}.", first.field, first.detail);
            Err(Problem::new(Code::InvalidBody, detail).with_errors(errors))
        }
    }
}

/// The paths of texts with U+0000, and of fields with such a name.
fn find_zeros(value: &Value, path: &mut String, found: &mut Vec<String>) {
    if found.len() >= ZEROS_TOLD_MAX {
        return;
    }
    let length = path.len();
    match value {
        Value::String(text) if text.contains('\0') => found.push(path.clone()),
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                path.push_str(&format!("[{place}]"));
                find_zeros(item, path, found);
                path.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(&name.replace('\0', "\u{fffd}"));
                if name.contains('\0') {
                    found.push(path.clone());
                }
                find_zeros(value, path, found);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn explain<T: DeserializeOwned>(bytes: &[u8], error: serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::new(Code::MalformedJson, format!("{}.", plain(&error.to_string())));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let (path, message) = match serde_path_to_error::deserialize::<_, T>(Objects(&mut deserializer)) {
        Err(located) => (located.path().to_string(), located.inner().to_string()),
        Ok(_) => (".".to_owned(), error.to_string()),
    };
    // A name that is none of those there are has no place in the path: the reason has it.
    let nameless = path.strip_suffix(".?").zip(quoted(&message, "unknown variant `"));
    let named = nameless.map(|(before, name)| join(before, name));
    let path = named.unwrap_or(path);
    let (field, code) = match quoted(&message, "missing field `") {
        Some(name) => (join(&path, name), "missing_field"),
        None => match quoted(&message, "unknown field `") {
            // The path names the unknown field already.
            Some(name) if path.rsplit('.').next() == Some(name) => (path, "unknown_field"),
            Some(name) => (join(&path, name), "unknown_field"),
            None if message.starts_with("invalid type") => (path, "wrong_type"),
            None => (path, "invalid_value"),
        },
    };
    let is_secret = SECRET_FIELDS.iter().any(|secret| field.split('.').any(|part| part == *secret));
    let detail = match code {
        "wrong_type" | "invalid_value" if is_secret => "Another kind of value is expected here.".to_owned(),
        _ => format!("{}.", plain(&message)),
    };
    let row = row_of(&field);
    let error = FieldError { row, ..FieldError::new(field, code, detail.clone()) };
    Problem::new(Code::InvalidBody, detail).at(error)
}

fn quoted<'m>(message: &'m str, before: &str) -> Option<&'m str> {
    message.strip_prefix(before)?.split('`').next()
}

fn join(path: &str, name: &str) -> String {
    if path == "." { name.to_owned() } else { format!("{path}.{name}") }
}

/// The row of a path such as `recipients[17].to`.
fn row_of(path: &str) -> Option<u32> {
    path.strip_prefix("recipients[")?.split(']').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Row {
        to: String,
        count: Option<u8>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct WithSecret {
        credentials: BTreeMap<String, String>,
    }

    #[test]
    fn a_secret_of_another_shape_is_not_told_again() {
        for (body, field) in [
            (r#"{"credentials":"s3cret"}"#, "credentials"),
            (r#"{"credentials":["s3cret"]}"#, "credentials"),
            (r#"{"credentials":{"api_key":["s3cret"]}}"#, "credentials.api_key"),
            (r#"{"credentials":{"api_key":31337}}"#, "credentials.api_key"),
        ] {
            let problem = read_json::<WithSecret>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.errors()[0].field, field);
            let told = format!("{problem:?}");
            assert!(!told.contains("s3cret") && !told.contains("31337"), "{told}");
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the shape matters")]
    struct Shape {
        text: String,
        #[serde(default)]
        recipients: Vec<Row>,
    }

    fn problem(text: &str) -> (Code, Option<u32>, String, String) {
        let problem = read_json::<Shape>(text.as_bytes()).unwrap_err();
        let error = problem.errors().first().cloned();
        let (row, field, code) =
            error.map_or((None, String::new(), String::new()), |e| (e.row, e.field, e.code));
        (problem.code(), row, field, code)
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for text in ["", "{", "{\"text\":}", "nonsense", "{\"text\":\"\u{1}\"}"] {
            assert_eq!(problem(text).0, Code::MalformedJson, "{text:?}");
        }
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        let wrong = |row, field: &str| (Code::InvalidBody, row, field.to_owned(), "wrong_type".to_owned());
        assert_eq!(problem("[\"\",[]]"), wrong(None, "."));
        assert_eq!(problem("{\"text\":\"\",\"recipients\":[[\"1\",2]]}"), wrong(Some(0), "recipients[0]"));
        assert!(read_json::<Shape>(b"{\"text\":\"\",\"recipients\":[{\"to\":\"1\",\"count\":2}]} ").is_ok());
        assert_eq!(problem("{\"text\":\"\"} {}").0, Code::MalformedJson);
    }

    #[test]
    fn what_has_another_shape_names_its_path() {
        let wrong =
            |row, field: &str, code: &str| (Code::InvalidBody, row, field.to_owned(), code.to_owned());
        assert_eq!(problem("{\"text\":1}"), wrong(None, "text", "wrong_type"));
        assert_eq!(problem("{}"), wrong(None, "text", "missing_field"));
        assert_eq!(problem("{\"text\":\"\",\"txet\":\"\"}"), wrong(None, "txet", "unknown_field"));
        assert_eq!(
            problem("{\"text\":\"\",\"recipients\":[{\"to\":\"1\"},{\"to\":2}]}"),
            wrong(Some(1), "recipients[1].to", "wrong_type")
        );
        assert_eq!(
            problem("{\"text\":\"\",\"recipients\":[{}]}"),
            wrong(Some(0), "recipients[0].to", "missing_field")
        );
        assert_eq!(
            problem("{\"text\":\"\",\"recipients\":[{\"to\":\"1\",\"count\":300}]}").3,
            "invalid_value"
        );
    }

    #[test]
    fn a_zero_is_refused_wherever_it_stands_but_in_rows() {
        let places = |body: &str| {
            let refused = read_json::<Value>(body.as_bytes()).err()?;
            assert_eq!(refused.code(), Code::InvalidBody);
            Some(refused.errors().iter().map(|error| error.field.clone()).collect::<Vec<_>>())
        };
        let body = r#"{"name":"a\u0000","list":["x",{"b\u0000":1}],"deep":{"in":[["\u0000"]]}}"#;
        let expected = ["deep.in[0][0]", "list[1].b\u{fffd}", "name"];
        let mut found = places(body).unwrap();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(places(r#"{"recipients":[{"reference":"\u0000"}]}"#), None, "that costs the row");
        assert_eq!(places(r#"{"name":"\\u0000"}"#), None, "a backslash and letters");
        assert_eq!(places(r#"{"name":"\u0001"}"#), None);
    }
}
