//! `GET` and `POST /v1/admin/tenants`

use axum::Json;
use axum::extract::State;
use kite_domain::slug::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::ApiJson;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::lengths::{NAME_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Tenant)]
pub struct TenantView {
    /// Its id: `a-z`, `0-9` and `-`, at most 32 characters.
    #[schema(example = "acme")]
    pub tenant: String,
    /// Its name, for people.
    #[schema(example = "Acme Inc.", max_length = 100)]
    pub name: String,
}

/// All tenants.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenants {
    /// By id.
    pub items: Vec<TenantView>,
}

/// Lists all tenants.
#[utoipa::path(
    get, path = "/v1/admin/tenants", tag = "admin", operation_id = "list_tenants",
    responses((status = 200, description = "All tenants.", body = Tenants))
)]
pub async fn list(state: State<ApiState>, _auth: AdminAuth) -> Json<Tenants> {
    let directory = state.directory.snapshot();
    let items = directory.tenants.values();
    let items =
        items.map(|created| TenantView { tenant: created.tenant.to_string(), name: created.name.clone() });
    Json(Tenants { items: items.collect() })
}

/// Makes a tenant.
#[utoipa::path(
    post, path = "/v1/admin/tenants", tag = "admin", operation_id = "create_tenant", request_body = TenantView,
    responses((status = 201, description = "The tenant is there.", body = TenantView))
)]
pub async fn create(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiJson(body): ApiJson<TenantView>,
) -> Answer<Written<TenantView>> {
    let tenant = TenantId::parse(&body.tenant).map_err(|error| {
        Problem::new(Code::Refused, format!("The tenant cannot be made: {error}.")).at(FieldError::new(
            "tenant",
            error.code(),
            error.to_string(),
        ))
    })?;
    let text = Text { field: "name", text: &body.name, characters_max: NAME_CHARACTERS_MAX };
    check("The tenant cannot be made", &text)?;
    let done = state.manage.create_tenant(&state.cause(&auth.actor), tenant, body.name.clone()).await?;
    Ok(Written::created(done.position, format!("/v1/admin/tenants/{}", body.tenant), body))
}
