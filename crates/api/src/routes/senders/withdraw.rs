//! `DELETE /v1/senders/{address}`

use axum::extract::State;

use super::{canonical, problem_of};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::Answer;
use crate::state::ApiState;

/// Withdraws a sender identity: it can no longer be used, and its request is dropped.
///
/// Messages that are not handed over yet are not sent with it. To use it again, ask for it again.
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
    let cause = state.cause(&auth.actor);
    let done = state.write_side.manage.withdraw_sender(&cause, &auth.tenant, &address, None).await;
    Ok(Written::done(done.map_err(problem_of)?.position))
}
