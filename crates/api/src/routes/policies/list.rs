//! `GET /v1/policies`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::PolicyVersion;
use crate::auth::TenantAuth;
use crate::problem::Answer;
use crate::state::ApiState;

/// Policies.
#[derive(Debug, Serialize, ToSchema)]
pub struct Policies {
    /// At most one per channel where the newest are asked for; newest first where versions are.
    pub items: Vec<PolicyVersion>,
}

/// Lists the policies in force, one per channel.
#[utoipa::path(
    get, path = "/v1/policies", tag = "policies", operation_id = "list_policies",
    responses((status = 200, description = "The policies.", body = Policies))
)]
pub async fn handler(state: State<ApiState>, auth: TenantAuth) -> Answer<Json<Policies>> {
    let policies = state.query(move |models| models.routing.policies(&auth.tenant)).await?;
    Ok(Json(Policies { items: policies.into_iter().map(Into::into).collect() }))
}
