//! `DELETE /v1/contacts/{contact}`

use axum::extract::State;

use super::get;
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::Answer;
use crate::state::ApiState;

/// Deletes a contact, from all its groups too.
#[utoipa::path(
    delete, path = "/v1/contacts/{contact}", tag = "contacts", operation_id = "delete_contact",
    params(("contact" = String, Path, description = "The contact's id")),
    responses((status = 204, description = "The contact is gone."))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    contact: ApiPath<String>,
) -> Answer<Written<()>> {
    state.own_contact_writes(&auth.tenant).await?;
    let known = get::find(&state, &auth.tenant, &contact).await?;
    let cause = state.cause(&auth.actor);
    let position = state.write_side.address_book.delete_contact(&cause, &auth.tenant, known.id).await?;
    state.note_contact_write(&auth.tenant, position);
    Ok(Written::done(position))
}
