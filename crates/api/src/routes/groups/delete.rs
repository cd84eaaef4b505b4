//! `DELETE /v1/groups/{group}`

use axum::extract::State;

use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::Answer;
use crate::state::ApiState;

/// Deletes a group; its contacts stay.
#[utoipa::path(
    delete, path = "/v1/groups/{group}", tag = "groups", operation_id = "delete_group",
    params(("group" = String, Path, description = "The group's id")),
    responses((status = 204, description = "The group is gone."))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    group: ApiPath<String>,
) -> Answer<Written<()>> {
    let known = super::own_group(&state, &auth.tenant, &group).await?;
    let position =
        state.write_side.address_book.delete_group(&state.cause(&auth.actor), &auth.tenant, known.id).await?;
    state.note_contact_write(&auth.tenant, position);
    Ok(Written::done(position))
}
