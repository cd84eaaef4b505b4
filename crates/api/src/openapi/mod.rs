//! The OpenAPI document, made from the endpoints themselves. docs/openapi.json is a snapshot of it.

mod flat;
mod links;
mod positions;
mod problems;

use axum::http::Method;
use kite_domain::keys::Role;
use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::access::{self, Access};
use crate::export::{FileWord, FormatWord};
use crate::problem::ProblemDocument;
use crate::router::endpoints;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kite",
        description = "Distributes messages (SMS, LMS, e-mail) over several relay carriers: accepts durably, splits \
                       exactly, fails over, and shows every decision it took.\n\nA tenant's requests carry its API key: \
                       `Authorization: Bearer kite_…`. A read waits until it sees what the same caller wrote. Every \
                       write answers with the header `kite-position`; handed to somebody else, or to another process, \
                       as `kite-min-position`, it makes a read there wait for that write. Whatever goes wrong is a problem \
                       document (RFC 9457) of a kind that is listed at `/problems`. Fields and parameters that are not \
                       known are refused.",
    ),
    tags(
        (name = "sendings", description = "One request to send to one or many recipients."),
        (name = "messages", description = "One recipient's part of a sending, with its timeline."),
        (name = "contacts", description = "The address book."),
        (name = "groups", description = "Groups of contacts."),
        (name = "senders", description = "Numbers and addresses that may stand as the sender."),
        (name = "opt-outs", description = "Who refuses advertisements."),
        (name = "templates", description = "Stored texts."),
        (name = "policies", description = "How messages are split over relays, and what happens when one fails."),
        (name = "routing", description = "Which split is recommended, and why."),
        (name = "relays", description = "The carriers and their prices."),
        (name = "statistics", description = "Counts, times and cost."),
        (name = "audit", description = "The log itself."),
        (name = "admin", description = "For operators' keys: tenants, keys, relays."),
        (name = "relay receipts", description = "For relays: delivery reports."),
        (name = "service", description = "The process itself."),
    ),
    components(schemas(ProblemDocument<'_>, FileWord, FormatWord)),
)]
struct Description;

/// The document, pretty-printed with sorted keys, so that a change gives a small diff.
pub fn openapi_json() -> String {
    let mut text = serde_json::to_string_pretty(&document()).expect("a JSON value can always be written");
    text.push('\n');
    text
}

/// The document as a value.
pub(crate) fn document() -> Value {
    let mut api = Description::openapi();
    let (_, paths) = endpoints().split_for_parts();
    api.merge(paths);
    let mut value = serde_json::to_value(api).expect("an OpenAPI document is JSON");
    value["info"]["version"] = json!("1");
    if let Some(info) = value["info"].as_object_mut() {
        info.remove("license");
    }
    value["components"]["securitySchemes"] = json!({
        "api_key": {"type": "http", "scheme": "bearer", "description": "A tenant's key: `kite_<id>_<secret>`."},
        "admin_key": {"type": "http", "scheme": "bearer", "description": "An operator's key: `kiteop_<id>_<secret>`, or the one of the configuration."},
    });
    value["security"] = json!([{"api_key": []}]);
    for (path, item) in value["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete(method, path, operation);
        }
    }
    links::add(&mut value);
    flat::flatten(&mut value);
    sorted(value)
}

/// What is the same for every operation.
fn complete(method: &str, path: &str, operation: &mut Value) {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap_or_default();
    let access = access::of(&method, path);
    let needs_no_key = operation["security"].as_array().is_some_and(|ways| ways.contains(&json!({})));
    if !needs_no_key {
        secure(access, operation);
    }
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        refuse_empty(parameter);
    }
    positions::add(&method, access, !needs_no_key, operation);
    let problems = problems::responses(&method, operation);
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, problem) in problems {
        responses.entry(status).or_insert(problem);
    }
}

/// A parameter of the query without a value is refused where it is read.
fn refuse_empty(parameter: &mut Value) {
    let is_free = parameter["schema"]["type"] == "string"
        && parameter["schema"].get("pattern").or(parameter["schema"].get("format")).is_none();
    if parameter["in"] == "query" && is_free {
        parameter["schema"]["minLength"] = json!(1);
    }
}

/// Says whose keys are accepted, and what they must be allowed to do.
fn secure(Access { scope, role, .. }: Access, operation: &mut Value) {
    let (mut security, mut needs) = (Vec::new(), Vec::new());
    if let Some(scope) = scope {
        security.push(json!({"api_key": [scope.word()]}));
        needs.push(format!("a tenant's key with the scope `{}`", scope.word()));
    }
    if let Some(role) = role {
        security.push(json!({"admin_key": [role.word()]}));
        let higher = if role == Role::Administrator { "" } else { " or a higher role" };
        needs.push(format!("an operator's key with the role `{role}`{higher}"));
    }
    operation["security"] = json!(security);
    let before = operation["description"].as_str().map(|text| format!("{text}\n\n")).unwrap_or_default();
    operation["description"] = json!(format!("{before}Needs {}.", needs.join(", or ")));
}

/// Keys in order, all the way down.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}
