//! When two contacts are one.
//!
//! A tenant has at most one contact with an address. A contact that is saved with the address of another is the same
//! person, and so are all that share an address with it. The oldest of them (the first in the log) stays and takes
//! over the groups of the others, whose ids stand for it from then on. Its name, addresses and fields become what was
//! saved; an address that was not saved keeps its known value; tags and fields are combined. Without a merge the
//! contact is simply as it was saved. All of this follows from the order of the log.

use kite_domain::contact::ContactDetails;
use kite_domain::ids::ContactId;

use super::book::{Book, Names};
use super::people::Addresses;
use super::rows::{Address, BY_HEIR, ContactRow, HeirRow};
use crate::error::ApplyError;

/// A contact, and who it is.
type Known = (ContactId, ContactRow);

impl Book<'_> {
    /// Who an id stands for: itself, unless it was merged away.
    pub(super) fn resolve(&mut self, names: &Names, id: ContactId) -> Result<ContactId, ApplyError> {
        Ok(self.rows.heirs.get(self.tables, &names.of(id))?.map_or(id, |heir| heir.0))
    }

    /// Saves a contact, and merges it if an address requires that; returns the resulting contact.
    pub(super) fn save_contact(
        &mut self,
        names: &Names,
        saved: &ContactDetails,
        time_ms: i64,
    ) -> Result<ContactId, ApplyError> {
        let named = self.resolve(names, saved.contact)?;
        let mut known = self.same_person(names, named, saved)?;
        known.sort_by_key(|(_, contact)| contact.number);
        let is_merge = known.len() > 1 || known.iter().any(|(id, _)| *id != saved.contact);
        let (id, contact) = match known.first() {
            None => (saved.contact, as_saved(saved, self.next_number()?, time_ms, time_ms)),
            Some((oldest, row)) => {
                let as_saved = as_saved(saved, row.number, row.created_ms, time_ms);
                (*oldest, if is_merge { gathered(as_saved, &known) } else { as_saved })
            }
        };
        for (other, _) in known.iter().filter(|(other, _)| *other != id) {
            self.hand_down(names, *other, id)?;
        }
        let before = known.first().filter(|_| !is_merge);
        let before = before.map_or([&None, &None], |(_, old)| [&old.phone, &old.email]);
        let addresses = Addresses::of(before, [&contact.phone, &contact.email]);
        if saved.contact != id {
            self.rows.heirs.put(self.tables, names.of(saved.contact), HeirRow(id))?;
        }
        self.write_contact(names, id, contact)?;
        self.person_saved(names, id, &addresses)?;
        Ok(id)
    }

    /// Removes a contact from the book and from its groups.
    pub(super) fn delete_contact(&mut self, names: &Names, id: ContactId) -> Result<(), ApplyError> {
        if self.rows.contacts.get(self.tables, &names.of(id))?.is_none() {
            return Ok(());
        }
        for group in self.groups_of(id)? {
            self.leave(names, group, id)?;
        }
        for stood_for in self.stood_for(names, id)? {
            self.rows.heirs.remove(self.tables, &names.of(stood_for))?;
        }
        self.person_forgotten(names, id)?;
        self.remove_contact(names, id)
    }

    /// The ids that stand for a contact.
    fn stood_for(&mut self, names: &Names, heir: ContactId) -> Result<Vec<ContactId>, ApplyError> {
        let put = |(tenant, heir): &(_, ContactId), cells: &mut crate::engine::Cells<'_>| {
            cells.put(tenant);
            cells.put(heir);
        };
        let ids = self.rows.heirs.beside(self.tables, &BY_HEIR, put, &names.of(heir))?;
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// The contact that was named and those that have one of its addresses.
    fn same_person(
        &mut self,
        names: &Names,
        named: ContactId,
        saved: &ContactDetails,
    ) -> Result<Vec<Known>, ApplyError> {
        let mut ids = vec![named];
        let tenant = &names.tenant;
        let phone = saved.phone.iter().map(|phone| Address::Phone(tenant.clone(), phone.clone()));
        let email = saved.email.iter().map(|email| Address::Email(tenant.clone(), email.clone()));
        for address in phone.chain(email) {
            ids.extend(self.contact_of(&address)?);
        }
        let mut known: Vec<Known> = Vec::new();
        for id in ids {
            if known.iter().any(|(other, _)| *other == id) {
                continue;
            }
            let row = self.rows.contacts.get(self.tables, &names.of(id))?.cloned();
            known.extend(row.map(|row| (id, row)));
        }
        Ok(known)
    }

    /// Everything of a contact that goes away goes to its heir.
    fn hand_down(&mut self, names: &Names, from: ContactId, to: ContactId) -> Result<(), ApplyError> {
        for group in self.groups_of(from)? {
            self.leave(names, group, from)?;
            self.join(names, group, to)?;
        }
        for stood_for in self.stood_for(names, from)? {
            self.rows.heirs.put(self.tables, names.of(stood_for), HeirRow(to))?;
        }
        self.rows.heirs.put(self.tables, names.of(from), HeirRow(to))?;
        self.person_merged(names, from, to)?;
        self.remove_contact(names, from)
    }
}

fn as_saved(saved: &ContactDetails, number: i64, created_ms: i64, updated_ms: i64) -> ContactRow {
    ContactRow {
        number,
        name: saved.name.clone(),
        phone: saved.phone.clone(),
        email: saved.email.clone(),
        tags: saved.tags.iter().cloned().collect(),
        fields: saved.fields.clone(),
        created_ms,
        updated_ms,
    }
}

/// Completes what was saved with what was known, the oldest first.
fn gathered(mut contact: ContactRow, known: &[Known]) -> ContactRow {
    for (_, other) in known {
        if contact.name.is_empty() {
            contact.name.clone_from(&other.name);
        }
        contact.phone = contact.phone.or_else(|| other.phone.clone());
        contact.email = contact.email.or_else(|| other.email.clone());
        contact.tags.extend(other.tags.iter().cloned());
        for (name, value) in &other.fields {
            contact.fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    contact
}
