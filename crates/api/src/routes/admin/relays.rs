//! `/v1/admin/relays`: list, show, define, suspend, resume, check

use axum::Json;
use axum::extract::State;
use kite_commands::WriteSide;
use kite_domain::slug::RelayId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::not_understood::{Strange, strange};
use super::relay_now::RelayCheckView;
use super::relay_profile::{RelayBody, RelayView};
use super::{relay_of, relay_problem};
use crate::answer::Written;
use crate::auth::AdminAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::lengths::{REASON_CHARACTERS_MAX, Text, check};
use crate::state::ApiState;

/// All relays.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminRelays {
    /// By id.
    pub items: Vec<RelayView>,
}

/// Why a relay is taken out of use.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspendBody {
    /// In the operator's words; shown wherever the relay is left out.
    #[schema(example = "contract ended", max_length = 500)]
    pub reason: String,
}

async fn show(state: &ApiState, relay: &RelayId, strange: Strange) -> Answer<RelayView> {
    let entry = state.find("relay", |directory| directory.relays.get(relay).cloned()).await?;
    Ok(RelayView::of(&entry, &*state.relay_desk, strange, state.write_side.journal.now()))
}

/// The relay after a write. The write is durable, so it is shown even if a read model does not answer.
async fn show_written(state: &ApiState, relay: &RelayId) -> Answer<RelayView> {
    let found = strange(state, vec![relay.clone()]).await.ok().and_then(|mut found| found.pop());
    show(state, relay, found.unwrap_or_default()).await
}

/// Lists all relays with their terms.
#[utoipa::path(
    get, path = "/v1/admin/relays", tag = "admin", operation_id = "admin_list_relays",
    responses((status = 200, description = "All relays.", body = AdminRelays))
)]
pub async fn list(state: State<ApiState>, _auth: AdminAuth) -> Answer<Json<AdminRelays>> {
    let directory = state.write_side.directory.snapshot();
    let relays = directory.relays.iter().map(|(relay, _)| relay.clone()).collect();
    let found = strange(&state, relays).await?;
    let now = state.write_side.journal.now();
    let view = |((_, entry), strange)| RelayView::of(entry, &*state.relay_desk, strange, now);
    Ok(Json(AdminRelays { items: directory.relays.iter().zip(found).map(view).collect() }))
}

/// Shows a relay with its terms.
#[utoipa::path(
    get, path = "/v1/admin/relays/{relay}", tag = "admin", operation_id = "admin_get_relay",
    params(("relay" = String, Path, description = "The relay's id")),
    responses((status = 200, description = "The relay.", body = RelayView))
)]
pub async fn get(
    state: State<ApiState>,
    _auth: AdminAuth,
    relay: ApiPath<String>,
) -> Answer<Json<RelayView>> {
    let relay = relay_of(&relay)?;
    let found = strange(&state, vec![relay.clone()]).await?.pop().unwrap_or_default();
    show(&state, &relay, found).await.map(Json)
}

/// Registers a relay, or gives one new terms: price table, limits, address.
#[utoipa::path(
    put, path = "/v1/admin/relays/{relay}", tag = "admin", operation_id = "define_relay",
    params(("relay" = String, Path, description = "The relay's id: `a-z`, `0-9` and `-`, at most 32 characters")),
    request_body = RelayBody,
    responses((status = 200, description = "The relay has these terms.", body = RelayView))
)]
pub async fn define(
    state: State<ApiState>,
    auth: AdminAuth,
    relay: ApiPath<String>,
    ApiJson(body): ApiJson<RelayBody>,
) -> Answer<Written<RelayView>> {
    let relay = RelayId::parse(&relay).map_err(|error| {
        Problem::new(Code::Refused, format!("The relay cannot be defined: {error}.")).at(FieldError::new(
            "relay",
            error.code(),
            error.to_string(),
        ))
    })?;
    // It is judged beside its last definition, which may be another process's of a moment ago.
    let WriteSide { directory, journal, .. } = &state.write_side;
    directory.catch_up(journal).await?;
    let directory = directory.snapshot();
    let known = directory.relays.get(&relay).map(|entry| {
        // What cannot be decrypted stays as it is, and cannot be compared with the rest.
        state.write_side.manage.vault().open(&entry.profile).unwrap_or_else(|_| (*entry.profile).clone())
    });
    let new =
        body.check(relay.clone(), known.as_ref(), state.write_side.journal.now()).map_err(|errors| {
            let first =
                errors.first().map_or_else(String::new, |error| format!("{}: {}", error.field, error.detail));
            Problem::new(Code::Refused, format!("The relay cannot be defined: {first}.")).with_errors(errors)
        })?;
    let done = state.write_side.manage.define_relay(&state.cause(&auth.actor), new).await?;
    Ok(Written::changed(done.position, show_written(&state, &relay).await?))
}

/// Takes a relay out of use. Only an operator puts it back.
#[utoipa::path(
    post, path = "/v1/admin/relays/{relay}/suspend", tag = "admin", operation_id = "suspend_relay",
    params(("relay" = String, Path, description = "The relay's id")), request_body = SuspendBody,
    responses((status = 200, description = "It is out of use.", body = RelayView))
)]
pub async fn suspend(
    state: State<ApiState>,
    auth: AdminAuth,
    relay: ApiPath<String>,
    ApiJson(body): ApiJson<SuspendBody>,
) -> Answer<Written<RelayView>> {
    let relay = relay_of(&relay)?;
    let text = Text { field: "reason", text: &body.reason, characters_max: REASON_CHARACTERS_MAX };
    check("The relay cannot be suspended", &text)?;
    if body.reason.trim().is_empty() {
        let error = FieldError::new("reason", "empty", "whoever looks at the relay next is to know why");
        return Err(Problem::new(Code::Refused, "The relay cannot be suspended without a reason.").at(error));
    }
    let done = state
        .write_side
        .manage
        .suspend_relay(&state.cause(&auth.actor), &relay, body.reason)
        .await
        .map_err(relay_problem)?;
    Ok(Written::changed(done.position, show_written(&state, &relay).await?))
}

/// Puts a relay back into use.
#[utoipa::path(
    post, path = "/v1/admin/relays/{relay}/resume", tag = "admin", operation_id = "resume_relay",
    params(("relay" = String, Path, description = "The relay's id")),
    responses((status = 200, description = "It is in use.", body = RelayView))
)]
pub async fn resume(
    state: State<ApiState>,
    auth: AdminAuth,
    relay: ApiPath<String>,
) -> Answer<Written<RelayView>> {
    let relay = relay_of(&relay)?;
    let done = state
        .write_side
        .manage
        .resume_relay(&state.cause(&auth.actor), &relay)
        .await
        .map_err(relay_problem)?;
    Ok(Written::changed(done.position, show_written(&state, &relay).await?))
}

/// Calls a relay without handing it a message, and reports the result step by step. For a relay that was defined
/// before such definitions were refused, it also says why it cannot be called.
#[utoipa::path(
    post, path = "/v1/admin/relays/{relay}/check", tag = "admin", operation_id = "check_relay",
    params(("relay" = String, Path, description = "The relay's id")),
    responses((status = 200, description = "What was found; `is_usable` sums it up.", body = RelayCheckView))
)]
pub async fn check_relay(
    state: State<ApiState>,
    _auth: AdminAuth,
    relay: ApiPath<String>,
) -> Answer<Json<RelayCheckView>> {
    let relay = relay_of(&relay)?;
    let entry = state.find("relay", |directory| directory.relays.get(&relay).cloned()).await?;
    Ok(Json(state.relay_desk.check(&entry.profile).await.into()))
}
