//! When two contacts are one.
//!
//! A tenant has at most one contact with an address. A contact that is saved with the address of another is the same
//! person, and so are all that share an address with it: the oldest of them (the first in the log) stays and takes over
//! the groups of the others, whose ids stand for it from then on. Its name, addresses and fields become what was saved;
//! what was saved without an address keeps the one that was known, tags and fields come together. Without a merge the
//! contact is simply as it was saved. All of it follows from the order of the log.

use kite_domain::contact::ContactDetails;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use rusqlite::{Connection, OptionalExtension, params};
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use super::people::{self, Addresses};
use crate::error::ApplyError;
use crate::sql::{json, optional_text, uuid};

/// A contact's row, as far as merging needs it.
struct Known {
    id: ContactId,
    /// Counts up in the order of the log.
    number: i64,
    name: String,
    phone: Option<SmolStr>,
    email: Option<SmolStr>,
    tags: BTreeSet<SmolStr>,
    fields: BTreeMap<SmolStr, String>,
    created_ms: i64,
}

/// Who an id stands for: itself, unless it was merged away.
pub(super) fn resolve(
    connection: &Connection,
    tenant: &TenantId,
    id: ContactId,
) -> rusqlite::Result<ContactId> {
    let heir = connection
        .prepare_cached("SELECT heir FROM heirs WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant.as_str(), id.0.as_bytes()], |row| uuid(row, 0))
        .optional()?;
    Ok(heir.map_or(id, ContactId))
}

/// Saves a contact, merging where an address says so; the contact that it is now.
pub(super) fn save_contact(
    transaction: &Connection,
    tenant: &TenantId,
    saved: &ContactDetails,
    time_ms: i64,
) -> Result<ContactId, ApplyError> {
    let named = resolve(transaction, tenant, saved.contact)?;
    let mut known = same_person(transaction, tenant, named, saved)?;
    known.sort_by_key(|contact| contact.number);
    let is_merge = known.len() > 1 || known.iter().any(|contact| contact.id != saved.contact);
    let contact = match known.first() {
        None => fresh(transaction, saved, time_ms)?,
        Some(oldest) => {
            let as_saved = as_saved(saved, oldest.id, oldest.number, oldest.created_ms);
            if is_merge { gathered(as_saved, &known) } else { as_saved }
        }
    };
    for other in known.iter().filter(|other| other.id != contact.id) {
        hand_down(transaction, tenant, other.id, contact.id)?;
    }
    let before = known.first().filter(|_| !is_merge).map_or([&None, &None], |old| [&old.phone, &old.email]);
    let addresses = Addresses::of(before, [&contact.phone, &contact.email]);
    if saved.contact != contact.id {
        set_heir(transaction, tenant, saved.contact, contact.id)?;
    }
    write(transaction, tenant, &contact, time_ms)?;
    people::saved(transaction, tenant, contact.id, &addresses)?;
    Ok(contact.id)
}

/// Removes a contact from the book and from its groups.
pub(super) fn delete(transaction: &Connection, tenant: &TenantId, id: ContactId) -> Result<(), ApplyError> {
    if find(transaction, tenant, "id", &id.0.as_bytes().as_slice())?.is_none() {
        return Ok(());
    }
    for group in groups_of(transaction, id)? {
        leave(transaction, tenant, group, id)?;
    }
    let key = params![tenant.as_str(), id.0.as_bytes()];
    transaction.prepare_cached("DELETE FROM heirs WHERE tenant = ?1 AND heir = ?2")?.execute(key)?;
    people::forgotten(transaction, tenant, id)?;
    remove_row(transaction, tenant, id)
}

/// Adds a contact to a group; nothing if either is not there.
pub(super) fn join(
    transaction: &Connection,
    tenant: &TenantId,
    group: GroupId,
    contact: ContactId,
) -> rusqlite::Result<()> {
    let added = transaction
        .prepare_cached(
            "INSERT INTO members (group_id, contact)
             SELECT g.id, c.id FROM groups g, contacts c
             WHERE g.id = ?2 AND g.tenant = ?1 AND c.tenant = ?1 AND c.id = ?3
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![tenant.as_str(), group.0.as_bytes(), contact.0.as_bytes()])?;
    count_members(transaction, group, added as i64)
}

/// Takes a contact out of a group.
pub(super) fn leave(
    transaction: &Connection,
    tenant: &TenantId,
    group: GroupId,
    contact: ContactId,
) -> rusqlite::Result<()> {
    let removed = transaction
        .prepare_cached(
            "DELETE FROM members WHERE group_id = ?2 AND contact = ?3
               AND EXISTS (SELECT 1 FROM groups WHERE id = ?2 AND tenant = ?1)",
        )?
        .execute(params![tenant.as_str(), group.0.as_bytes(), contact.0.as_bytes()])?;
    count_members(transaction, group, -(removed as i64))
}

fn count_members(transaction: &Connection, group: GroupId, change: i64) -> rusqlite::Result<()> {
    if change == 0 {
        return Ok(());
    }
    transaction
        .prepare_cached("UPDATE groups SET members = members + ?2 WHERE id = ?1")?
        .execute(params![group.0.as_bytes(), change])
        .map(drop)
}

/// The contact that was named and those that have one of its addresses.
fn same_person(
    connection: &Connection,
    tenant: &TenantId,
    named: ContactId,
    saved: &ContactDetails,
) -> Result<Vec<Known>, ApplyError> {
    let mut known: Vec<Known> = Vec::new();
    let mut add = |found: Option<Known>| {
        if let Some(found) = found.filter(|found| known.iter().all(|other| other.id != found.id)) {
            known.push(found);
        }
    };
    add(find(connection, tenant, "id", &named.0.as_bytes().as_slice())?);
    if let Some(phone) = &saved.phone {
        add(find(connection, tenant, "phone", &phone.as_str())?);
    }
    if let Some(email) = &saved.email {
        add(find(connection, tenant, "email", &email.as_str())?);
    }
    Ok(known)
}

fn find(
    connection: &Connection,
    tenant: &TenantId,
    column: &'static str,
    value: &dyn rusqlite::ToSql,
) -> Result<Option<Known>, ApplyError> {
    let sql = match column {
        "phone" => {
            "SELECT id, number, name, phone, email, tags, fields, created_ms FROM contacts
                    WHERE tenant = ?1 AND phone = ?2"
        }
        "email" => {
            "SELECT id, number, name, phone, email, tags, fields, created_ms FROM contacts
                    WHERE tenant = ?1 AND email = ?2"
        }
        _ => {
            "SELECT id, number, name, phone, email, tags, fields, created_ms FROM contacts
              WHERE tenant = ?1 AND id = ?2"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant.as_str(), value])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Known {
        id: ContactId(uuid(row, 0)?),
        number: row.get(1)?,
        name: row.get(2)?,
        phone: optional_text(row, 3)?,
        email: optional_text(row, 4)?,
        tags: serde_json::from_str(&row.get::<_, String>(5)?).map_err(ApplyError::corrupt)?,
        fields: serde_json::from_str(&row.get::<_, String>(6)?).map_err(ApplyError::corrupt)?,
        created_ms: row.get(7)?,
    }))
}

