//! The address book: contacts, groups, opt-outs, templates, sender identities, tenants.
//!
//! Contacts are identified by their addresses (see `merge`), and refusals apply to people (see `people`). For the
//! contacts that an import names, each kind of row is read at once: the contacts, their heirs, and the contacts with
//! their addresses. Everything else (groups and members, people, refusals) is read when the fold needs it.
//!
//! Deliberately absent: keys. Whoever looks at keys reads the log, which is never behind.

mod book;
mod known;
mod merge;
mod people;
mod queries;
mod refusals;
mod rows;
mod schema;

pub use known::{Bond, Contact, Group, OptOut, Template, Tenant};
pub use queries::{AddressBookQueries, ContactFilter};
pub use refusals::StoredRefusals;

use kite_domain::contact::{ContactsSaved, GroupMembersChanged};
use kite_domain::event::{Event, EventKind};
use kite_domain::sender::{self, SaidBy, SenderIdentity};
use kite_domain::slug::TenantId;
use kite_event_store::{Filter, RecordedEvent};
use smol_str::SmolStr;

use crate::engine::Tables;
use crate::error::ApplyError;
use crate::read_model::{ReadModel, Upgrade};
use crate::sql::{from_json, json};
use crate::table::Table;
use book::{Book, BookRows, Names};
use rows::{SenderRow, TemplateRow, TenantRow};

/// The fold of the address book.
#[derive(Debug, Default)]
pub(crate) struct AddressBookModel {
    rows: BookRows,
}

impl ReadModel for AddressBookModel {
    const NAME: &'static str = "address_book";
    const SCHEMA_VERSION: i64 = 5;
    const CACHE_BYTES: usize = 16 * 1024 * 1024;
    const TABLES: &'static [&'static Table] = schema::TABLES;
    const UPGRADE: Option<Upgrade> = Some(schema::UPGRADE);

    fn filter() -> Filter {
        Filter::kinds([
            EventKind::TenantCreated,
            EventKind::SenderRegistered,
            EventKind::SenderRequested,
            EventKind::SenderApproved,
            EventKind::SenderRefused,
            EventKind::SenderExpired,
            EventKind::SenderWithdrawn,
            EventKind::OptOutRecorded,
            EventKind::OptOutWithdrawn,
            EventKind::OptOutExtended,
            EventKind::TemplateSaved,
            EventKind::TemplateDeleted,
            EventKind::ContactsSaved,
            EventKind::ContactDeleted,
            EventKind::GroupSaved,
            EventKind::GroupDeleted,
            EventKind::GroupMembersChanged,
        ])
    }

    fn apply(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        let mut book = Book { tables, rows: &mut self.rows };
        for (recorded, event) in events {
            book.fold(event, recorded.metadata.time.timestamp_millis())?;
            if let Some(whose) = sender::about(event) {
                book.sender_changed(whose, recorded, event)?;
            }
        }
        self.rows.flush(tables)
    }
}

impl Book<'_> {
    fn fold(&mut self, event: &Event, time_ms: i64) -> Result<(), ApplyError> {
        match event {
            Event::ContactsSaved(saved) => self.contacts_saved(saved, time_ms),
            Event::ContactDeleted(deleted) => {
                let names = Names::new(&deleted.tenant);
                let id = self.resolve(&names, deleted.contact)?;
                self.delete_contact(&names, id)
            }
            Event::GroupSaved(saved) => {
                self.group_saved(&Names::new(&saved.tenant), saved.group, &saved.name, time_ms)
            }
            Event::GroupDeleted(deleted) => self.group_deleted(&Names::new(&deleted.tenant), deleted.group),
            Event::GroupMembersChanged(changed) => self.members_changed(changed),
            Event::OptOutRecorded(recorded) => self.refused(recorded, time_ms),
            Event::OptOutWithdrawn(withdrawn) => self.agreed(withdrawn),
            Event::OptOutExtended(extended) => self.extended(extended),
            Event::TenantCreated(created) => {
                let id = SmolStr::new(created.tenant.as_str());
                let known = self.rows.tenants.get(self.tables, &id)?;
                let created_ms = known.map_or(time_ms, |tenant| tenant.created_ms);
                self.rows.tenants.put(self.tables, id, TenantRow { name: created.name.clone(), created_ms })
            }
            Event::TemplateSaved(saved) => {
                let key = (saved.tenant.as_str().into(), saved.template.0);
                let row = TemplateRow {
                    name: saved.name.clone(),
                    subject: saved.subject.clone(),
                    text: saved.text.clone(),
                    updated_ms: time_ms,
                };
                self.rows.templates.put(self.tables, key, row)
            }
            Event::TemplateDeleted(deleted) => {
                let key = (deleted.tenant.as_str().into(), deleted.template.0);
                self.rows.templates.remove(self.tables, &key).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn contacts_saved(&mut self, saved: &ContactsSaved, time_ms: i64) -> Result<(), ApplyError> {
        let names = Names::new(&saved.tenant);
        self.prefetch(&names, saved)?;
        for details in &saved.personal.contacts {
            let id = self.save_contact(&names, details, time_ms)?;
            if let Some(group) = saved.group {
                self.join(&names, group, id)?;
            }
        }
        Ok(())
    }

    fn members_changed(&mut self, changed: &GroupMembersChanged) -> Result<(), ApplyError> {
        let names = Names::new(&changed.tenant);
        for id in &changed.added {
            let contact = self.resolve(&names, *id)?;
            self.join(&names, changed.group, contact)?;
        }
        for id in &changed.removed {
            let contact = self.resolve(&names, *id)?;
            self.leave(&names, changed.group, contact)?;
        }
        Ok(())
    }

    /// The row stores the domain's own fold of all events of a sender, so that the rules exist only once.
    fn sender_changed(
        &mut self,
        (tenant, address): (&TenantId, &str),
        recorded: &RecordedEvent,
        event: &Event,
    ) -> Result<(), ApplyError> {
        let key = (SmolStr::new(tenant.as_str()), kite_domain::address::identity(address).into());
        let known = self.rows.senders.get(self.tables, &key)?;
        let known = known.map(|known| from_json::<SenderIdentity>(&known.0)).transpose();
        let known = known.map_err(ApplyError::corrupt)?;
        let by = SaidBy { actor: recorded.metadata.actor.clone(), at: recorded.metadata.time };
        match SenderIdentity::evolve(known, event, by) {
            Some(identity) => self.rows.senders.put(self.tables, key, SenderRow(json(&identity))),
            None => Ok(()),
        }
    }
}
