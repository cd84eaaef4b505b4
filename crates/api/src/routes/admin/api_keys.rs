//! `GET` and `POST /v1/admin/tenants/{tenant}/keys`, `DELETE /v1/admin/tenants/{tenant}/keys/{key_id}`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use kite_domain::slug::TenantId;
use kite_projections::ApiKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::{Answer, Problem};
use crate::routes::lengths::{NAME_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;

/// A key to be issued.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeyBody {
    /// What it is for, for people.
    #[schema(example = "shop backend", max_length = 100)]
    pub label: String,
}

/// A new key. It is shown this once and kept nowhere.
#[derive(Serialize, ToSchema)]
pub struct IssuedKeyView {
    /// The public part, by which it is named.
    #[schema(example = "0197c0de0000700080000001")]
    pub key_id: String,
    /// The whole key: keep it secret.
    #[schema(example = "kite_0197c0de0000700080000001_…")]
    pub key: String,
}

/// A key as it is listed: never the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyView {
    /// The public part.
    pub key_id: String,
    /// What it is for.
    pub label: String,
    /// Since when.
    pub issued_at: DateTime<Utc>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<DateTime<Utc>>,
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            key_id: key.key_id.to_string(),
            label: key.label,
            issued_at: key.issued_at,
            revoked_at: key.revoked_at,
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

/// Issues a key for a tenant. The answer is the only time that it is shown.
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
    let text = Text { field: "label", text: &body.label, characters_max: NAME_CHARACTERS_MAX };
    check("The key cannot be issued", &text)?;
    let done = state.manage.issue_api_key(&state.cause(&auth.actor), &tenant, body.label).await?;
    let issued = IssuedKeyView { key_id: done.value.key_id.to_string(), key: done.value.key };
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
    headers: HeaderMap,
) -> Answer<Json<ApiKeys>> {
    let tenant = tenant_of(&tenant)?;
    if !state.directory.snapshot().tenants.contains_key(&tenant) {
        return Err(Problem::not_found("tenant"));
    }
    state.fresh_address_book(&headers).await?;
    let keys = state.query(move |models| models.address_book.api_keys(&tenant)).await?;
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
    let done = state.manage.revoke_api_key(&state.cause(&auth.actor), &tenant, &key).await?;
    Ok(Written::done(done.position))
}
