//! Contacts, groups and their members, senders, opt-outs, templates, tenants.

use kite_domain::address::identity;
use kite_domain::ids::{ContactId, GroupId, TemplateId};
use kite_domain::opt_out::brand_identity;
use kite_domain::sender::SenderIdentity;
use kite_domain::slug::TenantId;
use kite_event_store::Position;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};

use super::AddressBookModel;
use super::known::{Bond, Contact, Group, OptOut, Template, Tenant};
use crate::database;
use crate::engine::{Connection, Row, Value, values};
use crate::error::QueryError;
use crate::files::Files;
use crate::listing::{Cursor, Listing, page};
use crate::readers::{Readers, shared_queries};
use crate::sql::{from_json, one_more, time};

/// Which contacts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContactFilter {
    /// Part of the name, the number or the e-mail address; letter case does not matter.
    pub text: Option<String>,
    /// With this tag.
    pub tag: Option<SmolStr>,
    /// In this group.
    pub group: Option<GroupId>,
}

/// Questions about the address book.
#[derive(Clone)]
pub struct AddressBookQueries {
    pub(super) readers: Readers,
}

shared_queries!(AddressBookQueries);

/// The columns that [`contact`] takes.
macro_rules! select_contacts {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.name, c.phone, c.email, c.tags, c.fields, c.created_ms, c.updated_ms, ",
            // The brands that the person refuses, one after the other; the empty one for all of them. `CROSS JOIN`: SQLite goes from
            // the contact's addresses to their bonds, and not through all bonds of the tenant.
            "CASE WHEN EXISTS (SELECT 1 FROM opt_outs o WHERE o.tenant = c.tenant) THEN (
                SELECT string_agg(coalesce(o.brand, ''), '\u{1f}') FROM opt_outs o
                WHERE o.tenant = c.tenant AND o.identity IN (
                    SELECT p.address FROM people p WHERE p.tenant = c.tenant AND p.contact = c.id
                    UNION SELECT b.address FROM people p CROSS JOIN bonds b
                    WHERE p.tenant = c.tenant AND p.contact = c.id AND b.tenant = p.tenant AND b.other = p.address)) END ",
            "FROM contacts c ",
            $rest
        )
    };
}

/// A character that no brand has.
const BETWEEN_BRANDS: char = '\u{1f}';

/// Before every id.
const FIRST: [u8; 0] = [];

impl AddressBookQueries {
    /// How many contacts a tenant has, and up to which position in the log they are counted.
    pub fn contact_count(&self, tenant: &TenantId) -> Result<(u64, Position), QueryError> {
        self.readers.ask(|connection| {
            let position = database::position(connection)?;
            let sql = "SELECT contacts FROM contact_counts WHERE tenant = ?1";
            let contacts: Option<i64> =
                connection.first(sql, values![tenant.as_str()], |row| Ok::<_, QueryError>(row.get(0)?))?;
            Ok((u64::try_from(contacts.unwrap_or(0)).unwrap_or(0), position))
        })
    }

    /// Which of these pairs of number and e-mail address match a contact of the tenant by one of the two.
    pub fn has_contacts(
        &self,
        tenant: &TenantId,
        addresses: &[(Option<SmolStr>, Option<SmolStr>)],
    ) -> Result<Vec<bool>, QueryError> {
        self.readers.ask(|connection| {
            let by_phone = "SELECT 1 FROM contacts WHERE tenant = ?1 AND phone = ?2";
            let by_email = "SELECT 1 FROM contacts WHERE tenant = ?1 AND email = ?2";
            let mut found = Vec::with_capacity(addresses.len());
            for (phone, email) in addresses {
                let mut is_known = false;
                if let Some(phone) = phone {
                    is_known = connection.exists(by_phone, values![tenant.as_str(), phone])?;
                }
                if let Some(email) = email.as_ref().filter(|_| !is_known) {
                    is_known = connection.exists(by_email, values![tenant.as_str(), email])?;
                }
                found.push(is_known);
            }
            Ok(found)
        })
    }

