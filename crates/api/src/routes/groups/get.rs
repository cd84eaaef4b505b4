//! `GET /v1/groups/{group}`

use axum::Json;
use axum::extract::State;

use super::GroupView;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// Shows a group.
#[utoipa::path(
    get, path = "/v1/groups/{group}", tag = "groups", operation_id = "get_group",
    params(("group" = String, Path, description = "The group's id")),
    responses((status = 200, description = "The group.", body = GroupView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    group: ApiPath<String>,
) -> Answer<Json<GroupView>> {
    let id = group.parse().map_err(|_| Problem::not_found("group"))?;
    Ok(Json(super::find(&state, &auth.tenant, id).await?.into()))
}
