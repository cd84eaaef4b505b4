//! Where the events in force are in the log: of relays, policies, senders, templates, tenants, keys.
//!
//! A process that starts, and a decision about one of these things, read only those events
//! ([`kite_domain::in_force`]). Their content stays only in the log, because it includes keys and credentials.

mod queries;
mod rows;
mod schema;

pub use queries::{DirectoryQueries, InForce};

use kite_domain::event::Event;
use kite_domain::in_force::{self, Effect};
use kite_event_store::{Filter, RecordedEvent};

use crate::engine::{Rows, Tables};
use crate::error::ApplyError;
use crate::read_model::ReadModel;
use crate::table::Table;
use rows::InForceRow;

/// Past this many rows, what is remembered of them starts again.
const KEPT_MAX: usize = 4_096;

/// The fold of what is in force.
#[derive(Debug)]
pub(crate) struct DirectoryModel {
    events: Rows<InForceRow>,
}

impl Default for DirectoryModel {
    fn default() -> Self {
        Self { events: Rows::keeping(KEPT_MAX) }
    }
}

impl ReadModel for DirectoryModel {
    const NAME: &'static str = "directory";
    const SCHEMA_VERSION: i64 = 1;
    const CACHE_BYTES: usize = 1024 * 1024;
    const TABLES: &'static [&'static Table] = schema::TABLES;

    fn filter() -> Filter {
        Filter::kinds(in_force::KINDS)
    }

    fn apply(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        for (recorded, event) in events {
            let row = InForceRow { version: recorded.version, position: recorded.position };
            for effect in in_force::effects(event, recorded.version) {
                match effect {
                    Effect::Newest(subject) => {
                        self.events.put(tables, (recorded.stream.clone(), subject), row)?;
                    }
                    Effect::First(subject) => {
                        let key = (recorded.stream.clone(), subject);
                        if self.events.get(tables, &key)?.is_none() {
                            self.events.put(tables, key, row)?;
                        }
                    }
                    Effect::Over(subject) => {
                        self.events.remove(tables, &(recorded.stream.clone(), subject))?;
                    }
                }
            }
        }
        self.events.flush(tables)
    }
}
