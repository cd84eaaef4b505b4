//! `GET` and `POST /v1/admin/operator-keys`, `DELETE /v1/admin/operator-keys/{key_id}`

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use kite_commands::manage::{KeyRecord, OperatorKeyTerms};
use kite_domain::keys::{KeyBounds, OperatorKeyIssued};
use kite_domain::slug::OperatorName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api_keys::IssuedKeyView;
use super::key_bounds;
use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::{Answer, FieldError};
use crate::state::ApiState;
use crate::vocabulary::OperatorRoleWord;

/// A key to be issued to an operator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorKeyBody {
    /// Whose key it is, a person or a program: `a-z`, `0-9` and `-`, at most 32 characters. The log records what is
    /// done with the key under `operator:<name>`. Only one key that is not revoked has a name.
    #[schema(example = "kim", pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub name: String,
    /// What it may do.
    pub role: OperatorRoleWord,
    /// Valid before this time; left out: until it is revoked.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// The networks, or single addresses, that it may be used from; left out or empty: from everywhere.
    #[serde(default)]
    #[schema(max_items = 32, example = json!(["10.20.0.0/16"]))]
    pub allowed_addresses: Vec<String>,
}

impl OperatorKeyBody {
    fn check(self) -> Answer<OperatorKeyTerms> {
        let mut errors = Vec::new();
        let name = OperatorName::parse(&self.name).unwrap_or_else(|error| {
            errors.push(FieldError::new("name", error.code(), error.to_string()));
            OperatorName::from_trusted("")
        });
        let bounds = key_bounds::read(self.expires_at, &self.allowed_addresses).unwrap_or_else(|wrong| {
            errors.extend(wrong);
            KeyBounds::default()
        });
        key_bounds::refuse_if_any(errors)?;
        Ok(OperatorKeyTerms { name, role: self.role.into(), bounds })
    }
}

/// An operator's key as it is listed: never the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OperatorKey)]
pub struct OperatorKeyView {
    /// The public part.
    #[schema(example = "0197c0de0000700080000002")]
    pub key_id: String,
    /// Whose it is.
    #[schema(example = "kim")]
    pub name: String,
    /// What it may do.
    pub role: OperatorRoleWord,
    /// The networks that it may be used from; empty: from everywhere.
    pub allowed_addresses: Vec<String>,
    /// Since when.
    pub issued_at: DateTime<Utc>,
    /// Who issued it.
    #[schema(example = "admin")]
    pub issued_by: String,
    /// Good before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when it is out of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used; left out: never. Up to a day too old after the process was restarted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<DateTime<Utc>>,
}

impl From<KeyRecord<OperatorKeyIssued>> for OperatorKeyView {
    fn from(record: KeyRecord<OperatorKeyIssued>) -> Self {
        Self {
            key_id: record.issued.key_id.to_string(),
            name: record.issued.name.to_string(),
            role: record.issued.role.into(),
            allowed_addresses: key_bounds::words(&record.issued.bounds),
            issued_at: record.issued_at,
            issued_by: record.issued_by.to_string(),
            expires_at: record.issued.bounds.expires_at,
            revoked_at: record.revoked_at,
            last_used_at: record.last_used_at,
        }
    }
}

/// Keys of operators.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorKeys {
    /// All keys that were ever issued. The one of the configuration is not among them.
    pub items: Vec<OperatorKeyView>,
}

/// Issues a key for an operator. Only this answer shows the key.
#[utoipa::path(
    post, path = "/v1/admin/operator-keys", tag = "admin", operation_id = "issue_operator_key",
    request_body = OperatorKeyBody,
    responses((status = 201, description = "The key.", body = IssuedKeyView))
)]
pub async fn issue(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiJson(body): ApiJson<OperatorKeyBody>,
) -> Answer<Written<IssuedKeyView>> {
    let terms = body.check()?;
    let done = state.write_side.manage.issue_operator_key(&state.cause(&auth.actor), terms).await?;
    let issued = IssuedKeyView::from(done.value);
    let location = format!("/v1/admin/operator-keys/{}", issued.key_id);
    Ok(Written::created(done.position, location, issued))
}

/// Lists the keys of operators, revoked ones too.
#[utoipa::path(
    get, path = "/v1/admin/operator-keys", tag = "admin", operation_id = "list_operator_keys",
    responses((status = 200, description = "The keys.", body = OperatorKeys))
)]
pub async fn list(state: State<ApiState>, _auth: AdminAuth) -> Answer<Json<OperatorKeys>> {
    let keys = state.write_side.manage.operator_keys().await?;
    Ok(Json(OperatorKeys { items: keys.into_iter().map(Into::into).collect() }))
}

/// Revokes an operator's key: from now on it is refused. Its name can be used again.
#[utoipa::path(
    delete, path = "/v1/admin/operator-keys/{key_id}", tag = "admin", operation_id = "revoke_operator_key",
    params(("key_id" = String, Path, description = "The key's public part")),
    responses((status = 204, description = "The key is revoked."))
)]
pub async fn revoke(state: State<ApiState>, auth: AdminAuth, key: ApiPath<String>) -> Answer<Written<()>> {
    let done = state.write_side.manage.revoke_operator_key(&state.cause(&auth.actor), &key).await?;
    Ok(Written::done(done.position))
}
