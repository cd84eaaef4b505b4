//! `GET /v1/policies/{channel}/versions`

use axum::Json;
use axum::extract::State;

use super::channel_of;
use super::list::Policies;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::Answer;
use crate::state::ApiState;
use crate::vocabulary::ChannelWord;

/// Lists all versions of the policy of a channel, the newest first.
#[utoipa::path(
    get, path = "/v1/policies/{channel}/versions", tag = "policies", operation_id = "list_policy_versions",
    params(("channel" = ChannelWord, Path, description = "The channel")),
    responses((status = 200, description = "All versions.", body = Policies))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    channel: ApiPath<String>,
) -> Answer<Json<Policies>> {
    let channel = channel_of(&channel)?;
    let versions = state.query(move |models| models.routing.policy_versions(&auth.tenant, channel)).await?;
    Ok(Json(Policies { items: versions.into_iter().map(Into::into).collect() }))
}
