//! Query parameters: unknown ones are refused, as unknown fields are.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::plain::{in_words, plain};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// The query of a request.
#[derive(Debug)]
pub struct ApiQuery<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<ApiState> for ApiQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &ApiState) -> Answer<Self> {
        let raw = parts.uri.query().unwrap_or_default();
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => match empty(raw) {
                None => Ok(Self(query)),
                Some(name) => {
                    let detail = format!("The parameter {name} is empty: give it a value, or leave it out.");
                    let error = FieldError::new(name, "empty", "it is empty");
                    Err(Problem::new(Code::InvalidParameter, detail).at(error))
                }
            },
            Err(rejection) => {
                let told = rejection.body_text();
                let reason = told.strip_prefix("Failed to deserialize query string: ").unwrap_or(&told);
                let plus = if has_plus(raw, reason) { A_PLUS } else { "" };
                Err(Problem::new(Code::InvalidParameter, format!("{}{plus}.", told_of(reason))))
            }
        }
    }
}

/// Without a value these mean the same as if they were left out.
const MAY_BE_EMPTY: [&str; 1] = ["group_by"];

/// The first parameter without a value. It could mean entries without a value, or all entries: nobody can tell which
/// was meant.
fn empty(raw: &str) -> Option<&str> {
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    let mut names = pairs.filter_map(|pair| match pair.split_once('=') {
        None => Some(pair),
        Some((name, value)) => value.is_empty().then_some(name),
    });
    names.find(|name| !MAY_BE_EMPTY.contains(name))
}

const A_PLUS: &str = " (a + in an address stands for a blank: write %2B)";

/// Whether the unreadable value contains a plus sign as it was sent, as in a time with its offset.
fn has_plus(raw: &str, reason: &str) -> bool {
    let Some((name, _)) = reason.split_once(": ") else { return false };
    raw.split('&')
        .filter_map(|pair| pair.split_once('='))
        .any(|(of, value)| of == name && value.contains('+'))
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
    fn a_parameter_without_a_value_is_found() {
        assert_eq!(empty("reason="), Some("reason"));
        assert_eq!(empty("to=1&sender"), Some("sender"));
        for fine in ["", "to=1", "group_by=", "to=1&", "to=="] {
            assert_eq!(empty(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_plus_is_looked_for_in_the_value_that_could_not_be_read() {
        let reason = "from: input contains invalid characters";
        assert!(has_plus("until=1&from=2026-11-29T00:00:00+09:00", reason));
        assert!(!has_plus("text=a+b&from=yesterday", reason));
        assert!(!has_plus("from=2026-11-29T00:00:00%2B09:00", reason));
    }

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
