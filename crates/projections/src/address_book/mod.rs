//! The address book: contacts, groups, opt-outs, templates, sender identities, tenants.
//!
//! Contacts are told apart by their addresses (see `merge`), and refusals bind people (see `people`). Everything is written at
//! once: these events are rare, and an import comes in sets. Deliberately absent: keys. Who looks at them reads the log, where
//! nothing is behind.

mod merge;
mod people;
mod queries;
mod schema;
mod views;

pub use queries::{AddressBookQueries, ContactFilter};
pub use views::{Bond, Contact, Group, OptOut, Template, Tenant};

use kite_domain::contact::{ContactsSaved, GroupMembersChanged};
use kite_domain::event::Event;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::sender::{self, SaidBy, SenderIdentity};
use kite_domain::slug::TenantId;
use kite_event_store::{Filter, RecordedEvent};
use rusqlite::{Connection, OptionalExtension, params};

use crate::engine::Tables;
use crate::error::ApplyError;
use crate::projector::ReadModel;
use crate::sql::{from_json, json};
use crate::table::Table;
use merge::{join, leave, resolve, save_contact};

/// The fold of the address book. It keeps nothing in memory.
#[derive(Debug, Default)]
pub struct AddressBookModel;

impl ReadModel for AddressBookModel {
    const NAME: &'static str = "address_book";
    const SCHEMA_VERSION: i64 = 4;
    const CACHE_BYTES: usize = 16 * 1024 * 1024;
    const TABLES: &'static [&'static Table] = schema::TABLES;
    const ALSO: &'static str = schema::TRIGGERS;

    fn filter() -> Filter {
        Filter::kinds([
            "tenant-created",
            "sender-registered",
            "sender-requested",
            "sender-approved",
            "sender-refused",
            "sender-expired",
            "sender-withdrawn",
            "opt-out-recorded",
            "opt-out-withdrawn",
            "opt-out-extended",
            "template-saved",
            "template-deleted",
            "contacts-saved",
            "contact-deleted",
            "group-saved",
            "group-deleted",
            "group-members-changed",
        ])
    }

    fn apply(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        let Tables::Sqlite(transaction) = tables;
        for (recorded, event) in events {
            let time_ms = recorded.metadata.time.timestamp_millis();
            match event {
                Event::ContactsSaved(saved) => contacts_saved(transaction, saved, time_ms)?,
                Event::ContactDeleted(deleted) => {
                    let id = resolve(transaction, &deleted.tenant, deleted.contact)?;
                    merge::delete(transaction, &deleted.tenant, id)?;
                }
                Event::GroupSaved(saved) => {
                    group_saved(transaction, &saved.tenant, saved.group, &saved.name, time_ms)?;
                }
                Event::GroupDeleted(deleted) => group_deleted(transaction, &deleted.tenant, deleted.group)?,
                Event::GroupMembersChanged(changed) => members_changed(transaction, changed)?,
                _ => apply_rest(transaction, event, time_ms)?,
            }
            if let Some(whose) = sender::about(event) {
                sender_changed(transaction, whose, recorded, event)?;
            }
        }
        Ok(())
    }
}

fn contacts_saved(transaction: &Connection, saved: &ContactsSaved, time_ms: i64) -> Result<(), ApplyError> {
    for details in &saved.personal.contacts {
        let id = save_contact(transaction, &saved.tenant, details, time_ms)?;
        if let Some(group) = saved.group {
            join(transaction, &saved.tenant, group, id)?;
        }
    }
    Ok(())
}

/// The row holds what the domain makes of all events of a sender: its fold stands once.
fn sender_changed(
    transaction: &Connection,
    (tenant, address): (&TenantId, &str),
    recorded: &RecordedEvent,
    event: &Event,
) -> Result<(), ApplyError> {
    let key = kite_domain::address::identity(address);
    let known: Option<String> = transaction
        .prepare_cached("SELECT identity FROM senders WHERE tenant = ?1 AND address = ?2")?
        .query_row([tenant.as_str(), &key], |row| row.get(0))
        .optional()?;
    let known = known.map(|known| from_json::<SenderIdentity>(&known)).transpose();
    let known = known.map_err(|error| ApplyError::Corrupt(error.to_string()))?;
    let by = SaidBy { actor: recorded.metadata.actor.clone(), at: recorded.metadata.time };
    let Some(identity) = SenderIdentity::evolve(known, event, by) else { return Ok(()) };
    transaction
        .prepare_cached(
            "INSERT INTO senders (tenant, address, identity) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET identity = ?3",
        )?
        .execute(params![tenant.as_str(), &key, json(&identity)])?;
    Ok(())
}

fn group_saved(
    transaction: &Connection,
    tenant: &TenantId,
    group: GroupId,
    name: &str,
    time_ms: i64,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO groups (id, tenant, name, members, created_ms) VALUES (?1, ?2, ?3, 0, ?4)
             ON CONFLICT DO UPDATE SET name = ?3 WHERE tenant = ?2",
        )?
        .execute(params![group.0.as_bytes(), tenant.as_str(), name, time_ms])
        .map(drop)
}

fn group_deleted(transaction: &Connection, tenant: &TenantId, group: GroupId) -> rusqlite::Result<()> {
    let deleted = transaction
        .prepare_cached("DELETE FROM groups WHERE id = ?1 AND tenant = ?2")?
        .execute(params![group.0.as_bytes(), tenant.as_str()])?;
    if deleted > 0 {
        transaction
            .prepare_cached("DELETE FROM members WHERE group_id = ?1")?
            .execute([group.0.as_bytes()])?;
    }
    Ok(())
}

fn members_changed(transaction: &Connection, changed: &GroupMembersChanged) -> Result<(), ApplyError> {
    let contact = |id: &ContactId| resolve(transaction, &changed.tenant, *id);
    for id in &changed.added {
        join(transaction, &changed.tenant, changed.group, contact(id)?)?;
    }
    for id in &changed.removed {
        leave(transaction, &changed.tenant, changed.group, contact(id)?)?;
    }
    Ok(())
}

/// Everything that is one row of its own.
fn apply_rest(transaction: &Connection, event: &Event, time_ms: i64) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql)?.execute(values).map(drop)
    };
    match event {
        Event::TenantCreated(created) => run(
            "INSERT INTO tenants (id, name, created_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET name = ?2",
            params![created.tenant.as_str(), created.name, time_ms],
        ),
        Event::OptOutRecorded(recorded) => people::refused(transaction, recorded, time_ms),
        Event::OptOutWithdrawn(withdrawn) => people::agreed(transaction, withdrawn),
        Event::OptOutExtended(extended) => people::extended(transaction, extended),
        Event::TemplateSaved(saved) => run(
            "INSERT INTO templates (tenant, id, name, subject, text, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET name = ?3, subject = ?4, text = ?5, updated_ms = ?6",
            params![
                saved.tenant.as_str(),
                saved.template.0.as_bytes(),
                saved.name,
                saved.subject,
                saved.text,
                time_ms
            ],
        ),
        Event::TemplateDeleted(deleted) => run(
            "DELETE FROM templates WHERE tenant = ?1 AND id = ?2",
            params![deleted.tenant.as_str(), deleted.template.0.as_bytes()],
        ),
        _ => Ok(()),
    }
}
