//! Writing the address book. Nothing is decided here: the newest word counts, and the read model merges contacts that
//! share an address, in the order of the log.

use kite_domain::contact::{
    ContactDeleted, ContactDetails, ContactsPersonal, ContactsSaved, GroupDeleted, GroupMembersChanged,
    GroupSaved, stream,
};
use kite_domain::event::Event;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use kite_event_store::{AppendError, Expected, Position};

use crate::journal::{Cause, Entry, Journal};

/// How many contacts go into one event.
const CONTACTS_PER_EVENT: usize = 1_000;
/// How many members join or leave in one event.
const MEMBERS_PER_EVENT: usize = 10_000;

/// The address book's write side. Cheap to clone.
#[derive(Clone)]
pub struct AddressBook {
    journal: Journal,
}

impl AddressBook {
    /// Writes to this log.
    pub fn new(journal: Journal) -> Self {
        Self { journal }
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
