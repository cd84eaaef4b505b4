//! `DELETE /v1/senders/{address}`

use axum::extract::State;
use kite_commands::manage::{ManageError, ManageRefusal};

use super::canonical;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// Withdraws a sender identity: it may no longer send.
#[utoipa::path(
    delete, path = "/v1/senders/{address}", tag = "senders", operation_id = "withdraw_sender",
    params(("address" = String, Path, description = "The number or address")),
    responses((status = 204, description = "The sender may no longer send."))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    address: ApiPath<String>,
) -> Answer<Written<()>> {
    let address = canonical(&address);
    let done = state.manage.withdraw_sender(&state.cause(&auth.actor), &auth.tenant, &address).await;
    let done = done.map_err(|error| match error {
        ManageError::Refused(ManageRefusal::NoSender(_)) => Problem::not_found("sender"),
        other => other.into(),
    })?;
    Ok(Written::done(done.position))
}
