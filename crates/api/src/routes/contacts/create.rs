//! `POST /v1/contacts`

use axum::extract::State;
use kite_domain::ids::ContactId;

use super::{ContactBody, Saved, places};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiJson;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// Saves a contact.
///
/// A contact with an address that another contact of the tenant has is the same contact: the two are merged, and
/// either id finds it.
#[utoipa::path(
    post, path = "/v1/contacts", tag = "contacts", operation_id = "create_contact",
    request_body = ContactBody,
    responses((status = 201, description = "The contact is saved.", body = Saved))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiJson(body): ApiJson<ContactBody>,
) -> Answer<Written<Saved>> {
    let id = ContactId(state.write_side.journal.next_id());
    let details = body.check(id).map_err(refused)?;
    let details = vec![details];
    let (places, without) = places::reserve(&state, &auth.tenant, &details).await?;
    if !without.is_empty() {
        return Err(refused(vec![places::no_place()]));
    }
    let is_refusing = state.somebody_refuses(&auth.tenant, &details).await?;
    let cause = state.cause(&auth.actor);
    let position = state.write_side.address_book.save_contacts(&cause, &auth.tenant, None, details).await?;
    places.are_written(position);
    state.note_contact_write(&auth.tenant, position);
    if is_refusing {
        state.extend_refusals(&auth.tenant, position).await;
    }
    Ok(Written::created(position, format!("/v1/contacts/{id}"), Saved { id: id.to_string() }))
}

/// A contact that breaks a rule.
pub(super) fn refused(errors: Vec<crate::problem::FieldError>) -> Problem {
    let first = errors.first().map_or_else(String::new, |error| error.detail.clone());
    Problem::new(Code::Refused, format!("The contact cannot be saved: {first}.")).with_errors(errors)
}
