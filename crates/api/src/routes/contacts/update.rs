//! `PUT /v1/contacts/{contact}`

use axum::extract::State;

use super::{ContactBody, Saved, create, get};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::Answer;
use crate::state::ApiState;

/// Replaces a contact: from now on it is as the body says.
#[utoipa::path(
    put, path = "/v1/contacts/{contact}", tag = "contacts", operation_id = "update_contact",
    params(("contact" = String, Path, description = "The contact's id")),
    request_body = ContactBody,
    responses((status = 200, description = "The contact is saved.", body = Saved))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    contact: ApiPath<String>,
    ApiJson(body): ApiJson<ContactBody>,
) -> Answer<Written<Saved>> {
    state.own_contact_writes(&auth.tenant).await?;
    let known = get::find(&state, &auth.tenant, &contact).await?;
    let details = vec![body.check(known.id).map_err(create::refused)?];
    let is_refusing = state.somebody_refuses(&auth.tenant, &details).await?;
    let cause = state.cause(&auth.actor);
    let position = state.write_side.address_book.save_contacts(&cause, &auth.tenant, None, details).await?;
    state.note_contact_write(&auth.tenant, position);
    if is_refusing {
        state.extend_refusals(&auth.tenant, position).await;
    }
    Ok(Written::changed(position, Saved { id: known.id.to_string() }))
}
