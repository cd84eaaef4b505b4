//! The rows of the address book, as a fold uses them.

use kite_domain::contact::ContactsSaved;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::rows::{
    Address, BY_EMAIL, BY_MEMBER, BY_PHONE, BondRow, CLEAR_GROUP, ContactRow, GroupRow, HeirRow, MemberRow,
    NumberRow, OfTenant, OptOutRow, PersonRow, SenderRow, TemplateRow, TenantRow,
};
use super::schema::{CONTACT_COUNTS, TAGS};
use crate::engine::{Rows, Tables};
use crate::error::ApplyError;
use crate::table::{Pick, Statement};

/// Past this many rows of a table, what is remembered of it starts again.
const KEPT_MAX: usize = 8_192;

static ADD_TAGS: Statement = Statement::insert_new(&TAGS, Pick::All);
static REMOVE_TAGS: Statement = Statement::delete(&TAGS, &[]);
static ADD_TO_COUNTS: Statement = Statement::upsert(&CONTACT_COUNTS, Pick::All);

/// All rows of the model.
#[derive(Debug)]
pub(super) struct BookRows {
    pub(super) contacts: Rows<ContactRow>,
    pub(super) heirs: Rows<HeirRow>,
    pub(super) groups: Rows<GroupRow>,
    pub(super) members: Rows<MemberRow>,
    pub(super) senders: Rows<SenderRow>,
    pub(super) opt_outs: Rows<OptOutRow>,
    pub(super) people: Rows<PersonRow>,
    pub(super) bonds: Rows<BondRow>,
    pub(super) templates: Rows<TemplateRow>,
    pub(super) tenants: Rows<TenantRow>,
    numbers: Rows<NumberRow>,
    /// Tags that a contact has now, or has no more.
    tags: BTreeMap<(SmolStr, SmolStr, ContactId), bool>,
    /// How many contacts more there are, or fewer, by tenant.
    counts: BTreeMap<SmolStr, i64>,
    /// Whether anybody refuses advertisements of a tenant, as far as that was asked in this transaction. A "yes" may
    /// be outdated, a "no" is not.
    pub(super) refused: BTreeMap<SmolStr, bool>,
}

impl Default for BookRows {
    fn default() -> Self {
        Self {
            contacts: Rows::keeping(KEPT_MAX),
            heirs: Rows::keeping(KEPT_MAX),
            groups: Rows::keeping(KEPT_MAX),
            members: Rows::keeping(KEPT_MAX),
            senders: Rows::keeping(KEPT_MAX),
            opt_outs: Rows::keeping(KEPT_MAX),
            people: Rows::keeping(KEPT_MAX),
            bonds: Rows::keeping(KEPT_MAX),
            templates: Rows::keeping(KEPT_MAX),
            tenants: Rows::keeping(KEPT_MAX),
            numbers: Rows::keeping(1),
            tags: BTreeMap::new(),
            counts: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }
}

impl BookRows {
    /// Writes what has changed.
    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        self.refused.clear();
        self.contacts.flush(tables)?;
        self.numbers.flush(tables)?;
        self.heirs.flush(tables)?;
        self.groups.flush(tables)?;
        self.members.flush(tables)?;
        self.senders.flush(tables)?;
        self.opt_outs.flush(tables)?;
        self.people.flush(tables)?;
        self.bonds.flush(tables)?;
        self.templates.flush(tables)?;
        self.tenants.flush(tables)?;
        self.flush_tags(tables)?;
        if !self.counts.is_empty() {
            let mut cells = tables.fill(&ADD_TO_COUNTS)?;
            for (tenant, more) in std::mem::take(&mut self.counts) {
                cells.put(&tenant);
                cells.put(more);
                cells.end()?;
            }
        }
        Ok(())
    }

    fn flush_tags(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        let tags = std::mem::take(&mut self.tags);
        for (statement, is_there) in [(&REMOVE_TAGS, false), (&ADD_TAGS, true)] {
            if !tags.values().any(|there| *there == is_there) {
                continue;
            }
            let mut cells = tables.fill(statement)?;
            for ((tenant, tag, contact), _) in tags.iter().filter(|(_, there)| **there == is_there) {
                cells.put(tenant);
                cells.put(tag);
                cells.put(contact);
                cells.end()?;
            }
        }
        Ok(())
    }
}

/// Of which tenant keys are.
pub(super) struct Names {
    pub(super) tenant: SmolStr,
}

impl Names {
    pub(super) fn new(tenant: &TenantId) -> Self {
        Self { tenant: tenant.as_str().into() }
    }

    /// The key of a contact, or of an id that stood for one.
    pub(super) fn of(&self, id: ContactId) -> OfTenant {
        (self.tenant.clone(), id)
    }
}

/// The rows, while a transaction changes them.
pub(super) struct Book<'b> {
    pub(super) tables: Tables<'b>,
    pub(super) rows: &'b mut BookRows,
}

