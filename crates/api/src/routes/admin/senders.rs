//! `GET /v1/admin/senders`, `GET /v1/admin/tenants/{tenant}/senders/{address}`, `POST …/approve`, `…/refuse`, `…/withdraw`

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use kite_commands::directory::DirectoryState;
use kite_commands::manage::{Done, ManageError, ManageRefusal};
use kite_domain::sender::{Approval, SenderIdentity};
use kite_domain::slug::TenantId;
use kite_projections::{Cursor, QueryError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::sendings::{ReasonBody, check_reason, tenant_of};
use crate::answer::{Page, Written};
use crate::auth::AdminAuth;
use crate::extract::{ApiJson, ApiPath, List, PageOf, Wanted};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::lengths::{Text, check};
use crate::routes::senders::request::{relays_of, unknown_relay};
use crate::routes::senders::{SenderView, canonical, problem_of};
use crate::state::ApiState;
use crate::vocabulary::SenderStatusWord;

/// The longest reference of a document, in characters.
const DOCUMENT_CHARACTERS_MAX: usize = 200;

/// Which sender identities.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdminSendersQuery {
    /// Whose; none: those of all tenants.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub tenant: Option<String>,
    /// Their status; `requested` are those that wait for an answer and cannot be used; none: all.
    pub status: Option<SenderStatusWord>,
    /// Only those with a request that waits for an answer, even beside a valid approval.
    pub waiting: bool,
}

/// A sender identity, and whose it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AdminSender)]
pub struct AdminSenderView {
    /// Whose.
    #[schema(example = "acme")]
    pub tenant: String,
    /// The sender.
    pub sender: SenderView,
}

/// The document of an approval, its expiry, and the relays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalBody {
    /// The document that it is based on (통신서비스 이용증명원 and the like), by your own reference.
    #[schema(example = "certificate 2027-0117", min_length = 1, max_length = 200)]
    pub document: String,
    /// It can be used before this time; at most ten years ahead.
    #[schema(example = "2028-01-17T00:00:00+09:00")]
    pub expires_at: DateTime<Utc>,
    /// The relays that it is registered with; no other relay carries its messages.
    #[schema(example = json!(["alpha", "beta"]), min_items = 1, max_items = 100)]
    pub relays: Vec<String>,
    /// Another tenant may have the same address. Without this an address belongs to one tenant.
    #[serde(default)]
    pub shared: bool,
    /// The time of the request that you looked at, as `request` shows it: if another request waits by now, nothing is
    /// approved. None: whatever waits is approved.
    pub requested_at: Option<DateTime<Utc>>,
}

/// Why what a tenant asked for is refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SenderRefusalBody {
    /// In the operator's words; the tenant sees it.
    #[schema(example = "the document is of another number", max_length = 500)]
    pub reason: String,
    /// The time of the request that you looked at, as `request` shows it: if another request waits by now, nothing is
    /// refused. None: whatever waits is refused.
    pub requested_at: Option<DateTime<Utc>>,
}

impl ApprovalBody {
    fn check(self) -> Answer<Approval> {
        const WHAT: &str = "The sender cannot be approved";
        let text = Text { field: "document", text: &self.document, characters_max: DOCUMENT_CHARACTERS_MAX };
        check(WHAT, &text)?;
        let refused =
            |error: FieldError| Problem::new(Code::Refused, format!("{WHAT}: {}.", error.detail)).at(error);
        let document = self.document.trim();
        if document.is_empty() {
            let detail = "an approval names the document that it rests upon";
            return Err(refused(FieldError::new("document", "empty", detail)));
        }
        let relays = relays_of(&self.relays).map_err(refused)?;
        if relays.is_empty() {
            let detail = "an approval names the relays that the sender is registered with";
            return Err(refused(FieldError::new("relays", "empty", detail)));
        }
        let (document, expires_at) = (document.to_owned(), self.expires_at);
        let Self { shared, requested_at, .. } = self;
        Ok(Approval { document, expires_at, relays, shared, requested_at })
    }
}

impl List for AdminSendersQuery {
    const NAME: &'static str = "all-senders";
}

/// Where the list goes on: the tenant, a blank, the address by which it is known.
fn place(address: &str, tenant: &TenantId) -> Cursor {
    Cursor::of_text(&format!("{tenant} {address}"))
}

/// After which address of which tenant.
fn after(page: &Wanted<AdminSendersQuery>) -> Answer<Option<(&str, &str)>> {
    let Some(place) = page.after_text()? else { return Ok(None) };
    let (tenant, address) = place.split_once(' ').ok_or(QueryError::Cursor)?;
    Ok(Some((address, tenant)))
}

