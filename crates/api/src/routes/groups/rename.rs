//! `PUT /v1/groups/{group}`

use axum::extract::State;

use super::GroupBody;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::Answer;
use crate::routes::contacts::Saved;
use crate::state::ApiState;

/// Renames a group.
#[utoipa::path(
    put, path = "/v1/groups/{group}", tag = "groups", operation_id = "rename_group",
    params(("group" = String, Path, description = "The group's id")), request_body = GroupBody,
    responses((status = 200, description = "The group has its new name.", body = Saved))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    group: ApiPath<String>,
    ApiJson(body): ApiJson<GroupBody>,
) -> Answer<Written<Saved>> {
    let known = super::own_group(&state, &auth.tenant, &group).await?;
    let name = body.check(&state, &auth.tenant, Some(known.id)).await?;
    let position = state
        .write_side
        .address_book
        .save_group(&state.cause(&auth.actor), &auth.tenant, known.id, name)
        .await?;
    state.note_contact_write(&auth.tenant, position);
    Ok(Written::changed(position, Saved { id: known.id.to_string() }))
}
