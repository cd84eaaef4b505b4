//! `GET` and `POST /v1/admin/tenants`, `GET /v1/admin/tenants/{tenant}`, `PUT /v1/admin/tenants/{tenant}/limits`

use axum::Json;
use axum::extract::State;
use kite_commands::directory::DirectoryState;
use kite_domain::slug::TenantId;
use kite_domain::tenant::{LimitsInForce, TenantLimits};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::{ApiJson, ApiPath};
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

/// Limits on what a tenant may have open and how fast it may send. What is left out is as the configuration of the
/// platform says.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = TenantLimits)]
pub struct LimitsBody {
    /// Messages that are due and not final. A share of them is kept for one-time passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000_u64, example = 200000)]
    pub open_messages_max: Option<u64>,
    /// Messages that are accepted for later and not due yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000_u64, example = 50000)]
    pub scheduled_messages_max: Option<u64>,
    /// Requests per second. One-time passwords are counted separately.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000, example = 100)]
    pub requests_per_second: Option<u32>,
    /// Recipients per second, over all requests to send. One-time passwords are counted separately.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000000, example = 5000)]
    pub recipients_per_second: Option<u32>,
    /// Contacts in the address book.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000_u64, example = 100000)]
    pub contacts_max: Option<u64>,
}

impl LimitsBody {
    fn check(&self) -> Answer<TenantLimits> {
        const MANY: u64 = 1_000_000_000_000;
        let bounds = [
            ("open_messages_max", self.open_messages_max, 0..=MANY),
            ("scheduled_messages_max", self.scheduled_messages_max, 0..=MANY),
            ("requests_per_second", self.requests_per_second.map(u64::from), 1..=1_000_000),
            ("recipients_per_second", self.recipients_per_second.map(u64::from), 1..=10_000_000),
            ("contacts_max", self.contacts_max, 0..=MANY),
        ];
        let wrong = bounds.into_iter().filter_map(|(field, value, range)| {
            let is_wrong = value.is_some_and(|value| !range.contains(&value));
            let detail = format!("must be {} to {}", range.start(), range.end());
            is_wrong.then(|| FieldError::new(field, "out_of_range", detail))
        });
        let errors: Vec<FieldError> = wrong.collect();
        if let Some(first) = errors.first() {
            let detail = format!("The limits cannot be set: {} {}.", first.field, first.detail);
            return Err(Problem::new(Code::Refused, detail).with_errors(errors));
        }
        Ok(TenantLimits {
            open_messages_max: self.open_messages_max,
            scheduled_messages_max: self.scheduled_messages_max,
            requests_per_second: self.requests_per_second,
            recipients_per_second: self.recipients_per_second,
            contacts_max: self.contacts_max,
        })
    }
}

impl From<TenantLimits> for LimitsBody {
    fn from(limits: TenantLimits) -> Self {
        Self {
            open_messages_max: limits.open_messages_max,
            scheduled_messages_max: limits.scheduled_messages_max,
            requests_per_second: limits.requests_per_second,
            recipients_per_second: limits.recipients_per_second,
            contacts_max: limits.contacts_max,
        }
    }
}

/// The limits in effect for a tenant: those that the operator has set, and the platform's for the others.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LimitsInForce)]
pub struct LimitsView {
    /// Messages that are due and not final.
    pub open_messages_max: u64,
    /// Messages that are accepted for later and not due yet.
    pub scheduled_messages_max: u64,
    /// Requests a second.
    pub requests_per_second: u32,
    /// Recipients a second.
    pub recipients_per_second: u32,
    /// Contacts in the address book.
    pub contacts_max: u64,
}

impl From<LimitsInForce> for LimitsView {
    fn from(limits: LimitsInForce) -> Self {
        Self {
            open_messages_max: limits.open_messages_max,
            scheduled_messages_max: limits.scheduled_messages_max,
            requests_per_second: limits.requests_per_second,
            recipients_per_second: limits.recipients_per_second,
            contacts_max: limits.contacts_max,
        }
    }
}

