//! `PUT`, `DELETE /v1/admin/relays/{relay}/codes/{code}`: the operator's class for a code of one relay

use axum::extract::State;
use kite_domain::receipt::CODE_LENGTH_MAX;
use kite_domain::relay::{CodeClassed, CodeUnclassed, RelayEntry};
use kite_domain::slug::RelayId;
use kite_projections::UnclassifiedCode;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::ToSchema;

use super::{relay_of, relay_problem};
use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::lengths::{Text, check};
use crate::state::ApiState;
use crate::vocabulary::FailureWord;

/// One phrase.
const TEXT_CHARACTERS_MAX: usize = 200;

/// What a code of a relay means.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"class": "handset_temporary", "text": "the handset is roaming"}))]
pub struct CodeBody {
    /// What decides about failover from now on.
    pub class: FailureWord,
    /// The relay charges for a message that ends with this code, if it bills what it delivers.
    #[serde(default)]
    pub billable: bool,
    /// One phrase for people; left out: the dictionary's.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub text: Option<String>,
}

/// A code of a relay that an operator gave a class.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClassedCode)]
pub struct ClassedCodeView {
    /// As the relay gives it.
    #[schema(value_type = String, example = "9876")]
    pub code: SmolStr,
    /// The operator's class.
    pub class: FailureWord,
    /// The dictionary's class; left out if the dictionary does not have the code as a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dictionary_class: Option<FailureWord>,
    /// Whether the relay charges for it.
    pub billable: bool,
    /// One phrase for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl ClassedCodeView {
    /// All of a relay, by code.
    pub(super) fn all(entry: &RelayEntry) -> Vec<Self> {
        let mut listed = entry.clone();
        listed.classed.clear();
        let view = |classed: &CodeClassed| Self {
            code: classed.code.clone(),
            class: classed.class.into(),
            dictionary_class: known_failure(&listed, &classed.code),
            billable: classed.billable,
            text: classed.text.clone(),
        };
        entry.classed.values().map(view).collect()
    }
}

fn known_failure(listed: &RelayEntry, code: &str) -> Option<FailureWord> {
    let meaning = listed.meaning(&[code]);
    meaning.failure().filter(|_| meaning.is_known()).map(Into::into)
}

/// A code that a relay gave and that neither its dictionary nor an operator knows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnknownCode)]
pub struct UnknownCodeView {
    /// As the relay gave it.
    #[schema(value_type = String, example = "9876")]
    pub code: SmolStr,
    /// Of how many messages.
    pub times: u64,
    /// When last.
    pub newest_at: chrono::DateTime<chrono::Utc>,
}

impl UnknownCodeView {
    /// The codes among these that are still unknown now.
    pub(super) fn of(entry: &RelayEntry, codes: Vec<UnclassifiedCode>) -> Vec<Self> {
        let is_unknown = |one: &UnclassifiedCode| !entry.meaning(&[&one.code]).is_known();
        let view = |UnclassifiedCode { code, times, newest_at }| Self { code, times, newest_at };
        codes.into_iter().filter(is_unknown).map(view).collect()
    }
}

/// The code of the address, if a relay can give it.
fn code_of(code: &str) -> Answer<SmolStr> {
    let wrong = |word: &str, detail: String| {
        Problem::new(Code::Refused, format!("The code cannot be classed: {detail}."))
            .at(FieldError::new("code", word, detail))
    };
    if code.is_empty() || code.trim() != code {
        return Err(wrong("blank", "a code is not empty, and begins and ends with no blank".to_owned()));
    }
    if code.chars().count() > CODE_LENGTH_MAX {
        return Err(wrong("too_long", format!("a code has at most {CODE_LENGTH_MAX} characters")));
    }
    if code.chars().any(char::is_control) {
        return Err(wrong("control_character", "a code holds no control characters".to_owned()));
    }
    Ok(code.into())
}

fn names_of((relay, code): (String, String)) -> Answer<(RelayId, SmolStr)> {
    Ok((relay_of(&relay)?, code_of(&code)?))
}

/// Gives a code of this relay a class, in place of the dictionary's. It applies to answers and receipts that come
/// from now on; earlier failures keep their class.
#[utoipa::path(
    put, path = "/v1/admin/relays/{relay}/codes/{code}", tag = "admin", operation_id = "class_relay_code",
    params(
        ("relay" = String, Path, description = "The relay's id"),
        ("code" = String, Path, description = "The code as the relay gives it, at most 64 characters"),
    ),
    request_body = CodeBody,
    responses((status = 200, description = "The code has this class.", body = ClassedCodeView))
)]
pub async fn class(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath(names): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<CodeBody>,
) -> Answer<Written<ClassedCodeView>> {
    let (relay, code) = names_of(names)?;
    if let Some(text) = &body.text {
        check(
            "The code cannot be classed",
            &Text { field: "text", text, characters_max: TEXT_CHARACTERS_MAX },
        )?;
    }
    let classed =
        CodeClassed { relay, code, class: body.class.into(), billable: body.billable, text: body.text };
    let done = state
        .write_side
        .manage
        .class_code(&state.cause(&auth.actor), classed)
        .await
        .map_err(relay_problem)?;
    let CodeClassed { relay, code, class, billable, text } = done.value;
    let directory = state.write_side.directory.snapshot();
    let dictionary_class = directory.relays.get(&relay).and_then(|entry| {
        let mut listed = entry.clone();
        listed.classed.clear();
        known_failure(&listed, &code)
    });
    let view = ClassedCodeView { code, class: class.into(), dictionary_class, billable, text };
    Ok(Written::changed(done.position, view))
}

/// Leaves a code of this relay to its dictionary again.
#[utoipa::path(
    delete, path = "/v1/admin/relays/{relay}/codes/{code}", tag = "admin", operation_id = "unclass_relay_code",
    params(
        ("relay" = String, Path, description = "The relay's id"),
        ("code" = String, Path, description = "The code as the relay gives it"),
    ),
    responses((status = 204, description = "The dictionary decides again."))
)]
pub async fn unclass(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath(names): ApiPath<(String, String)>,
) -> Answer<Written<()>> {
    let (relay, code) = names_of(names)?;
    let unclassed = CodeUnclassed { relay, code };
    let done = state
        .write_side
        .manage
        .unclass_code(&state.cause(&auth.actor), unclassed)
        .await
        .map_err(relay_problem)?;
    Ok(Written::done(done.position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_what_a_relay_can_give() {
        let longest = "가".repeat(CODE_LENGTH_MAX);
        assert_eq!(code_of(&longest), Ok(longest.as_str().into()));
        assert_eq!(code_of("no such code"), Ok("no such code".into()));
        let too_long = format!("{longest}x");
        for (code, word) in [
            (too_long.as_str(), "too_long"),
            ("", "blank"),
            (" ", "blank"),
            (" 1", "blank"),
            ("1 ", "blank"),
            ("1\u{7}2", "control_character"),
        ] {
            assert_eq!(code_of(code).unwrap_err().errors()[0].code, word, "{code:?}");
        }
    }
}
