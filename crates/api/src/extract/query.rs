//! Query parameters: unknown ones are refused, as unknown fields are.

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
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
        read(&parts.uri, &[]).map(Self)
    }
}

/// Reads a query in two parts: the parameters that are only this list's, and those of these names, which many take.
pub(super) fn read_apart<O: DeserializeOwned, C: DeserializeOwned>(
    uri: &Uri,
    common: &[&str],
) -> Answer<(O, C)> {
    let is_common = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        common.iter().any(|common| percent_decode_str(name).eq(common.bytes()))
    };
    let pairs = uri.query().unwrap_or_default().split('&');
    let (of_common, own): (Vec<&str>, Vec<&str>) = pairs.partition(is_common);
    Ok((read(&with_query(&own)?, common)?, read(&with_query(&of_common)?, &[])?))
}

fn with_query(pairs: &[&str]) -> Answer<Uri> {
    let unreadable = |_| Problem::new(Code::InvalidParameter, "The parameters cannot be read.");
    format!("/?{}", pairs.join("&")).parse().map_err(unreadable)
}

/// Reads a query. The parameters of `further` names are known too, and read elsewhere.
fn read<T: DeserializeOwned>(uri: &Uri, further: &[&str]) -> Answer<T> {
    let raw = uri.query().unwrap_or_default();
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => match empty(raw) {
            None => Ok(query),
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
            let reason = with_further(reason, further);
            Err(Problem::new(Code::InvalidParameter, format!("{}{plus}.", told_of(&reason))))
        }
    }
}

/// Whoever is told that there is no such parameter is told all that there are.
fn with_further(reason: &str, further: &[&str]) -> String {
    let told = || {
        let (before, _) = reason.split_once("unknown field `")?;
        let (unknown, known) = match reason.rsplit_once(", expected ") {
            Some((unknown, known)) => (unknown, known),
            None => (reason.strip_suffix(", there are no fields")?, ""),
        };
        let is_at_the_begin = before.is_empty() || before.ends_with(": ");
        let known = known.split('`').skip(1).step_by(2).chain(further.iter().copied());
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        let known = match known.as_slice() {
            [one] => one.clone(),
            [one, other] => format!("{one} or {other}"),
            several => format!("one of {}", several.join(", ")),
        };
        (is_at_the_begin && !further.is_empty()).then(|| format!("{unknown}, expected {known}"))
    };
    told().unwrap_or_else(|| reason.to_owned())
}

/// Without a value these mean what they mean when they are not there.
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
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[derive(Default)]
    struct Whole {
        text: Option<String>,
        from: Option<u8>,
        cursor: Option<String>,
        limit: Option<usize>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        text: Option<String>,
        from: Option<u8>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Common {
        cursor: Option<String>,
        limit: Option<usize>,
    }

    #[test]
    fn what_is_read_apart_is_what_is_read_as_a_whole() {
        for query in [
            "",
            "text=a&limit=3",
            "limit=3&cursor=a%26b&text=a%3Db&from=7",
            "%6Cimit=3&&text=a+b",
            "colour=red",
            "limit=3&colour=red&text=a",
            "from=many",
            "limit=many&text=a",
            "limit=3&limit=4",
            "text=a&text=b",
            "text",
            "limit=",
            "from=1%2B&text=+",
            "a%60b=1",
        ] {
            let uri: Uri = format!("/v1/contacts?{query}").parse().unwrap();
            let apart = read_apart(&uri, &["cursor", "limit"]).map(|(own, common): (Own, Common)| Whole {
                text: own.text,
                from: own.from,
                cursor: common.cursor,
                limit: common.limit,
            });
            assert_eq!(apart, read(&uri, &[]), "{query}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_told_with_all_that_there_are() {
        for (own, further, known) in [
            (", there are no fields", &["cursor"][..], "`cursor`"),
            (", there are no fields", &["cursor", "limit"], "`cursor` or `limit`"),
            (", expected `text`", &["cursor"], "`text` or `cursor`"),
            (", expected one of `a`, `b`", &["c"], "one of `a`, `b`, `c`"),
        ] {
            let told = with_further(&format!("x: unknown field `x`{own}"), further);
            assert_eq!(told, format!("x: unknown field `x`, expected {known}"));
        }
        for other in ["from: unknown variant `x`, expected `a` or `b`", "from: invalid digit found in string"]
        {
            assert_eq!(with_further(other, &["cursor"]), other);
        }
    }

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
