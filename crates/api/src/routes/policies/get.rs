//! `GET /v1/policies/{channel}`

use axum::Json;
use axum::extract::State;

use super::{PolicyVersion, channel_of};
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;
use crate::vocabulary::ChannelWord;

/// Shows the policy of a channel that is in force.
#[utoipa::path(
    get, path = "/v1/policies/{channel}", tag = "policies", operation_id = "get_policy",
    params(("channel" = ChannelWord, Path, description = "The channel")),
    responses((status = 200, description = "The policy.", body = PolicyVersion))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    channel: ApiPath<String>,
) -> Answer<Json<PolicyVersion>> {
    let channel = channel_of(&channel)?;
    let policy = state.query(move |models| models.routing.policy(&auth.tenant, channel, None)).await?;
    policy.map(|policy| Json(policy.into())).ok_or_else(|| Problem::not_found("policy"))
}
