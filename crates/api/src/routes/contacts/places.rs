//! Places for contacts: a tenant stores no more of them than its limit allows.
//!
//! Far from the limit this costs one look at a counter. Only near the limit are existing contacts, which take no
//! place, told apart from new ones.

use kite_commands::accept::note_limited;
use kite_commands::address_book::{ContactPlaces, CountedContacts};
use kite_domain::contact::ContactDetails;
use kite_domain::slug::TenantId;

use crate::problem::{Answer, FieldError};
use crate::state::ApiState;

/// Gives places to new contacts, and names those for which there is none, by their place in the list.
pub(super) async fn reserve(
    state: &ApiState,
    tenant: &TenantId,
    contacts: &[ContactDetails],
) -> Answer<(ContactPlaces, Vec<usize>)> {
    let most = state.acceptance.limits_of(tenant).contacts_max;
    state.contacts_are_counted().await?;
    let wanted = contacts.len() as u64;
    let places = state.write_side.address_book.reserve(tenant, counted(state, tenant).await?, wanted, most);
    if places.granted() == wanted {
        return Ok((places, Vec::new()));
    }
    drop(places);
    state.own_contact_writes(tenant).await?;
    let counted = counted(state, tenant).await?;
    let addresses: Vec<_> =
        contacts.iter().map(|contact| (contact.phone.clone(), contact.email.clone())).collect();
    let owner = tenant.clone();
    let known = state.query(move |models| models.address_book.has_contacts(&owner, &addresses)).await?;
    let fresh: Vec<usize> = (0..contacts.len()).filter(|place| !known[*place]).collect();
    let places = state.write_side.address_book.reserve(tenant, counted, fresh.len() as u64, most);
    let granted = usize::try_from(places.granted()).unwrap_or(usize::MAX);
    let without: Vec<usize> = fresh.into_iter().skip(granted).collect();
    if !without.is_empty() {
        note_limited("contacts");
    }
    Ok((places, without))
}

async fn counted(state: &ApiState, tenant: &TenantId) -> Answer<CountedContacts> {
    let owner = tenant.clone();
    let (contacts, position) = state.query(move |models| models.address_book.contact_count(&owner)).await?;
    Ok(CountedContacts { contacts, position })
}

/// What is said of a contact without a place.
pub(super) fn no_place() -> FieldError {
    FieldError::new("row", "contacts_limit", "the tenant has as many contacts as it may have")
}