    pub(crate) fn new(files: &Files) -> Self {
        Self { readers: files.of::<AddressBookModel>() }
    }

    /// The tenant's contacts that pass the filter, by id.
    pub fn contacts(
        &self,
        tenant: &TenantId,
        filter: &ContactFilter,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<Contact>, QueryError> {
        let after = after.map_or(FIRST.as_slice(), Cursor::bytes);
        let wanted = filter.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let wanted = wanted.map(search_text);
        let found = self.rows(
            select_contacts!(
                "WHERE c.tenant = ?1 AND c.id > ?2 AND (?3 IS NULL OR instr(c.search, ?3) > 0)
                   AND (?4 IS NULL OR EXISTS (SELECT 1 FROM tags t
                        WHERE t.tenant = ?1 AND t.tag = ?4 AND t.contact = c.id))
                   AND (?5 IS NULL OR EXISTS (SELECT 1 FROM members m WHERE m.group_id = ?5 AND m.contact = c.id))
                 ORDER BY c.id LIMIT ?6"
            ),
            values![
                tenant.as_str(),
                after,
                wanted.as_ref(),
                filter.tag.as_ref(),
                filter.group.as_ref().map(|group| group.0.as_bytes()),
                one_more(limit)
            ],
            contact,
        )?;
        Ok(page(found, limit, |contact| Cursor::new(contact.id.0.as_bytes().as_slice())))
    }

    /// A contact with its groups. An id that was merged away finds the contact that it stands for now.
    pub fn contact(&self, tenant: &TenantId, id: ContactId) -> Result<Option<Contact>, QueryError> {
        self.readers.ask(|connection| {
            let id = resolve(connection, tenant, id)?;
            one_contact(connection, tenant, id)
        })
    }

    /// The contact of a canonical number or e-mail address, with its groups.
    pub fn contact_by_address(
        &self,
        tenant: &TenantId,
        address: &str,
    ) -> Result<Option<Contact>, QueryError> {
        self.readers.ask(|connection| {
            let sql = if address.contains('@') {
                select_contacts!("WHERE c.tenant = ?1 AND c.email = ?2")
            } else {
                select_contacts!("WHERE c.tenant = ?1 AND c.phone = ?2")
            };
            let found = connection.all(sql, values![tenant.as_str(), address], contact)?;
            found.into_iter().next().map(|found| with_groups(connection, tenant, found)).transpose()
        })
    }

    /// Contacts in the order asked for; none where there is none.
    pub fn contacts_by_id(
        &self,
        tenant: &TenantId,
        ids: &[ContactId],
    ) -> Result<Vec<Option<Contact>>, QueryError> {
        self.readers.ask(|connection| {
            let one = |id: &ContactId| {
                let id = resolve(connection, tenant, *id)?;
                let sql = select_contacts!("WHERE c.tenant = ?1 AND c.id = ?2");
                let key = values![tenant.as_str(), id.0.as_bytes()];
                Ok(connection.all(sql, key, contact)?.pop())
            };
            ids.iter().map(one).collect()
        })
    }

    /// Whether each of these contacts is in the group; one that was merged is under its heir.
    pub fn membership(
        &self,
        tenant: &TenantId,
        group: GroupId,
        ids: &[ContactId],
    ) -> Result<BTreeMap<ContactId, bool>, QueryError> {
        self.readers.ask(|connection| {
            let one = |id: &ContactId| {
                let id = resolve(connection, tenant, *id)?;
                let sql = "SELECT 1 FROM members WHERE group_id = ?1 AND contact = ?2";
                let is_member = connection.exists(sql, values![&group, &id])?;
                Ok((id, is_member))
            };
            ids.iter().map(one).collect()
        })
    }

    /// The tenant's groups, by id.
    pub fn groups(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<Group>, QueryError> {
        let after = after.map_or(FIRST.as_slice(), Cursor::bytes);
        let found = self.rows(
            "SELECT id, name, members, created_ms FROM groups WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            values![tenant.as_str(), after, one_more(limit)],
            group,
        )?;
        Ok(page(found, limit, |group| Cursor::new(group.id.0.as_bytes().as_slice())))
    }

    /// A group.
    pub fn group(&self, tenant: &TenantId, id: GroupId) -> Result<Option<Group>, QueryError> {
        let sql = "SELECT id, name, members, created_ms FROM groups WHERE tenant = ?1 AND id = ?2";
        Ok(self.rows(sql, values![tenant.as_str(), id.0.as_bytes()], group)?.pop())
    }

    /// The oldest group of that name.
    pub fn group_by_name(&self, tenant: &TenantId, name: &str) -> Result<Option<Group>, QueryError> {
        let sql = "SELECT id, name, members, created_ms FROM groups WHERE tenant = ?1 AND name = ?2
                   ORDER BY id LIMIT 1";
        Ok(self.rows(sql, values![tenant.as_str(), name], group)?.pop())
    }

    /// Members of a group after this contact, by id: called again with the last id until nothing comes, it goes through
    /// the whole group in memory for one piece.
    pub fn group_members(
        &self,
        tenant: &TenantId,
        group: GroupId,
        after: Option<ContactId>,
        limit: usize,
    ) -> Result<Vec<Contact>, QueryError> {
        let after = after.map(|id| id.0.into_bytes());
        self.rows(
            select_contacts!(
                "JOIN members m ON m.contact = c.id
                 WHERE m.group_id = ?2 AND m.contact > ?3 AND c.tenant = ?1 ORDER BY m.contact LIMIT ?4"
            ),
            values![
                tenant.as_str(),
                group.0.as_bytes(),
                after.as_ref().map_or(FIRST.as_slice(), <[u8; 16]>::as_slice),
                i64::try_from(limit).unwrap_or(i64::MAX)
            ],
            contact,
        )
    }

    /// The tenant's sender identities, by address.
    pub fn senders(&self, tenant: &TenantId) -> Result<Vec<SenderIdentity>, QueryError> {
        let sql = "SELECT identity FROM senders WHERE tenant = ?1 ORDER BY address";
        self.rows(sql, values![tenant.as_str()], |row| from_json(row.str(0)?))
    }

    /// A sender identity, by its address however it is written.
    pub fn sender(&self, tenant: &TenantId, address: &str) -> Result<Option<SenderIdentity>, QueryError> {
        let sql = "SELECT identity FROM senders WHERE tenant = ?1 AND address = ?2";
        let key = identity(address);
        Ok(self.rows(sql, values![tenant.as_str(), key.as_ref()], |row| from_json(row.str(0)?))?.pop())
    }

    /// Who refuses the tenant's advertisements, by the identities of address and brand.
    pub fn opt_outs(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<OptOut>, QueryError> {
        let after = after.map_or(Ok(""), Cursor::text)?;
        let (address, brand) = after.split_once('\n').unwrap_or((after, ""));
        let found = self.rows(
            "SELECT address, brand, source, since_ms, refused_ms FROM opt_outs
             WHERE tenant = ?1 AND (identity, brand_identity) > (?2, ?3)
             ORDER BY identity, brand_identity LIMIT ?4",
            values![tenant.as_str(), address, brand, one_more(limit)],
            opt_out,
        )?;
        Ok(page(found, limit, |found| {
            let brand = found.brand.as_deref().map(brand_identity).unwrap_or_default();
            Cursor::new(format!("{}\n{brand}", identity(&found.address)).as_bytes())
        }))
    }

    /// The refusals that apply to this address, whichever address of the person refused: first its own, and for each
    /// address refusals of everything before single brands.
    pub fn opt_outs_of(&self, tenant: &TenantId, address: &str) -> Result<Vec<OptOut>, QueryError> {
        let sql = "SELECT address, brand, source, since_ms, refused_ms FROM opt_outs
                   WHERE tenant = ?1 AND identity IN (
                       SELECT ?2 UNION SELECT b.address FROM bonds b WHERE b.tenant = ?1 AND b.other = ?2)
                   ORDER BY identity <> ?2, identity, brand_identity";
        self.rows(sql, values![tenant.as_str(), identity(address).as_ref()], opt_out)
    }

    /// Addresses of people who refused, for which the log does not say yet that the refusal applies to them; of one
    /// tenant, or of all.
    pub fn unextended_refusals(
        &self,
        tenant: Option<&TenantId>,
        limit: usize,
    ) -> Result<Vec<Bond>, QueryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.rows(
            "SELECT tenant, address, other FROM bonds
             WHERE is_told = 0 AND (?1 IS NULL OR tenant = ?1) ORDER BY tenant, address, other LIMIT ?2",
            values![tenant.map(TenantId::as_str), limit],
            |row| {
                Ok(Bond {
                    tenant: TenantId::from_trusted(row.text(0)?),
                    address: row.text(1)?,
                    other: row.text(2)?,
                })
            },
        )
    }

    /// The tenant's templates, by id.
    pub fn templates(
        &self,
        tenant: &TenantId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<Template>, QueryError> {
        let after = after.map_or(FIRST.as_slice(), Cursor::bytes);
        let found = self.rows(
            "SELECT id, name, subject, text, updated_ms FROM templates WHERE tenant = ?1 AND id > ?2
             ORDER BY id LIMIT ?3",
            values![tenant.as_str(), after, one_more(limit)],
            template,
        )?;
        Ok(page(found, limit, |found| Cursor::new(found.id.0.as_bytes().as_slice())))
    }

    /// A template.
    pub fn template(&self, tenant: &TenantId, id: TemplateId) -> Result<Option<Template>, QueryError> {
        let sql = "SELECT id, name, subject, text, updated_ms FROM templates WHERE tenant = ?1 AND id = ?2";
        Ok(self.rows(sql, values![tenant.as_str(), id.0.as_bytes()], template)?.pop())
    }

    /// All tenants, by id.
    pub fn tenants(&self) -> Result<Vec<Tenant>, QueryError> {
        self.rows("SELECT id, name, created_ms FROM tenants ORDER BY id", &[], |row| {
            Ok(Tenant {
                id: TenantId::from_trusted(row.text(0)?),
                name: row.get(1)?,
                created_at: time(row.get(2)?)?,
            })
        })
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        self.readers.ask(|connection| connection.all(sql, values, &read))
    }
}

/// Who an id stands for: itself, unless it was merged away.
fn resolve(connection: Connection<'_>, tenant: &TenantId, id: ContactId) -> Result<ContactId, QueryError> {
    let sql = "SELECT heir FROM heirs WHERE tenant = ?1 AND id = ?2";
    let heir = connection
        .first(sql, values![tenant.as_str(), &id], |row| Ok::<_, QueryError>(ContactId(row.uuid(0)?)))?;
    Ok(heir.unwrap_or(id))
}

fn one_contact(
    connection: Connection<'_>,
    tenant: &TenantId,
    id: ContactId,
) -> Result<Option<Contact>, QueryError> {
    let sql = select_contacts!("WHERE c.tenant = ?1 AND c.id = ?2");
    let found = connection.all(sql, values![tenant.as_str(), id.0.as_bytes()], contact)?;
    found.into_iter().next().map(|found| with_groups(connection, tenant, found)).transpose()
}

fn with_groups(
    connection: Connection<'_>,
    tenant: &TenantId,
    contact: Contact,
) -> Result<Contact, QueryError> {
    let sql = "SELECT m.group_id FROM members m JOIN groups g ON g.id = m.group_id
               WHERE m.contact = ?1 AND g.tenant = ?2 ORDER BY m.group_id";
    let key = values![contact.id.0.as_bytes(), tenant.as_str()];
    let groups = connection.all(sql, key, |row| Ok::<_, QueryError>(GroupId(row.uuid(0)?)))?;
    Ok(Contact { groups, ..contact })
}

/// In the form of the column `search`; a number as people write it loses its hyphens.
fn search_text(wanted: &str) -> String {
    let is_number = wanted.chars().all(|character| character.is_ascii_digit() || "-. ()".contains(character));
    if is_number {
        return wanted.chars().filter(char::is_ascii_digit).collect();
    }
    wanted.to_lowercase()
}

fn contact(row: &Row<'_>) -> Result<Contact, QueryError> {
    let refused: BTreeSet<&str> =
        row.optional_str(8)?.into_iter().flat_map(|brands| brands.split(BETWEEN_BRANDS)).collect();
    Ok(Contact {
        id: ContactId(row.uuid(0)?),
        name: row.get(1)?,
        phone: row.optional_text(2)?,
        email: row.optional_text(3)?,
        tags: from_json(row.str(4)?)?,
        fields: from_json(row.str(5)?)?,
        created_at: time(row.get(6)?)?,
        updated_at: time(row.get(7)?)?,
        groups: Vec::new(),
        opted_out: !refused.is_empty(),
        refused_brands: named(&refused),
    })
}

/// The brands, if it is only brands.
fn named(refused: &BTreeSet<&str>) -> Vec<String> {
    if refused.contains("") { Vec::new() } else { refused.iter().map(|brand| (*brand).to_owned()).collect() }
}

fn group(row: &Row<'_>) -> Result<Group, QueryError> {
    Ok(Group {
        id: GroupId(row.uuid(0)?),
        name: row.get(1)?,
        members: u64::try_from(row.get::<i64>(2)?).unwrap_or(0),
        created_at: time(row.get(3)?)?,
    })
}

fn opt_out(row: &Row<'_>) -> Result<OptOut, QueryError> {
    Ok(OptOut {
        address: row.text(0)?,
        brand: row.get(1)?,
        source: row.get(2)?,
        since: time(row.get(3)?)?,
        refused_at: time(row.get(4)?)?,
    })
}

fn template(row: &Row<'_>) -> Result<Template, QueryError> {
    Ok(Template {
        id: TemplateId(row.uuid(0)?),
        name: row.get(1)?,
        subject: row.get(2)?,
        text: row.get(3)?,
        updated_at: time(row.get(4)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::rows::{PEOPLE_BY_ADDRESS, PEOPLE_BY_CONTACT};
    use crate::tests::Bench;

    /// What is needed for each contact, and for each refusal, uses an index: with a hundred thousand of them a scan
    /// stops the address book for everybody.
    #[test]
    fn nothing_is_scanned_for_a_contact_or_a_refusal() {
        let bench = Bench::on_files();
        let connection = rusqlite::Connection::open(bench.path().join("address_book.db")).unwrap();
        let plan = |sql: &str| -> Vec<String> {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let parameters = vec![rusqlite::types::Null; statement.parameter_count()];
            let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        for (select, index) in [
            (&PEOPLE_BY_ADDRESS, "USING PRIMARY KEY (tenant=? AND address=?)"),
            (&PEOPLE_BY_CONTACT, "USING COVERING INDEX people_by_contact (tenant=? AND contact=?)"),
        ] {
            let steps = plan(select.sqlite());
            assert_eq!(steps.len(), 1, "{steps:#?}");
            assert!(steps[0].starts_with("SEARCH people") && steps[0].ends_with(index), "{steps:#?}");
        }
        let contacts = plan(select_contacts!("WHERE c.tenant = ?1 AND c.id = ?2"));
        assert!(
            contacts.iter().all(|step| !step.starts_with("SCAN p") && !step.starts_with("SCAN b")),
            "{contacts:#?}"
        );
        let bonds = contacts.iter().find(|step| step.contains(" b ")).unwrap();
        assert!(bonds.ends_with("(tenant=? AND other=?)"), "{contacts:#?}");
    }
}
