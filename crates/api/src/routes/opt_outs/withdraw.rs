//! `DELETE /v1/opt-outs/{address}`

use axum::extract::State;
use kite_commands::manage::{ManageError, ManageRefusal};

use super::canonical;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// Records that an address agrees to advertisements again.
#[utoipa::path(
    delete, path = "/v1/opt-outs/{address}", tag = "opt-outs", operation_id = "withdraw_opt_out",
    params(("address" = String, Path, description = "The number or address")),
    responses((status = 204, description = "The address may get advertisements again."))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    address: ApiPath<String>,
) -> Answer<Written<()>> {
    let address = canonical(&address)?;
    let done = state.manage.withdraw_opt_out(&state.cause(&auth.actor), &auth.tenant, &address).await;
    let done = done.map_err(|error| match error {
        ManageError::Refused(ManageRefusal::NoOptOut) => Problem::not_found("opt-out"),
        other => other.into(),
    })?;
    state.note_write(&auth.tenant, done.position);
    Ok(Written::done(done.position))
}
