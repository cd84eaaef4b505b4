//! Positions in the log: every write answers with one, and a read from a read model may be asked to wait for one.

use serde_json::{Value, json};

use crate::answer::POSITION;
use crate::state::MIN_POSITION;

/// The operations that read from a read model, which may be a moment behind the log. A test asks each of them.
const READS: [&str; 21] = [
    "admin_list_sendings",
    "admin_search_messages",
    "export_contacts",
    "get_contact",
    "get_group",
    "get_message",
    "get_opt_out",
    "get_policy",
    "get_recommendation",
    "get_sending",
    "get_statistics",
    "get_tenant",
    "list_contacts",
    "list_groups",
    "list_opt_outs",
    "list_policies",
    "list_policy_versions",
    "list_sending_messages",
    "list_sendings",
    "list_templates",
    "search_messages",
];

/// Writes through these have no position for the caller: nothing is written, or not by a tenant.
const WITHOUT_POSITION: [&str; 2] = ["preview_sending", "push_receipts"];

/// Adds the headers to an operation.
pub(super) fn add(method: &str, operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default();
    if READS.contains(&id) {
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
    } else if method != "get" && !WITHOUT_POSITION.contains(&id) {
        let responses = operation["responses"].as_object_mut().into_iter().flatten();
        for (_, response) in responses.filter(|(status, _)| status.starts_with('2')) {
            response["headers"][POSITION] = json!({
                "description": "Where in the log the write is: hand it back as `kite-min-position` to read what was written.",
                "schema": {"type": "integer", "format": "int64", "minimum": 1},
            });
        }
    }
}
