//! `DELETE /v1/opt-outs/{address}`

use axum::extract::State;
use kite_commands::manage::{ManageError, ManageRefusal};
use serde::Deserialize;
use utoipa::IntoParams;

use super::checked;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiPath, ApiQuery};
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// What is taken back.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WithdrawQuery {
    /// Only the refusal of this brand; none: every refusal of the address.
    pub brand: Option<String>,
}

/// Records that an address agrees to advertisements again. Refusals by other addresses of the same person still
/// apply.
#[utoipa::path(
    delete, path = "/v1/opt-outs/{address}", tag = "opt-outs", operation_id = "withdraw_opt_out",
    params(("address" = String, Path, description = "The number or address"), WithdrawQuery),
    responses((status = 204, description = "The address may get advertisements again."))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    address: ApiPath<String>,
    ApiQuery(query): ApiQuery<WithdrawQuery>,
) -> Answer<Written<()>> {
    let address = checked(&address)?;
    let cause = state.cause(&auth.actor);
    let brand = query.brand.as_deref();
    let done = state.write_side.manage.withdraw_opt_out(&cause, &auth.tenant, &address, brand).await;
    let done = done.map_err(|error| match error {
        ManageError::Refused(ManageRefusal::NoOptOut) => Problem::not_found("opt-out"),
        other => other.into(),
    })?;
    Ok(Written::done(done.position))
}
