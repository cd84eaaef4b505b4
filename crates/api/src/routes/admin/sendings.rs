//! `GET /v1/admin/sendings`, `POST /v1/admin/tenants/{tenant}/sendings/{sending}/pause`, `…/resume`, `…/cancel`

use axum::extract::State;
use axum::response::Response;
use kite_domain::sending::PauseBy;
use kite_domain::slug::TenantId;
use kite_projections::{KnownSending, SendingFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::answer::{Page, Written};
use crate::auth::AdminAuth;
use crate::export::{Column, Listed};
use crate::extract::{ApiJson, ApiPath, List, PageOrFile, Wanted};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::lengths::{REASON_CHARACTERS_MAX, Text, check};
use crate::routes::sendings::SendingView;
use crate::routes::sendings::cancel::CancelledView;
use crate::routes::sendings::pause::{PausedView, id_of};
use crate::state::ApiState;
use crate::vocabulary::{ClassWord, SendingStateWord};

/// Which sendings.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdminSendingsQuery {
    /// Whose; none: those of all tenants.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub tenant: Option<String>,
    /// Where they stand.
    pub state: Option<SendingStateWord>,
    /// How urgent.
    pub class: Option<ClassWord>,
}

impl List for AdminSendingsQuery {
    const NAME: &'static str = "all-sendings";
}

impl AdminSendingsQuery {
    fn filter(self) -> Answer<(Option<TenantId>, SendingFilter)> {
        let tenant = self.tenant.map(|tenant| tenant.parse::<TenantId>()).transpose();
        let tenant = tenant.map_err(|error| {
            Problem::new(Code::InvalidParameter, format!("The parameter tenant cannot be used: {error}."))
        })?;
        let (state, class) = (self.state.map(Into::into), self.class.map(Into::into));
        Ok((tenant, SendingFilter { state, class, ..SendingFilter::default() }))
    }
}

/// A sending, and whose it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AdminSending)]
pub struct AdminSendingView {
    /// Whose.
    #[schema(example = "acme")]
    pub tenant: String,
    /// The sending.
    pub sending: SendingView,
}

impl From<KnownSending> for AdminSendingView {
    fn from(sending: KnownSending) -> Self {
        Self { tenant: sending.tenant.to_string(), sending: sending.into() }
    }
}

impl Listed for AdminSendingView {
    const FILE: &'static str = "sendings";

    fn columns() -> Vec<Column<Self>> {
        let of_sending = SendingView::columns().into_iter();
        let of_sending =
            of_sending.map(|column| Column::new(column.name, move |row: &Self| (column.cell)(&row.sending)));
        let tenant = Column::new("tenant", |row: &Self| row.tenant.clone());
        [tenant].into_iter().chain(of_sending).collect()
    }
}

/// Why the operator does it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// In the operator's words; the tenant sees it.
    #[schema(example = "complaints of recipients", max_length = 500)]
    pub reason: String,
}

impl ReasonBody {
    pub(super) fn check(self, what: &str) -> Answer<Option<String>> {
        check_reason(what, &self.reason)?;
        Ok(Some(self.reason))
    }
}

/// An action on a tenant's sending needs a reason that can be read.
pub(super) fn check_reason(what: &str, reason: &str) -> Answer<()> {
    check(what, &Text { field: "reason", text: reason, characters_max: REASON_CHARACTERS_MAX })?;
    if reason.trim().is_empty() {
        let error = FieldError::new("reason", "empty", "the tenant sees why");
        return Err(Problem::new(Code::Refused, format!("{what} without a reason.")).at(error));
    }
    Ok(())
}

pub(super) fn tenant_of(text: &str) -> Answer<TenantId> {
    text.parse().map_err(|_| Problem::not_found("tenant"))
}

/// Lists the sendings of all tenants, or of one, newest first.
///
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all of them as a file of at most 1,000,000 rows and
/// half an hour; a longer file is broken off.
#[utoipa::path(
    get, path = "/v1/admin/sendings", tag = "admin", operation_id = "admin_list_sendings",
    params(PageOrFile<AdminSendingsQuery>),
    responses((status = 200, description = "A page of sendings.", content(
        (Page<AdminSendingView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn list(
    state: State<ApiState>,
    _auth: AdminAuth,
    list: PageOrFile<AdminSendingsQuery>,
) -> Answer<Response> {
    let which = list.query.filter()?;
    list.form.answer(&state, None, which, page).await
}

async fn page(
    state: ApiState,
    (tenant, filter): (Option<TenantId>, SendingFilter),
    wanted: Wanted<AdminSendingsQuery>,
) -> Answer<Page<AdminSendingView>> {
    let sendings = wanted.read(&state, move |models, after, limit| {
        models.delivery.sendings(tenant.as_ref(), &filter, after, limit)
    });
    Ok(sendings.await?.map(Into::into))
}

/// Pauses a sending of a tenant. The tenant sees it, with the reason, and cannot resume it.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant}/sendings/{sending}/pause", tag = "admin",
    operation_id = "admin_pause_sending",
    params(("tenant" = String, Path, description = "The tenant's id"), ("sending" = String, Path, description = "The sending's id")),
    request_body = ReasonBody, responses((status = 200, description = "It is paused.", body = PausedView))
)]
pub async fn pause(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath((tenant, sending)): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Answer<Written<PausedView>> {
    let (tenant, id) = (tenant_of(&tenant)?, id_of(&sending)?);
    let reason = body.check("The sending cannot be paused")?;
    let cause = state.cause(&auth.actor);
    let outcome = state.acceptance.pause(&cause, &tenant, id, PauseBy::Operator, reason).await?;
    state.note_write(&tenant, outcome.position);
    Ok(Written::changed(outcome.position, outcome.into()))
}

/// Resumes a sending of a tenant, whoever paused it.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant}/sendings/{sending}/resume", tag = "admin",
    operation_id = "admin_resume_sending",
    params(("tenant" = String, Path, description = "The tenant's id"), ("sending" = String, Path, description = "The sending's id")),
    request_body = ReasonBody, responses((status = 200, description = "It goes on.", body = PausedView))
)]
pub async fn resume(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath((tenant, sending)): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Answer<Written<PausedView>> {
    let (tenant, id) = (tenant_of(&tenant)?, id_of(&sending)?);
    let reason = body.check("The sending cannot be resumed")?;
    let cause = state.cause(&auth.actor);
    let outcome = state.acceptance.resume(&cause, &tenant, id, PauseBy::Operator, reason).await?;
    state.note_write(&tenant, outcome.position);
    Ok(Written::changed(outcome.position, outcome.into()))
}

/// Cancels a sending of a tenant: what is not handed over yet never will be. Messages that a relay already has
/// continue.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant}/sendings/{sending}/cancel", tag = "admin",
    operation_id = "admin_cancel_sending",
    params(("tenant" = String, Path, description = "The tenant's id"), ("sending" = String, Path, description = "The sending's id")),
    request_body = ReasonBody, responses((status = 200, description = "It is cancelled.", body = CancelledView))
)]
pub async fn cancel(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath((tenant, sending)): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Answer<Written<CancelledView>> {
    let (tenant, id) = (tenant_of(&tenant)?, id_of(&sending)?);
    let reason = body.check("The sending cannot be cancelled")?;
    let outcome = state.acceptance.cancel(&state.cause(&auth.actor), &tenant, id, reason).await?;
    state.note_write(&tenant, outcome.position);
    Ok(Written::changed(outcome.position, outcome.into()))
}
