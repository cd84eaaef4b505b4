//! The rows of the address book.

use kite_domain::ids::{ContactId, GroupId, TemplateId};
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use super::schema::{
    BONDS, CONTACT_NUMBERS, CONTACTS, GROUPS, HEIRS, MEMBERS, OPT_OUTS, PEOPLE, SENDERS, TEMPLATES, TENANTS,
};
use crate::engine::{Cells, Record, Row};
use crate::error::ApplyError;
use crate::sql::json;
use crate::table::{Pick, Statement, verbs};

/// Something of a tenant that has an id.
pub(super) type OfTenant = (SmolStr, ContactId);

/// By which address a contact is found, beside its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address {
    Phone(SmolStr, SmolStr),
    Email(SmolStr, SmolStr),
}

impl Address {
    /// Puts tenant and address.
    pub(super) fn put(&self, cells: &mut Cells<'_>) {
        let (Self::Phone(tenant, address) | Self::Email(tenant, address)) = self;
        put_pair(tenant, address, cells);
    }
}

fn put_pair(tenant: &SmolStr, address: &SmolStr, cells: &mut Cells<'_>) {
    cells.put(tenant);
    cells.put(address);
}

fn put_of_tenant((tenant, id): &OfTenant, cells: &mut Cells<'_>) {
    cells.put(tenant);
    cells.put(id);
}

fn of_tenant(row: &Row<'_>) -> Result<OfTenant, ApplyError> {
    Ok((row.text(0)?, ContactId(row.uuid(1)?)))
}

pub(super) static BY_PHONE: Statement = Statement::select(&CONTACTS, Pick::All, &["tenant", "phone"]);
pub(super) static BY_EMAIL: Statement = Statement::select(&CONTACTS, Pick::All, &["tenant", "email"]);

/// A contact.
#[derive(Debug, Clone)]
pub(super) struct ContactRow {
    /// Counts up in the order of the log.
    pub(super) number: i64,
    pub(super) name: String,
    pub(super) phone: Option<SmolStr>,
    pub(super) email: Option<SmolStr>,
    pub(super) tags: BTreeSet<SmolStr>,
    pub(super) fields: BTreeMap<SmolStr, String>,
    pub(super) created_ms: i64,
    pub(super) updated_ms: i64,
}

impl ContactRow {
    /// What a text is looked for in.
    fn search_text(&self) -> String {
        let parts = [Some(self.name.as_str()), self.phone.as_deref(), self.email.as_deref()];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        parts.join("\n").to_lowercase()
    }
}

impl Record for ContactRow {
    type Key = OfTenant;
    type Aside = Address;

    const IS_UNIQUE_BESIDE_KEY: bool = true;

    verbs!(CONTACTS);

    fn put_key(key: &OfTenant, cells: &mut Cells<'_>) {
        put_of_tenant(key, cells);
    }

    fn put(&self, key: &OfTenant, cells: &mut Cells<'_>) {
        put_of_tenant(key, cells);
        cells.put(self.number);
        cells.put(&self.name);
        cells.put(self.phone.as_ref());
        cells.put(self.email.as_ref());
        cells.put(&json(&self.tags));
        cells.put(&json(&self.fields));
        cells.put(&self.search_text());
        cells.put(self.created_ms);
        cells.put(self.updated_ms);
    }

    fn read(row: &Row<'_>) -> Result<(OfTenant, Self), ApplyError> {
        let contact = Self {
            number: row.get(2)?,
            name: row.get(3)?,
            phone: row.optional_text(4)?,
            email: row.optional_text(5)?,
            tags: serde_json::from_str(row.str(6)?).map_err(ApplyError::corrupt)?,
            fields: serde_json::from_str(row.str(7)?).map_err(ApplyError::corrupt)?,
            created_ms: row.get(9)?,
            updated_ms: row.get(10)?,
        };
        Ok((of_tenant(row)?, contact))
    }

    fn asides(&self, (tenant, _): &OfTenant) -> Vec<Address> {
        let phone = self.phone.iter().map(|phone| Address::Phone(tenant.clone(), phone.clone()));
        let email = self.email.iter().map(|email| Address::Email(tenant.clone(), email.clone()));
        phone.chain(email).collect()
    }
}

/// The next free number of a contact.
#[derive(Debug, Clone)]
pub(super) struct NumberRow(pub(super) i64);

impl Record for NumberRow {
    type Key = i64;
    type Aside = ();

    verbs!(CONTACT_NUMBERS);

    fn put_key(id: &i64, cells: &mut Cells<'_>) {
        cells.put(*id);
    }

    fn put(&self, id: &i64, cells: &mut Cells<'_>) {
        cells.put(*id);
        cells.put(self.0);
    }

    fn read(row: &Row<'_>) -> Result<(i64, Self), ApplyError> {
        Ok((row.get(0)?, Self(row.get(1)?)))
    }
}

/// Those that an id stands for.
pub(super) static BY_HEIR: Statement = Statement::select(&HEIRS, Pick::All, &["tenant", "heir"]);