/// What a tenant has now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantUse)]
pub struct UseView {
    /// Messages that are due and not final, passwords included.
    pub open_messages: u64,
    /// Of those, one-time passwords.
    pub open_passwords: u64,
    /// Messages that are accepted for later and not due yet.
    pub scheduled_messages: u64,
    /// Contacts in the address book.
    pub contacts: u64,
}

/// A tenant with its limits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantDetails)]
pub struct TenantDetailsView {
    /// Its id.
    #[schema(example = "acme")]
    pub tenant: String,
    /// Its name.
    #[schema(example = "Acme Inc.")]
    pub name: String,
    /// The limits that the operator has set for it.
    pub limits_set: LimitsBody,
    /// The limits that count.
    pub limits: LimitsView,
    /// What it has now.
    pub in_use: UseView,
}

async fn details(state: &ApiState, tenant: &TenantId) -> Answer<TenantDetailsView> {
    let name = |directory: &DirectoryState| Some(directory.tenants.get(tenant)?.name.clone());
    let name = state.find("tenant", name).await?;
    let directory = state.write_side.directory.snapshot();
    let owner = tenant.clone();
    let (contacts, _) = state.query(move |models| models.address_book.contact_count(&owner)).await?;
    let load = state.acceptance.room().load_of(tenant);
    Ok(TenantDetailsView {
        tenant: tenant.to_string(),
        name,
        limits_set: directory.limits.get(tenant).copied().unwrap_or_default().into(),
        limits: directory.limits_of(tenant, &state.acceptance.limits().tenant).into(),
        in_use: UseView {
            open_messages: load.open(),
            open_passwords: load.passwords,
            scheduled_messages: load.scheduled,
            contacts,
        },
    })
}

/// Shows a tenant with its limits and what it has now.
#[utoipa::path(
    get, path = "/v1/admin/tenants/{tenant}", tag = "admin", operation_id = "get_tenant",
    params(("tenant" = String, Path, description = "The tenant's id")),
    responses((status = 200, description = "The tenant.", body = TenantDetailsView))
)]
pub async fn get(
    state: State<ApiState>,
    _auth: AdminAuth,
    tenant: ApiPath<String>,
) -> Answer<Json<TenantDetailsView>> {
    let tenant: TenantId = tenant.parse().map_err(|_| Problem::not_found("tenant"))?;
    details(&state, &tenant).await.map(Json)
}

/// Sets the limits of a tenant: all of them; what is left out is as the platform's configuration says.
///
/// A lower limit cancels nothing that was accepted: new requests wait until there is room again.
#[utoipa::path(
    put, path = "/v1/admin/tenants/{tenant}/limits", tag = "admin", operation_id = "set_tenant_limits",
    params(("tenant" = String, Path, description = "The tenant's id")), request_body = LimitsBody,
    responses((status = 200, description = "The tenant has these limits.", body = TenantDetailsView))
)]
pub async fn set_limits(
    state: State<ApiState>,
    auth: AdminAuth,
    tenant: ApiPath<String>,
    ApiJson(body): ApiJson<LimitsBody>,
) -> Answer<Written<TenantDetailsView>> {
    let tenant: TenantId = tenant.parse().map_err(|_| Problem::not_found("tenant"))?;
    let limits = body.check()?;
    let done = state.write_side.manage.set_tenant_limits(&state.cause(&auth.actor), &tenant, limits).await?;
    Ok(Written::changed(done.position, details(&state, &tenant).await?))
}

/// Lists all tenants.
#[utoipa::path(
    get, path = "/v1/admin/tenants", tag = "admin", operation_id = "list_tenants",
    responses((status = 200, description = "All tenants.", body = Tenants))
)]
pub async fn list(state: State<ApiState>, _auth: AdminAuth) -> Json<Tenants> {
    let directory = state.write_side.directory.snapshot();
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
    let done =
        state.write_side.manage.create_tenant(&state.cause(&auth.actor), tenant, body.name.clone()).await?;
    Ok(Written::created(done.position, format!("/v1/admin/tenants/{}", body.tenant), body))
}