impl Book<'_> {
    /// Reads what an import names, each kind of row at once.
    pub(super) fn prefetch(&mut self, names: &Names, saved: &ContactsSaved) -> Result<(), ApplyError> {
        let contacts = &saved.personal.contacts;
        let ids = || contacts.iter().map(|contact| names.of(contact.contact));
        self.rows.heirs.prefetch(self.tables, ids())?;
        self.rows.contacts.prefetch(self.tables, ids())?;
        let tenant = &names.tenant;
        let phones = contacts.iter().filter_map(|contact| contact.phone.clone());
        let phones = phones.map(|phone| Address::Phone(tenant.clone(), phone));
        self.rows.contacts.prefetch_beside(self.tables, &BY_PHONE, Address::put, phones)?;
        let emails = contacts.iter().filter_map(|contact| contact.email.clone());
        let emails = emails.map(|email| Address::Email(tenant.clone(), email));
        self.rows.contacts.prefetch_beside(self.tables, &BY_EMAIL, Address::put, emails)
    }

    /// The contact that has an address.
    pub(super) fn contact_of(&mut self, address: &Address) -> Result<Option<ContactId>, ApplyError> {
        let select = match address {
            Address::Phone(..) => &BY_PHONE,
            Address::Email(..) => &BY_EMAIL,
        };
        let found = self.rows.contacts.beside(self.tables, select, Address::put, address)?;
        Ok(found.into_iter().next().map(|(_, id)| id))
    }

    /// The number of a contact that is new.
    pub(super) fn next_number(&mut self) -> Result<i64, ApplyError> {
        let next = self.rows.numbers.get_mut(self.tables, &1)?;
        let next = next.ok_or_else(|| ApplyError::corrupt("there is no next number of a contact"))?;
        next.0 += 1;
        Ok(next.0 - 1)
    }

    /// Puts a contact in the place of what was known of it.
    pub(super) fn write_contact(
        &mut self,
        names: &Names,
        id: ContactId,
        contact: ContactRow,
    ) -> Result<(), ApplyError> {
        let before = self.rows.contacts.get(self.tables, &names.of(id))?;
        let is_new = before.is_none();
        let tag = |tag: &SmolStr| (names.tenant.clone(), tag.clone(), id);
        let old: Vec<_> = before.iter().flat_map(|row| &row.tags).map(tag).collect();
        self.rows.tags.extend(old.into_iter().map(|key| (key, false)));
        self.rows.tags.extend(contact.tags.iter().map(|one| (tag(one), true)));
        if is_new {
            *self.rows.counts.entry(names.tenant.clone()).or_default() += 1;
        }
        self.rows.contacts.put(self.tables, names.of(id), contact)
    }

    /// Takes a contact away, with its tags.
    pub(super) fn remove_contact(&mut self, names: &Names, id: ContactId) -> Result<(), ApplyError> {
        let Some(row) = self.rows.contacts.remove(self.tables, &names.of(id))? else { return Ok(()) };
        *self.rows.counts.entry(names.tenant.clone()).or_default() -= 1;
        let tags = row.tags.into_iter().map(|tag| ((names.tenant.clone(), tag, id), false));
        self.rows.tags.extend(tags);
        Ok(())
    }

    /// The groups that a contact is in, in their order.
    pub(super) fn groups_of(&mut self, contact: ContactId) -> Result<Vec<GroupId>, ApplyError> {
        let put = |contact: &ContactId, cells: &mut crate::engine::Cells<'_>| cells.put(contact);
        let found = self.rows.members.beside(self.tables, &BY_MEMBER, put, &contact)?;
        Ok(found.into_iter().map(|(group, _)| group).collect())
    }

    /// Whether there is such a group of the tenant.
    fn has_group(&mut self, names: &Names, group: GroupId) -> Result<bool, ApplyError> {
        let row = self.rows.groups.get(self.tables, &group)?;
        Ok(row.is_some_and(|row| row.tenant == names.tenant))
    }

    /// Adds a contact to a group; nothing if either is not there.
    pub(super) fn join(
        &mut self,
        names: &Names,
        group: GroupId,
        contact: ContactId,
    ) -> Result<(), ApplyError> {
        let key = (group, contact);
        let is_possible = self.has_group(names, group)?
            && self.rows.contacts.get(self.tables, &names.of(contact))?.is_some()
            && self.rows.members.get(self.tables, &key)?.is_none();
        if is_possible {
            self.rows.members.put(self.tables, key, MemberRow)?;
            self.count_members(group, 1)?;
        }
        Ok(())
    }

    /// Takes a contact out of a group.
    pub(super) fn leave(
        &mut self,
        names: &Names,
        group: GroupId,
        contact: ContactId,
    ) -> Result<(), ApplyError> {
        if self.has_group(names, group)?
            && self.rows.members.remove(self.tables, &(group, contact))?.is_some()
        {
            self.count_members(group, -1)?;
        }
        Ok(())
    }

    fn count_members(&mut self, group: GroupId, change: i64) -> Result<(), ApplyError> {
        if let Some(row) = self.rows.groups.get_mut(self.tables, &group)? {
            row.members += change;
        }
        Ok(())
    }

    /// A group is named, for the first time or again.
    pub(super) fn group_saved(
        &mut self,
        names: &Names,
        group: GroupId,
        name: &str,
        time_ms: i64,
    ) -> Result<(), ApplyError> {
        match self.rows.groups.get(self.tables, &group)? {
            Some(row) if row.tenant != names.tenant => return Ok(()),
            Some(_) => {}
            None => {
                let tenant = names.tenant.clone();
                let row = GroupRow { tenant, name: name.to_owned(), members: 0, created_ms: time_ms };
                return self.rows.groups.put(self.tables, group, row);
            }
        }
        if let Some(row) = self.rows.groups.get_mut(self.tables, &group)? {
            name.clone_into(&mut row.name);
        }
        Ok(())
    }

    /// A group is gone, with its members.
    pub(super) fn group_deleted(&mut self, names: &Names, group: GroupId) -> Result<(), ApplyError> {
        if !self.has_group(names, group)? {
            return Ok(());
        }
        self.rows.groups.remove(self.tables, &group)?;
        let all = (group, ContactId(Uuid::nil()))..=(group, ContactId(Uuid::max()));
        self.rows.members.clear(self.tables, &CLEAR_GROUP, |cells| cells.put(&group), all)
    }
}