/// Which contact an id that was merged away stands for.
#[derive(Debug, Clone)]
pub(super) struct HeirRow(pub(super) ContactId);

impl Record for HeirRow {
    type Key = OfTenant;
    /// The heir.
    type Aside = OfTenant;

    verbs!(HEIRS);

    fn put_key(key: &OfTenant, cells: &mut Cells<'_>) {
        put_of_tenant(key, cells);
    }

    fn put(&self, key: &OfTenant, cells: &mut Cells<'_>) {
        put_of_tenant(key, cells);
        cells.put(&self.0);
    }

    fn read(row: &Row<'_>) -> Result<(OfTenant, Self), ApplyError> {
        Ok((of_tenant(row)?, Self(ContactId(row.uuid(2)?))))
    }

    fn asides(&self, (tenant, _): &OfTenant) -> Vec<OfTenant> {
        vec![(tenant.clone(), self.0)]
    }
}

/// A group of contacts.
#[derive(Debug, Clone)]
pub(super) struct GroupRow {
    pub(super) tenant: SmolStr,
    pub(super) name: String,
    pub(super) members: i64,
    pub(super) created_ms: i64,
}

impl Record for GroupRow {
    type Key = GroupId;
    type Aside = ();

    verbs!(GROUPS);

    fn put_key(id: &GroupId, cells: &mut Cells<'_>) {
        cells.put(id);
    }

    fn put(&self, id: &GroupId, cells: &mut Cells<'_>) {
        cells.put(id);
        cells.put(&self.tenant);
        cells.put(&self.name);
        cells.put(self.members);
        cells.put(self.created_ms);
    }

    fn read(row: &Row<'_>) -> Result<(GroupId, Self), ApplyError> {
        let group =
            Self { tenant: row.text(1)?, name: row.get(2)?, members: row.get(3)?, created_ms: row.get(4)? };
        Ok((GroupId(row.uuid(0)?), group))
    }
}

/// The groups of a contact.
pub(super) static BY_MEMBER: Statement = Statement::select(&MEMBERS, Pick::All, &["contact"]);
/// All members of a group.
pub(super) static CLEAR_GROUP: Statement = Statement::delete(&MEMBERS, &["group_id"]);

/// A contact in a group.
#[derive(Debug, Clone)]
pub(super) struct MemberRow;

impl Record for MemberRow {
    type Key = (GroupId, ContactId);
    type Aside = ContactId;

    verbs!(MEMBERS);

    fn put_key((group, contact): &Self::Key, cells: &mut Cells<'_>) {
        cells.put(group);
        cells.put(contact);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        Ok(((GroupId(row.uuid(0)?), ContactId(row.uuid(1)?)), Self))
    }

    fn asides(&self, (_, contact): &Self::Key) -> Vec<ContactId> {
        vec![*contact]
    }
}

/// A sender identity, as JSON.
#[derive(Debug, Clone)]
pub(super) struct SenderRow(pub(super) String);

impl Record for SenderRow {
    /// Tenant and address.
    type Key = (SmolStr, SmolStr);
    type Aside = ();

    verbs!(SENDERS);

    fn put_key((tenant, address): &Self::Key, cells: &mut Cells<'_>) {
        put_pair(tenant, address, cells);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(&self.0);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        Ok(((row.text(0)?, row.text(1)?), Self(row.get(2)?)))
    }
}

/// The refusals of an address.
pub(super) static REFUSALS: Statement = Statement::select(&OPT_OUTS, Pick::All, &["tenant", "identity"]);
/// All refusals of a tenant's advertisements.
pub(super) static REFUSALS_OF: Statement =
    Statement::select(&OPT_OUTS, Pick::Named(&["identity"]), &["tenant"]);

/// A refusal.
#[derive(Debug, Clone)]
pub(super) struct OptOutRow {
    pub(super) address: SmolStr,
    pub(super) brand: Option<String>,
    pub(super) source: String,
    pub(super) since_ms: i64,
    pub(super) refused_ms: i64,
}

impl Record for OptOutRow {
    /// Tenant, and the identities of address and brand.
    type Key = (SmolStr, SmolStr, SmolStr);
    /// Tenant and address.
    type Aside = (SmolStr, SmolStr);

    verbs!(OPT_OUTS);

    fn put_key((tenant, address, brand): &Self::Key, cells: &mut Cells<'_>) {
        put_pair(tenant, address, cells);
        cells.put(brand);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(&self.address);
        cells.put(self.brand.as_ref());
        cells.put(&self.source);
        cells.put(self.since_ms);
        cells.put(self.refused_ms);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        let refusal = Self {
            address: row.text(3)?,
            brand: row.get(4)?,
            source: row.get(5)?,
            since_ms: row.get(6)?,
            refused_ms: row.get(7)?,
        };
        Ok(((row.text(0)?, row.text(1)?, row.text(2)?), refusal))
    }

    fn asides(&self, (tenant, address, _): &Self::Key) -> Vec<Self::Aside> {
        vec![(tenant.clone(), address.clone())]
    }
}