/// Lists the sender identities of all tenants, or of one, by address.
#[utoipa::path(
    get, path = "/v1/admin/senders", tag = "admin", operation_id = "admin_list_senders",
    params(PageOf<AdminSendersQuery>),
    responses((status = 200, description = "A page of senders.", body = Page<AdminSenderView>))
)]
pub async fn list(
    state: State<ApiState>,
    _auth: AdminAuth,
    PageOf { query, page }: PageOf<AdminSendersQuery>,
) -> Answer<Json<Page<AdminSenderView>>> {
    let (after, limit) = (after(&page)?, page.limit);
    let tenant = query.tenant.map(|tenant| tenant.parse::<TenantId>()).transpose();
    let tenant = tenant.map_err(|error| {
        Problem::new(Code::InvalidParameter, format!("The parameter tenant cannot be used: {error}."))
    })?;
    let now = state.write_side.journal.now();
    let is_wanted = |(_, whose, identity): &(&str, &TenantId, &SenderIdentity)| {
        tenant.as_ref().is_none_or(|tenant| tenant == *whose)
            && query.status.is_none_or(|status| status == identity.status(now).into())
            && (!query.waiting || identity.request.is_some())
    };
    let directory = state.write_side.directory.snapshot();
    let mut found: Vec<_> = directory.senders.iter_after(after).filter(is_wanted).take(limit + 1).collect();
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more);
    let next = last.map(|(address, tenant, _)| Wanted::<AdminSendersQuery>::cursor(&place(address, tenant)));
    let view = |(_, tenant, identity): (&str, &TenantId, &SenderIdentity)| AdminSenderView {
        tenant: tenant.to_string(),
        sender: SenderView::at(now, identity),
    };
    Ok(Json(Page { items: found.into_iter().map(view).collect(), next }))
}

/// Shows a sender identity of a tenant.
#[utoipa::path(
    get, path = "/v1/admin/tenants/{tenant}/senders/{address}", tag = "admin", operation_id = "admin_get_sender",
    params(("tenant" = String, Path, description = "The tenant's id"), ("address" = String, Path, description = "The number or address")),
    responses((status = 200, description = "The sender.", body = AdminSenderView))
)]
pub async fn get(
    state: State<ApiState>,
    _auth: AdminAuth,
    ApiPath((tenant, address)): ApiPath<(String, String)>,
) -> Answer<Json<AdminSenderView>> {
    let tenant = tenant_of(&tenant)?;
    let now = state.write_side.journal.now();
    let look = |directory: &DirectoryState| {
        let identity = directory.senders.identity(&tenant, &canonical(&address))?;
        Some(SenderView::at(now, identity))
    };
    let sender = state.find("sender", look).await?;
    Ok(Json(AdminSenderView { tenant: tenant.to_string(), sender }))
}

/// Approves the tenant's request, or renews an approval: from now on the sender can be used through these relays.
///
/// An address that another tenant has is approved only with `shared`.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant}/senders/{address}/approve", tag = "admin",
    operation_id = "admin_approve_sender",
    params(("tenant" = String, Path, description = "The tenant's id"), ("address" = String, Path, description = "The number or address")),
    request_body = ApprovalBody, responses((status = 200, description = "It may send.", body = SenderView))
)]
pub async fn approve(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath((tenant, address)): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<ApprovalBody>,
) -> Answer<Written<SenderView>> {
    let (tenant, address) = (tenant_of(&tenant)?, canonical(&address));
    let approval = body.check()?;
    let relays = approval.relays.clone();
    let done =
        state.write_side.manage.approve_sender(&state.cause(&auth.actor), &tenant, &address, approval).await;
    match done {
        Err(error @ ManageError::Refused(ManageRefusal::NoRelay(_))) => Err(unknown_relay(error, &relays)),
        done => answer(&state, done),
    }
}

/// Refuses the tenant's request. An earlier approval stays valid; to end that too, withdraw the sender.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant}/senders/{address}/refuse", tag = "admin",
    operation_id = "admin_refuse_sender",
    params(("tenant" = String, Path, description = "The tenant's id"), ("address" = String, Path, description = "The number or address")),
    request_body = SenderRefusalBody, responses((status = 200, description = "It is refused.", body = SenderView))
)]
pub async fn refuse(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath((tenant, address)): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<SenderRefusalBody>,
) -> Answer<Written<SenderView>> {
    let (tenant, address) = (tenant_of(&tenant)?, canonical(&address));
    check_reason("The sender cannot be refused", &body.reason)?;
    let (cause, SenderRefusalBody { reason, requested_at }) = (state.cause(&auth.actor), body);
    let done = state.write_side.manage.refuse_sender(&cause, &tenant, &address, reason, requested_at).await;
    answer(&state, done)
}

/// Takes a sender away from a tenant: it can no longer be used, and its request is dropped.
#[utoipa::path(
    post, path = "/v1/admin/tenants/{tenant}/senders/{address}/withdraw", tag = "admin",
    operation_id = "admin_withdraw_sender",
    params(("tenant" = String, Path, description = "The tenant's id"), ("address" = String, Path, description = "The number or address")),
    request_body = ReasonBody, responses((status = 200, description = "It may no longer send.", body = SenderView))
)]
pub async fn withdraw(
    state: State<ApiState>,
    auth: AdminAuth,
    ApiPath((tenant, address)): ApiPath<(String, String)>,
    ApiJson(body): ApiJson<ReasonBody>,
) -> Answer<Written<SenderView>> {
    let (tenant, address) = (tenant_of(&tenant)?, canonical(&address));
    let reason = body.check("The sender cannot be withdrawn")?;
    let done =
        state.write_side.manage.withdraw_sender(&state.cause(&auth.actor), &tenant, &address, reason).await;
    answer(&state, done)
}

fn answer(state: &ApiState, done: Result<Done<SenderIdentity>, ManageError>) -> Answer<Written<SenderView>> {
    let done = done.map_err(problem_of)?;
    Ok(Written::changed(done.position, SenderView::at(state.write_side.journal.now(), &done.value)))
}
