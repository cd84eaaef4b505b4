//! `GET /v1/contacts/{contact}`

use axum::Json;
use axum::extract::State;
use kite_domain::ids::ContactId;
use kite_domain::slug::TenantId;
use kite_projections::Contact;

use super::ContactView;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::freshness::Model;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// Shows a contact.
#[utoipa::path(
    get, path = "/v1/contacts/{contact}", tag = "contacts", operation_id = "get_contact",
    params(("contact" = String, Path, description = "The contact's id")),
    responses((status = 200, description = "The contact.", body = ContactView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    contact: ApiPath<String>,
) -> Answer<Json<ContactView>> {
    Ok(Json(find(&state, &auth.tenant, &contact).await?.into()))
}

/// The tenant's contact of this id, or the problem that there is none.
pub(super) async fn find(state: &ApiState, tenant: &TenantId, id: &str) -> Answer<Contact> {
    let id: ContactId = id.parse().map_err(|_| Problem::not_found("contact"))?;
    let owner = tenant.clone();
    let found = state
        .find_own(Model::AddressBook, tenant, move |models| models.address_book.contact(&owner, id))
        .await?;
    found.ok_or_else(|| Problem::not_found("contact"))
}