/// By what the addresses of people are found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Person {
    Address(SmolStr, SmolStr),
    Contact(SmolStr, ContactId),
}

impl Person {
    /// Puts tenant and address, or tenant and contact.
    pub(super) fn put(&self, cells: &mut Cells<'_>) {
        match self {
            Self::Address(tenant, address) => put_pair(tenant, address, cells),
            Self::Contact(tenant, contact) => {
                cells.put(tenant);
                cells.put(contact);
            }
        }
    }
}

pub(super) static PEOPLE_BY_ADDRESS: Statement =
    Statement::select(&PEOPLE, Pick::All, &["tenant", "address"]);
pub(super) static PEOPLE_BY_CONTACT: Statement =
    Statement::select(&PEOPLE, Pick::All, &["tenant", "contact"]);

/// That an address is a contact's.
#[derive(Debug, Clone)]
pub(super) struct PersonRow;

impl Record for PersonRow {
    /// Tenant, address, contact.
    type Key = (SmolStr, SmolStr, ContactId);
    type Aside = Person;

    verbs!(PEOPLE);

    fn put_key((tenant, address, contact): &Self::Key, cells: &mut Cells<'_>) {
        put_pair(tenant, address, cells);
        cells.put(contact);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        Ok(((row.text(0)?, row.text(1)?, ContactId(row.uuid(2)?)), Self))
    }

    fn asides(&self, (tenant, address, contact): &Self::Key) -> Vec<Person> {
        vec![Person::Address(tenant.clone(), address.clone()), Person::Contact(tenant.clone(), *contact)]
    }
}

/// How bonds are found: by the address that refused, or by the one that the refusal should apply to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Address(SmolStr, SmolStr),
    Other(SmolStr, SmolStr),
}

impl End {
    /// Puts tenant and address.
    pub(super) fn put(&self, cells: &mut Cells<'_>) {
        let (Self::Address(tenant, address) | Self::Other(tenant, address)) = self;
        put_pair(tenant, address, cells);
    }
}

pub(super) static BONDS_BY_ADDRESS: Statement = Statement::select(&BONDS, Pick::All, &["tenant", "address"]);
pub(super) static BONDS_BY_OTHER: Statement = Statement::select(&BONDS, Pick::All, &["tenant", "other"]);

/// That the refusal of one address should apply to another; whether the log says so.
#[derive(Debug, Clone)]
pub(super) struct BondRow {
    pub(super) is_told: bool,
}

impl Record for BondRow {
    /// Tenant, address, the other.
    type Key = (SmolStr, SmolStr, SmolStr);
    type Aside = End;

    verbs!(BONDS);

    fn put_key((tenant, address, other): &Self::Key, cells: &mut Cells<'_>) {
        put_pair(tenant, address, cells);
        cells.put(other);
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(self.is_told);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        Ok(((row.text(0)?, row.text(1)?, row.text(2)?), Self { is_told: row.get(3)? }))
    }

    fn asides(&self, (tenant, address, other): &Self::Key) -> Vec<End> {
        vec![End::Address(tenant.clone(), address.clone()), End::Other(tenant.clone(), other.clone())]
    }
}

/// A message template.
#[derive(Debug, Clone)]
pub(super) struct TemplateRow {
    pub(super) name: String,
    pub(super) subject: Option<String>,
    pub(super) text: String,
    pub(super) updated_ms: i64,
}

impl Record for TemplateRow {
    /// Tenant and template.
    type Key = (SmolStr, Uuid);
    type Aside = ();

    verbs!(TEMPLATES);

    fn put_key((tenant, id): &Self::Key, cells: &mut Cells<'_>) {
        cells.put(tenant);
        cells.put(&TemplateId(*id));
    }

    fn put(&self, key: &Self::Key, cells: &mut Cells<'_>) {
        Self::put_key(key, cells);
        cells.put(&self.name);
        cells.put(self.subject.as_ref());
        cells.put(&self.text);
        cells.put(self.updated_ms);
    }

    fn read(row: &Row<'_>) -> Result<(Self::Key, Self), ApplyError> {
        let template =
            Self { name: row.get(2)?, subject: row.get(3)?, text: row.get(4)?, updated_ms: row.get(5)? };
        Ok(((row.text(0)?, row.uuid(1)?), template))
    }
}

/// A tenant.
#[derive(Debug, Clone)]
pub(super) struct TenantRow {
    pub(super) name: String,
    pub(super) created_ms: i64,
}

impl Record for TenantRow {
    type Key = SmolStr;
    type Aside = ();

    verbs!(TENANTS);

    fn put_key(id: &SmolStr, cells: &mut Cells<'_>) {
        cells.put(id);
    }

    fn put(&self, id: &SmolStr, cells: &mut Cells<'_>) {
        cells.put(id);
        cells.put(&self.name);
        cells.put(self.created_ms);
    }

    fn read(row: &Row<'_>) -> Result<(SmolStr, Self), ApplyError> {
        Ok((row.text(0)?, Self { name: row.get(1)?, created_ms: row.get(2)? }))
    }
}
