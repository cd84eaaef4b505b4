//! `POST /v1/groups`

use axum::extract::State;
use kite_domain::ids::GroupId;

use super::GroupBody;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiJson;
use crate::problem::Answer;
use crate::routes::contacts::Saved;
use crate::state::ApiState;

/// Makes a group.
#[utoipa::path(
    post, path = "/v1/groups", tag = "groups", operation_id = "create_group", request_body = GroupBody,
    responses((status = 201, description = "The group is there.", body = Saved))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiJson(body): ApiJson<GroupBody>,
) -> Answer<Written<Saved>> {
    state.own_contact_writes(&auth.tenant).await?;
    let name = body.check(&state, &auth.tenant, None).await?;
    let id = GroupId(state.write_side.journal.next_id());
    let position =
        state.write_side.address_book.save_group(&state.cause(&auth.actor), &auth.tenant, id, name).await?;
    state.note_contact_write(&auth.tenant, position);
    Ok(Written::created(position, format!("/v1/groups/{id}"), Saved { id: id.to_string() }))
}
