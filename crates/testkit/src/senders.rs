//! Senders as an operator approves them.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

/// What an operator says to approve a sender at these relays for a year from now, by the clock of this machine.
#[expect(clippy::disallowed_methods, reason = "the process that is called lives in real time")]
pub fn approval(relays: &[&str]) -> Value {
    let expires_at = Utc::now() + TimeDelta::days(365);
    json!({ "document": "certificate 1", "expires_at": expires_at, "relays": relays })
}

/// Where a tenant's sender is approved.
pub fn approval_path(tenant: &str, address: &str) -> String {
    format!("/v1/admin/tenants/{tenant}/senders/{address}/approve")
}
