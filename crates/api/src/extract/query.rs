//! Query parameters: unknown ones are refused, as unknown fields are.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::plain::{in_words, plain};
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// The query of a request.
#[derive(Debug)]
pub struct ApiQuery<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<ApiState> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &ApiState) -> Answer<Self> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let told = rejection.body_text();
                let reason = told.strip_prefix("Failed to deserialize query string: ").unwrap_or(&told);
                Err(Problem::new(Code::InvalidParameter, format!("{}.", told_of(reason))))
            }
        }
    }
}

/// `<name>: <reason>`, or a reason that names its parameter.
fn told_of(reason: &str) -> String {
    match reason.split_once(": ") {
        Some((name, reason)) if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
            format!("The parameter {name}: {}", in_words(reason))
        }
        _ => plain(reason).replace("field", "parameter"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_named_and_nothing_of_the_program() {
        assert_eq!(
            told_of("limit: invalid digit found in string"),
            "The parameter limit: a whole number within its range is expected"
        );
        assert_eq!(
            told_of("unknown field `colour`, expected `a`"),
            "Unknown parameter `colour`, expected `a`"
        );
        assert_eq!(told_of("missing field `to`"), "The parameter `to` is missing");
    }
}
