//! Writing the address book. Nothing is decided here: the newest event counts, and the read model merges contacts
//! that share an address, in the order of the log.

use kite_domain::contact::{
    ContactDeleted, ContactDetails, ContactsPersonal, ContactsSaved, GroupDeleted, GroupMembersChanged,
    GroupSaved, stream,
};
use kite_domain::event::Event;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use kite_event_store::{AppendError, Expected, Position};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use crate::journal::{Cause, Entry, Journal};

/// How many contacts go into one event.
const CONTACTS_PER_EVENT: usize = 1_000;
/// How many members join or leave in one event.
const MEMBERS_PER_EVENT: usize = 10_000;

/// The address book's write side. Cheap to clone.
#[derive(Clone)]
pub struct AddressBook {
    journal: Journal,
    places: Arc<Mutex<HashMap<TenantId, Vec<Given>>>>,
}

/// Places that were given and that the read model may not count yet.
#[derive(Debug, Clone, Copy)]
struct Given {
    id: u64,
    contacts: u64,
    /// The position of the contacts in the log, once they are in it.
    position: Option<Position>,
}

/// The read model's information about a tenant's contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedContacts {
    /// How many there are.
    pub contacts: u64,
    /// Up to where in the log.
    pub position: Position,
}

/// Places for new contacts. Given back when it is dropped before the contacts are written.
pub struct ContactPlaces {
    book: AddressBook,
    tenant: TenantId,
    id: u64,
    granted: u64,
}

impl ContactPlaces {
    /// For how many contacts.
    pub fn granted(&self) -> u64 {
        self.granted
    }

    /// The contacts are in the log: the places count until the read model has passed them.
    pub fn are_written(self, position: Position) {
        if let Some(given) = self.book.places.lock().get_mut(&self.tenant) {
            given.iter_mut().filter(|one| one.id == self.id).for_each(|one| one.position = Some(position));
        }
    }
}

impl Drop for ContactPlaces {
    fn drop(&mut self) {
        let mut places = self.book.places.lock();
        let Some(given) = places.get_mut(&self.tenant) else { return };
        given.retain(|one| one.id != self.id || one.position.is_some());
        if given.is_empty() {
            places.remove(&self.tenant);
        }
    }
}

impl AddressBook {
    /// Writes to this log.
    pub fn new(journal: Journal) -> Self {
        Self { journal, places: Arc::default() }
    }

    /// Gives places for new contacts, as many as are wanted, or as many as are left of the tenant's limit. Two
    /// callers at once never get the same place.
    pub fn reserve(
        &self,
        tenant: &TenantId,
        counted: CountedContacts,
        wanted: u64,
        contacts_max: u64,
    ) -> ContactPlaces {
        let mut places = self.places.lock();
        let given = places.entry(tenant.clone()).or_default();
        given.retain(|one| one.position.is_none_or(|position| position > counted.position));
        let taken: u64 = given.iter().map(|one| one.contacts).sum();
        let left = contacts_max.saturating_sub(counted.contacts.saturating_add(taken));
        let granted = wanted.min(left);
        let id = given.last().map_or(0, |last| last.id + 1);
        given.push(Given { id, contacts: granted, position: None });
        ContactPlaces { book: self.clone(), tenant: tenant.clone(), id, granted }
    }

    /// New or changed contacts, in one append however many they are: all of them, or none. They join the group, if
    /// one is given.
    pub async fn save_contacts(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        group: Option<GroupId>,
        contacts: Vec<ContactDetails>,
    ) -> Result<Position, AppendError> {
        let events = contacts
            .chunks(CONTACTS_PER_EVENT)
            .map(|some| {
                let personal = ContactsPersonal { contacts: some.to_vec() };
                ContactsSaved { tenant: tenant.clone(), group, personal }.into()
            })
            .collect();
        self.write(cause, tenant, events).await
    }

    /// A contact is gone, from all its groups too.
    pub async fn delete_contact(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        contact: ContactId,
    ) -> Result<Position, AppendError> {
        self.write(cause, tenant, vec![ContactDeleted { tenant: tenant.clone(), contact }.into()]).await
    }

    /// A group is new or renamed.
    pub async fn save_group(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        group: GroupId,
        name: String,
    ) -> Result<Position, AppendError> {
        self.write(cause, tenant, vec![GroupSaved { tenant: tenant.clone(), group, name }.into()]).await
    }

    /// A group is gone; its contacts are not.
    pub async fn delete_group(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        group: GroupId,
    ) -> Result<Position, AppendError> {
        self.write(cause, tenant, vec![GroupDeleted { tenant: tenant.clone(), group }.into()]).await
    }

    /// Contacts join or leave a group.
    pub async fn change_members(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        group: GroupId,
        added: Vec<ContactId>,
        removed: Vec<ContactId>,
    ) -> Result<Position, AppendError> {
        let joined = added.chunks(MEMBERS_PER_EVENT).map(|some| (some.to_vec(), Vec::new()));
        let left = removed.chunks(MEMBERS_PER_EVENT).map(|some| (Vec::new(), some.to_vec()));
        let events = joined
            .chain(left)
            .map(|(added, removed)| {
                GroupMembersChanged { tenant: tenant.clone(), group, added, removed }.into()
            })
            .collect();
        self.write(cause, tenant, events).await
    }

    async fn write(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        events: Vec<Event>,
    ) -> Result<Position, AppendError> {
        if events.is_empty() {
            return Ok(0);
        }
        let entry = Entry {
            stream: stream(tenant, self.journal.now()),
            expected: Expected::Any,
            tenant: Some(tenant.clone()),
            cause: cause.clone(),
            events,
        };
        Ok(self.journal.append_one(entry).await?.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SystemClock, SystemIds};
    use kite_event_store::MemoryEventStore;

    fn book() -> AddressBook {
        let store = Arc::new(MemoryEventStore::new());
        AddressBook::new(Journal::new(store, Arc::new(SystemClock), Arc::new(SystemIds)))
    }

    #[test]
    fn two_who_ask_at_once_do_not_get_the_same_places() {
        let (book, acme) = (book(), TenantId::parse("acme").unwrap());
        let counted = CountedContacts { contacts: 90, position: 7 };
        let first = book.reserve(&acme, counted, 8, 100);
        let second = book.reserve(&acme, counted, 8, 100);
        assert_eq!((first.granted(), second.granted()), (8, 2));
        drop(first);
        assert_eq!(book.reserve(&acme, counted, 20, 100).granted(), 8, "the places are given back");
        second.are_written(9);
        assert_eq!(book.reserve(&acme, counted, 20, 100).granted(), 8);
        let seen = CountedContacts { contacts: 92, position: 9 };
        assert_eq!(book.reserve(&acme, seen, 20, 100).granted(), 8, "and none is counted twice");
    }
}
