//! `GET` and `POST /v1/admin/tenants/{tenant}/keys`, `DELETE /v1/admin/tenants/{tenant}/keys/{key_id}`

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use kite_commands::manage::{ApiKeyTerms, IssuedKey, KeyRecord};
use kite_domain::keys::{KeyBounds, Scopes};
use kite_domain::slug::TenantId;
use kite_domain::tenant::ApiKeyIssued;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::key_bounds;
use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::{Answer, FieldError, Problem};
use crate::routes::lengths::{NAME_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;
use crate::vocabulary::ScopeWord;

/// A key to be issued.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeyBody {
    /// What it is for, for people.
    #[schema(example = "shop backend", max_length = 100)]
    pub label: String,
    /// What it may do; left out: everything.
    #[schema(min_items = 1, example = json!(["send", "read"]))]
    pub scopes: Option<Vec<ScopeWord>>,
    /// Valid before this time; left out: until it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
    /// The networks, or single addresses, that it may be used from; left out or empty: from everywhere.
    #[schema(max_items = 32, example = json!(["203.0.113.0/24"]))]
    pub allowed_addresses: Vec<String>,
}

impl ApiKeyBody {
    fn check(self) -> Answer<ApiKeyTerms> {
        let text = Text { field: "label", text: &self.label, characters_max: NAME_CHARACTERS_MAX };
        check("The key cannot be issued", &text)?;
        let scopes: Scopes = match self.scopes {
            None => Scopes::ALL,
            Some(words) => words.into_iter().map(Into::into).collect(),
        };
        let mut errors = Vec::new();
        if scopes.is_empty() {
            errors.push(FieldError::new("scopes", "empty", "a key without a scope could do nothing"));
        }
        let bounds = key_bounds::read(self.expires_at, &self.allowed_addresses).unwrap_or_else(|wrong| {
            errors.extend(wrong);
            KeyBounds::default()
        });
        key_bounds::refuse_if_any(errors)?;
        Ok(ApiKeyTerms { label: self.label, scopes, bounds })
    }
}

/// A new key. It is shown only now and is not stored.
#[derive(Serialize, ToSchema)]
pub struct IssuedKeyView {
    /// The public part, by which it is named.
    #[schema(example = "0197c0de0000700080000001")]
    pub key_id: String,
    /// The whole key: keep it secret.
    #[schema(example = "kite_0197c0de0000700080000001_…")]
    pub key: String,
}

impl From<IssuedKey> for IssuedKeyView {
    fn from(issued: IssuedKey) -> Self {
        Self { key_id: issued.key_id.to_string(), key: issued.key }
    }
}

/// A key as it is listed: never the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyView {
    /// The public part.
    pub key_id: String,
    /// What it is for.
    pub label: String,
    /// What it may do.
    pub scopes: Vec<ScopeWord>,
    /// The networks that it may be used from; empty: from everywhere.
    pub allowed_addresses: Vec<String>,
    /// Since when.
    pub issued_at: DateTime<Utc>,
    /// Who issued it.
    #[schema(example = "operator:kim")]
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

impl From<KeyRecord<ApiKeyIssued>> for ApiKeyView {
    fn from(record: KeyRecord<ApiKeyIssued>) -> Self {
        Self {
            key_id: record.issued.key_id.to_string(),
            scopes: record.issued.scopes.iter().map(Into::into).collect(),
            allowed_addresses: key_bounds::words(&record.issued.bounds),
            label: record.issued.label,
            issued_at: record.issued_at,
            issued_by: record.issued_by.to_string(),
            expires_at: record.issued.bounds.expires_at,
            revoked_at: record.revoked_at,
            last_used_at: record.last_used_at,
        }
    }
}

/// Keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKeys {
    /// All that were ever issued.
    pub items: Vec<ApiKeyView>,
}

fn tenant_of(text: &str) -> Answer<TenantId> {
    text.parse().map_err(|_| Problem::not_found("tenant"))
}

/// Issues a key for a tenant, in addition to its others, at most 100. Only this answer shows the key.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant}/keys", tag = "admin", operation_id = "issue_api_key",
    params(("tenant" = String, Path, description = "The tenant's id")), request_body = ApiKeyBody,
    responses((status = 201, description = "The key.", body = IssuedKeyView))
)]
pub async fn issue(
    state: State<ApiState>,
    auth: AdminAuth,
    tenant: ApiPath<String>,
    ApiJson(body): ApiJson<ApiKeyBody>,
) -> Answer<Written<IssuedKeyView>> {
    let tenant = tenant_of(&tenant)?;
    let terms = body.check()?;
    let done = state.write_side.manage.issue_api_key(&state.cause(&auth.actor), &tenant, terms).await?;
    let issued = IssuedKeyView::from(done.value);
    let location = format!("/v1/admin/tenants/{tenant}/keys/{}", issued.key_id);
    Ok(Written::created(done.position, location, issued))
}

/// Lists the keys of a tenant, revoked ones too.
#[utoipa::path(
    get, path = "/v1/admin/tenants/{tenant}/keys", tag = "admin", operation_id = "list_api_keys",
    params(("tenant" = String, Path, description = "The tenant's id")),
    responses((status = 200, description = "The keys.", body = ApiKeys))
)]
pub async fn list(
    state: State<ApiState>,
    _auth: AdminAuth,
    tenant: ApiPath<String>,
) -> Answer<Json<ApiKeys>> {
    let tenant = tenant_of(&tenant)?;
    state.known_tenant(&tenant).await?;
    let keys = state.write_side.manage.api_keys(&tenant).await?;
    Ok(Json(ApiKeys { items: keys.into_iter().map(Into::into).collect() }))
}

/// Revokes a key: from now on it is refused.
#[utoipa::path(
    delete, path = "/v1/admin/tenants/{tenant}/keys/{key_id}", tag = "admin", operation_id = "revoke_api_key",
    params(("tenant" = String, Path, description = "The tenant's id"), ("key_id" = String, Path, description = "The key's public part")),
    responses((status = 204, description = "The key is revoked."))
)]
pub async fn revoke(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath((tenant, key)): ApiPath<(String, String)>,
) -> Answer<Written<()>> {
    let tenant = tenant_of(&tenant)?;
    let done = state.write_side.manage.revoke_api_key(&state.cause(&auth.actor), &tenant, &key).await?;
    Ok(Written::done(done.position))
}
