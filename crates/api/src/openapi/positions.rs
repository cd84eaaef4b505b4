//! Positions in the log: every write answers with one, and a read from a read model may be asked to wait for one.

use axum::http::Method;
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::POSITION;
use crate::freshness::MIN_POSITION;

/// Writes through these have no position for the caller: nothing is written, or not by a tenant.
const WITHOUT_POSITION: [&str; 2] = ["preview_sending", "push_receipts"];

/// Adds the headers to an operation. What is read may be a moment behind the log, and takes a position.
pub(super) fn add(method: &Method, access: Access, needs_key: bool, operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default();
    if access.model.is_some() || (needs_key && *method == Method::GET) {
        let parameter = json!({
            "name": MIN_POSITION,
            "in": "header",
            "required": false,
            "description": "The `kite-position` of an earlier write, of another caller or through another process: the answer waits until it holds that write. What the caller itself wrote through this process is waited for without asking.",
            "schema": {"type": "integer", "format": "int64", "minimum": 0},
        });
        match operation.get_mut("parameters").and_then(Value::as_array_mut) {
            Some(parameters) => parameters.push(parameter),
            None => operation["parameters"] = json!([parameter]),
        }
    } else if *method != Method::GET && !WITHOUT_POSITION.contains(&id) {
        let responses = operation["responses"].as_object_mut().into_iter().flatten();
        for (_, response) in responses.filter(|(status, _)| status.starts_with('2')) {
            response["headers"][POSITION] = json!({
                "description": "Where in the log the write is: hand it back as `kite-min-position` to read what was written.",
                "schema": {"type": "integer", "format": "int64", "minimum": 1},
            });
        }
    }
}
