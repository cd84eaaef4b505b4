//! JSON bodies: strict, and with the path of what is wrong.
//!
//! A body is first read in one pass without keeping track of paths; only one that is wrong is read again to find where.

use axum::body::Body;
use axum::extract::FromRequest;
use axum::http::Request;
use kite_domain::objects::{self, Objects};
use serde::de::DeserializeOwned;

use super::body::{media_type_is, read_body};
use super::plain::plain;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

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
    objects::from_slice(bytes).map_err(|error| explain::<T>(bytes, error))
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
    let detail = format!("{}.", plain(&message));
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
}