fn fresh(transaction: &Connection, saved: &ContactDetails, time_ms: i64) -> rusqlite::Result<Known> {
    let number = transaction
        .prepare_cached("UPDATE contact_numbers SET next = next + 1 WHERE id = 1 RETURNING next - 1")?
        .query_row([], |row| row.get(0))?;
    Ok(as_saved(saved, saved.contact, number, time_ms))
}

fn as_saved(saved: &ContactDetails, id: ContactId, number: i64, created_ms: i64) -> Known {
    Known {
        id,
        number,
        name: saved.name.clone(),
        phone: saved.phone.clone(),
        email: saved.email.clone(),
        tags: saved.tags.iter().cloned().collect(),
        fields: saved.fields.clone(),
        created_ms,
    }
}

/// Completes what was saved with what was known, the oldest first.
fn gathered(mut contact: Known, known: &[Known]) -> Known {
    for other in known {
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

/// Everything of a contact that goes away becomes its heir's.
fn hand_down(
    transaction: &Connection,
    tenant: &TenantId,
    from: ContactId,
    to: ContactId,
) -> Result<(), ApplyError> {
    for group in groups_of(transaction, from)? {
        leave(transaction, tenant, group, from)?;
        join(transaction, tenant, group, to)?;
    }
    transaction
        .prepare_cached("UPDATE heirs SET heir = ?3 WHERE tenant = ?1 AND heir = ?2")?
        .execute(params![tenant.as_str(), from.0.as_bytes(), to.0.as_bytes()])?;
    set_heir(transaction, tenant, from, to)?;
    people::merged(transaction, tenant, from, to)?;
    remove_row(transaction, tenant, from)
}

fn set_heir(
    transaction: &Connection,
    tenant: &TenantId,
    id: ContactId,
    heir: ContactId,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO heirs (tenant, id, heir) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET heir = ?3",
        )?
        .execute(params![tenant.as_str(), id.0.as_bytes(), heir.0.as_bytes()])
        .map(drop)
}

fn groups_of(connection: &Connection, contact: ContactId) -> rusqlite::Result<Vec<GroupId>> {
    let mut statement =
        connection.prepare_cached("SELECT group_id FROM members WHERE contact = ?1 ORDER BY group_id")?;
    let rows = statement.query_map([contact.0.as_bytes()], |row| uuid(row, 0).map(GroupId))?;
    rows.collect()
}

fn remove_row(transaction: &Connection, tenant: &TenantId, id: ContactId) -> Result<(), ApplyError> {
    remove_tags(transaction, tenant, id)?;
    transaction
        .prepare_cached("DELETE FROM contacts WHERE tenant = ?1 AND id = ?2")?
        .execute(params![tenant.as_str(), id.0.as_bytes()])?;
    Ok(())
}

fn remove_tags(transaction: &Connection, tenant: &TenantId, id: ContactId) -> Result<(), ApplyError> {
    let stored: Option<String> = transaction
        .prepare_cached("SELECT tags FROM contacts WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant.as_str(), id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(stored) = stored else { return Ok(()) };
    let tags: Vec<SmolStr> = serde_json::from_str(&stored).map_err(ApplyError::corrupt)?;
    let mut remove =
        transaction.prepare_cached("DELETE FROM tags WHERE tenant = ?1 AND tag = ?2 AND contact = ?3")?;
    for tag in tags {
        remove.execute(params![tenant.as_str(), tag.as_str(), id.0.as_bytes()])?;
    }
    Ok(())
}

fn write(
    transaction: &Connection,
    tenant: &TenantId,
    contact: &Known,
    time_ms: i64,
) -> Result<(), ApplyError> {
    let id: Uuid = contact.id.0;
    remove_tags(transaction, tenant, contact.id)?;
    transaction
        .prepare_cached(
            "INSERT INTO contacts (tenant, id, number, name, phone, email, tags, fields, search, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (tenant, id) DO UPDATE SET name = ?4, phone = ?5, email = ?6, tags = ?7, fields = ?8,
                 search = ?9, updated_ms = ?11",
        )?
        .execute(params![
            tenant.as_str(),
            id.as_bytes(),
            contact.number,
            contact.name,
            contact.phone.as_deref(),
            contact.email.as_deref(),
            json(&contact.tags),
            json(&contact.fields),
            search_text(contact),
            contact.created_ms,
            time_ms
        ])?;
    let mut add = transaction.prepare_cached(
        "INSERT INTO tags (tenant, tag, contact) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for tag in &contact.tags {
        add.execute(params![tenant.as_str(), tag.as_str(), id.as_bytes()])?;
    }
    Ok(())
}

fn search_text(contact: &Known) -> String {
    let parts = [Some(contact.name.as_str()), contact.phone.as_deref(), contact.email.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    parts.join("\n").to_lowercase()
}
