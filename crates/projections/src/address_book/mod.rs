//! The address book: contacts, groups, opt-outs, templates, sender identities, tenants.
//!
//! Contacts are told apart by their addresses (see `merge`). Everything is written at once: these events are rare, and
//! an import comes in sets. Deliberately absent: keys. Who looks at them reads the log, where nothing is behind.

mod merge;
mod queries;
mod schema;
mod views;

pub use queries::{AddressBookQueries, ContactFilter};
pub use views::{Contact, Group, OptOut, Sender, Template, Tenant};

use kite_domain::contact::{ContactsSaved, GroupMembersChanged};
use kite_domain::event::Event;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use kite_event_store::{Filter, RecordedEvent};
use rusqlite::{Transaction, params};

use crate::error::ApplyError;
use crate::projector::ReadModel;
use crate::sql::json;
use merge::{join, leave, resolve, save_contact};

/// The fold of the address book. It keeps nothing in memory.
#[derive(Debug, Default)]
pub struct AddressBookModel;

impl ReadModel for AddressBookModel {
    const NAME: &'static str = "address_book";
    const SCHEMA_VERSION: i64 = 3;
    const CACHE_BYTES: usize = 16 * 1024 * 1024;

    fn filter() -> Filter {
        Filter::kinds([
            "tenant-created",
            "sender-registered",
            "sender-withdrawn",
            "opt-out-recorded",
            "opt-out-withdrawn",
            "template-saved",
            "template-deleted",
            "contacts-saved",
            "contact-deleted",
            "group-saved",
            "group-deleted",
            "group-members-changed",
        ])
    }

    fn schema() -> &'static str {
        schema::SCHEMA
    }

    fn indexes() -> &'static str {
        schema::INDEXES
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[(RecordedEvent, Event)],
    ) -> Result<(), ApplyError> {
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
        }
        Ok(())
    }
}

fn contacts_saved(
    transaction: &Transaction<'_>,
    saved: &ContactsSaved,
    time_ms: i64,
) -> Result<(), ApplyError> {
    for details in &saved.personal.contacts {
        let id = save_contact(transaction, &saved.tenant, details, time_ms)?;
        if let Some(group) = saved.group {
            join(transaction, &saved.tenant, group, id)?;
        }
    }
    Ok(())
}

fn group_saved(
    transaction: &Transaction<'_>,
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

fn group_deleted(transaction: &Transaction<'_>, tenant: &TenantId, group: GroupId) -> rusqlite::Result<()> {
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

fn members_changed(transaction: &Transaction<'_>, changed: &GroupMembersChanged) -> Result<(), ApplyError> {
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
fn apply_rest(transaction: &Transaction<'_>, event: &Event, time_ms: i64) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql)?.execute(values).map(drop)
    };
    match event {
        Event::TenantCreated(created) => run(
            "INSERT INTO tenants (id, name, created_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET name = ?2",
            params![created.tenant.as_str(), created.name, time_ms],
        ),
        Event::SenderRegistered(sender) => run(
            "INSERT INTO senders (tenant, address, kind, brand, refusal_number, relays, registered_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET kind = ?3, brand = ?4, refusal_number = ?5, relays = ?6, registered_ms = ?7",
            params![
                sender.tenant.as_str(),
                sender.address.as_str(),
                json(&sender.kind),
                sender.brand,
                sender.refusal_number.as_deref(),
                json(&sender.relays),
                time_ms
            ],
        ),
        Event::SenderWithdrawn(withdrawn) => run(
            "DELETE FROM senders WHERE tenant = ?1 AND address = ?2",
            params![withdrawn.tenant.as_str(), withdrawn.address.as_str()],
        ),
        // A refusal that is repeated counts from the first time.
        Event::OptOutRecorded(recorded) => run(
            "INSERT INTO opt_outs (tenant, address, source, since_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![recorded.tenant.as_str(), recorded.personal.address.as_str(), recorded.source, time_ms],
        ),
        Event::OptOutWithdrawn(withdrawn) => run(
            "DELETE FROM opt_outs WHERE tenant = ?1 AND address = ?2",
            params![withdrawn.tenant.as_str(), withdrawn.personal.address.as_str()],
        ),
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
