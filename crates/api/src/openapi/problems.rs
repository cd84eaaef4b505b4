//! Which problems an operation may answer with, derived from its description: who may call it, what it takes, whether
//! it writes. So every possible status is in the document, and no other.

use axum::http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::problem::Code;

/// What an operation takes and does, as far as its problems depend on it.
struct Traits<'o> {
    method: &'o Method,
    operation: &'o Value,
}

impl Traits<'_> {
    fn has_parameter(&self, place: &str) -> bool {
        self.parameters().any(|parameter| parameter["in"] == place)
    }

    fn is_paged(&self) -> bool {
        self.parameters().any(|parameter| parameter["name"] == "cursor")
    }

    /// It can answer with a file instead of a page, and a file has no limit.
    fn gives_files(&self) -> bool {
        let has = |name: &str| self.parameters().any(|parameter| parameter["name"] == name);
        has("limit") && has("format")
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.operation["parameters"].as_array().into_iter().flatten()
    }

    fn body(&self) -> Option<&str> {
        self.operation["requestBody"]["content"].as_object()?.keys().next().map(String::as_str)
    }

    fn needs_key(&self) -> bool {
        !self.operation["security"].as_array().is_some_and(|ways| ways.contains(&json!({})))
    }

    /// Whether the key of a tenant may be used.
    fn is_of_tenants(&self) -> bool {
        self.needs_key()
            && self.operation["tags"].as_array().is_none_or(|tags| !tags.contains(&json!("admin")))
    }

    fn is(&self, operation_id: &str) -> bool {
        self.operation["operationId"] == operation_id
    }

    /// In its query: a name of something that does not exist is answered with "not found".
    fn names_others(&self) -> bool {
        ["list_audit_events", "get_recommendation", "import_contacts"].into_iter().any(|id| self.is(id))
    }

    /// Into the log.
    fn writes(&self) -> bool {
        *self.method != Method::GET && !self.is("preview_sending")
    }
}

/// The answers for the problems of an operation, by status.
pub(super) fn responses(method: &Method, operation: &Value) -> BTreeMap<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in codes(&Traits { method, operation }) {
        by_status.entry(code.kind().status).or_default().push(code.kind().code);
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), response(&codes))).collect()
}

fn response(codes: &[&str]) -> Value {
    let words: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    json!({
        "description": format!("A problem: {}.", words.join(" or ")),
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    })
}

fn codes(traits: &Traits<'_>) -> Vec<Code> {
    let mut codes = Vec::new();
    let mut add = |applies: bool, these: &[Code]| {
        if applies {
            codes.extend_from_slice(these);
        }
    };
    add(true, &[Code::TooManyAtOnce]);
    let is_dynamic = traits.needs_key() || traits.has_parameter("path");
    let reads = traits.needs_key() && *traits.method == Method::GET;
    let is_sending = traits.is("create_sending");
    add(
        traits.needs_key(),
        &[
            Code::KeyMissing,
            Code::KeyInvalid,
            Code::KeyExpired,
            Code::NotPermitted,
            Code::AddressNotAllowed,
            Code::TooManyWrongKeys,
        ],
    );
    add(
        traits.is("push_receipts"),
        &[Code::SignatureInvalid, Code::TooManyWrongKeys, Code::ReceiptsNotUnderstood],
    );
    add(traits.is_of_tenants(), &[Code::TooManyRequests]);
    add(traits.is("resume_sending"), &[Code::PausedByOperator]);
    // Near its limit a tenant waits until its contacts are counted.
    add(traits.is("create_contact") || traits.is("import_contacts"), &[Code::NotCaughtUp]);
    add(traits.has_parameter("path") || traits.names_others(), &[Code::NotFound]);
    // A read may ask for data at least as new as a position.
    add(reads || traits.has_parameter("query"), &[Code::InvalidParameter]);
    add(traits.is_paged(), &[Code::InvalidCursor]);
    add(traits.gives_files() || traits.is("get_statistics"), &[Code::Refused]);
    add(reads || is_sending || traits.is("preview_sending"), &[Code::NotCaughtUp]);
    match traits.body() {
        Some("text/csv") => add(true, &[Code::InvalidCsv, Code::RowsRefused]),
        Some(_) => add(true, &[Code::MalformedJson, Code::InvalidBody, Code::Refused]),
        None => {}
    }
    let has_body = traits.body().is_some();
    add(has_body, &[Code::BodyTooSlow, Code::BodyTooLarge, Code::UnsupportedMediaType, Code::Busy]);
    add(is_sending || traits.is("preview_sending"), &[Code::RequestRefused, Code::TooManyRecipients]);
    add(
        is_sending,
        &[
            Code::RowsRefused,
            Code::InvalidIdempotencyKey,
            Code::IdempotencyKeyReused,
            Code::IdempotencyInProgress,
            Code::LimitReached,
            Code::BacklogFull,
        ],
    );
    add(is_sending || traits.is("import_contacts") || traits.is("import_opt_outs"), &[Code::NoRoom]);
    add(traits.writes(), &[Code::NotPossibleNow, Code::Conflict, Code::AnswerLost, Code::Unavailable]);
    add(traits.writes() && !has_body, &[Code::Busy]);
    add(is_dynamic, &[Code::Internal]);
    codes
}
