//! The rows of `sendings`: the content of their own streams, and the sums of their lots.

use kite_domain::ids::SendingId;
use kite_domain::sending::{PauseBy, SendingAccepted, SendingPaused};
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};

use super::codes::Coded;
use super::counters::{Counter, Counts};
use super::schema::{CONTENTS, SENDINGS};
use crate::engine::{Cells, Row, StorageError, Tables, values};
use crate::sql::json;
use crate::table::{Pick, Statement};

/// Past this many the cache of facts starts again.
const CACHED_MAX: usize = 16_384;

/// Their places are what is in the column.
pub(super) const PAUSERS: [PauseBy; 2] = [PauseBy::Tenant, PauseBy::Operator];

/// What is known of a sending without its lots.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// There is a row.
    is_stored: bool,
    /// When a scheduled sending was released.
    pub(super) released_ms: Option<i64>,
    pub(super) is_sealed: bool,
}

/// The times that a sending's row may be given.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    Released,
    Cancelled,
    Completed,
    Abandoned,
}

/// What may happen to a sending more than once, or late: columns that hardly any index contains.
const COURSE: &[&str] = &[
    "id",
    "released_ms",
    "paused_ms",
    "paused_by",
    "pause_reason",
    "cancelled_ms",
    "completed_ms",
    "abandoned_ms",
];

static FACTS: Statement =
    Statement::select(&SENDINGS, Pick::Named(&["id", "released_ms", "accepted_ms"]), &[]);
static STORED_COURSE: Statement = Statement::select(&SENDINGS, Pick::Named(COURSE), &[]);
static PUT_COURSE: Statement = Statement::upsert(&SENDINGS, Pick::Named(COURSE));
static ADD_COUNTS: Statement = Statement::upsert(&SENDINGS, Pick::Added);
static PUT: Statement = Statement::upsert(&SENDINGS, Pick::All);
static ADD_CONTENT: Statement = Statement::insert_new(&CONTENTS, Pick::All);
static CONTENT: Statement = Statement::select(&CONTENTS, Pick::Named(&["from_phone", "from_email"]), &[]);

/// What happened to a sending.
#[derive(Debug, Clone, Default)]
struct Course {
    released_ms: Option<i64>,
    paused_ms: Option<i64>,
    paused_by: Option<i64>,
    pause_reason: Option<String>,
    cancelled_ms: Option<i64>,
    completed_ms: Option<i64>,
    abandoned_ms: Option<i64>,
}

impl Course {
    fn read(row: &Row<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            released_ms: row.get(1)?,
            paused_ms: row.get(2)?,
            paused_by: row.get(3)?,
            pause_reason: row.get(4)?,
            cancelled_ms: row.get(5)?,
            completed_ms: row.get(6)?,
            abandoned_ms: row.get(7)?,
        })
    }

    fn put(&self, cells: &mut Cells<'_>) {
        cells.put(self.released_ms);
        cells.put(self.paused_ms);
        cells.put(self.paused_by);
        cells.put(self.pause_reason.as_ref());
        cells.put(self.cancelled_ms);
        cells.put(self.completed_ms);
        cells.put(self.abandoned_ms);
    }
}

/// What the seal says of a sending.
#[derive(Debug, Clone)]
struct Sealed {
    tenant: SmolStr,
    class: i64,
    accepted_ms: i64,
    scheduled_ms: Option<i64>,
    expires_ms: i64,
    client_reference: Option<String>,
    refused_recipients: u32,
}

/// What the seal says to its recipients.
#[derive(Debug, Clone)]
struct Content {
    from_phone: Option<SmolStr>,
    from_email: Option<SmolStr>,
    subject: Option<String>,
    text: String,
    custom: Option<String>,
}

/// The changes of one transaction, and what is known of the sendings.
#[derive(Debug, Default)]
pub(super) struct Sendings {
    counts: HashMap<SendingId, Counts>,
    courses: BTreeMap<SendingId, Course>,
    seals: BTreeMap<SendingId, (Sealed, Content)>,
    facts: HashMap<SendingId, Facts>,
}

impl Sendings {
    pub(super) fn change(&mut self, sending: SendingId) -> &mut Counts {
        self.counts.entry(sending).or_default()
    }

    /// The seal. Whether it is the first.
    pub(super) fn accepted(
        &mut self,
        tables: Tables<'_>,
        accepted: &SendingAccepted,
        time_ms: i64,
    ) -> Result<bool, StorageError> {
        let facts = self.facts(tables, accepted.sending)?;
        // The row is written as a whole then, with what happened to it.
        self.course(tables, accepted.sending)?;
        self.facts.insert(accepted.sending, Facts { is_sealed: true, ..facts });
        let sealed = Sealed {
            tenant: accepted.tenant.as_str().into(),
            class: accepted.class.code(),
            accepted_ms: time_ms,
            scheduled_ms: accepted.scheduled_at.map(|at| at.timestamp_millis()),
            expires_ms: accepted.expires_at.timestamp_millis(),
            client_reference: accepted.client_reference.clone(),
            refused_recipients: accepted.refused,
        };
        let content = match self.seals.remove(&accepted.sending) {
            // What is said first stays.
            Some((_, first)) => first,
            None => Content {
                from_phone: accepted.from_phone.clone(),
                from_email: accepted.from_email.clone(),
                subject: accepted.personal.subject.clone(),
                text: accepted.personal.text.clone(),
                custom: accepted.custom.as_ref().map(json),
            },
        };
        self.seals.insert(accepted.sending, (sealed, content));
        Ok(!facts.is_sealed)
    }

    /// What happened to the sending, to be changed.
    fn course(&mut self, tables: Tables<'_>, sending: SendingId) -> Result<&mut Course, StorageError> {
        if !self.courses.contains_key(&sending) {
            let is_stored = self.facts(tables, sending)?.is_stored;
            let stored = match is_stored {
                true => tables.find(&STORED_COURSE, values![&sending], Course::read)?,
                false => None,
            };
            self.courses.insert(sending, stored.unwrap_or_default());
        }
        Ok(self.courses.entry(sending).or_default())
    }

    /// Something happened to the sending as a whole.
    pub(super) fn moment(
        &mut self,
        tables: Tables<'_>,
        sending: SendingId,
        moment: Moment,
        time_ms: i64,
    ) -> Result<(), StorageError> {
        let course = self.course(tables, sending)?;
        let time = match moment {
            Moment::Released => &mut course.released_ms,
            Moment::Cancelled => &mut course.cancelled_ms,
            Moment::Completed => &mut course.completed_ms,
            Moment::Abandoned => &mut course.abandoned_ms,
        };
        *time = Some(time_ms);
        if let (Moment::Released, Some(facts)) = (moment, self.facts.get_mut(&sending)) {
            facts.released_ms = Some(time_ms);
        }
        Ok(())
    }

    /// Nothing of it goes out.
    pub(super) fn paused(
        &mut self,
        tables: Tables<'_>,
        paused: &SendingPaused,
        time_ms: i64,
    ) -> Result<(), StorageError> {
        let by = PAUSERS.iter().position(|by| *by == paused.by).unwrap_or(0) as i64;
        let course = self.course(tables, paused.sending)?;
        (course.paused_ms, course.paused_by) = (Some(time_ms), Some(by));
        course.pause_reason.clone_from(&paused.reason);
        Ok(())
    }

    /// It continues. That alone makes no row.
    pub(super) fn resumed(&mut self, tables: Tables<'_>, sending: SendingId) -> Result<(), StorageError> {
        if !self.courses.contains_key(&sending) && !self.facts(tables, sending)?.is_stored {
            return Ok(());
        }
        let course = self.course(tables, sending)?;
        (course.paused_ms, course.paused_by, course.pause_reason) = (None, None, None);
        Ok(())
    }

    /// Reads what is known about these sendings, all at once.
    pub(super) fn prefetch(
        &mut self,
        tables: Tables<'_>,
        sendings: impl IntoIterator<Item = SendingId>,
    ) -> Result<(), StorageError> {
        let facts = &mut self.facts;
        let unknown: Vec<SendingId> = sendings.into_iter().filter(|id| !facts.contains_key(id)).collect();
        tables.fetch(
            &FACTS,
            &unknown,
            |id, cells| cells.put(*id),
            |row| {
                let is_sealed = row.get::<Option<i64>>(2)?.is_some();
                let found = Facts { is_stored: true, released_ms: row.get(1)?, is_sealed };
                facts.insert(SendingId(row.uuid(0)?), found);
                Ok::<_, StorageError>(())
            },
        )?;
        for id in unknown {
            facts.entry(id).or_default();
        }
        Ok(())
    }

    /// What is known of a sending.
    pub(super) fn facts(&mut self, tables: Tables<'_>, sending: SendingId) -> Result<Facts, StorageError> {
        if let Some(facts) = self.facts.get(&sending) {
            return Ok(*facts);
        }
        self.prefetch(tables, [sending])?;
        Ok(self.facts.get(&sending).copied().unwrap_or_default())
    }

    /// The number and the address that a sealed sending is sent from.
    pub(super) fn senders(
        &self,
        tables: Tables<'_>,
        sending: SendingId,
    ) -> Result<[Option<String>; 2], StorageError> {
        let stored = tables
            .find(&CONTENT, values![&sending], |row| Ok::<_, StorageError>([row.get(0)?, row.get(1)?]))?;
        if let Some(stored) = stored {
            // What is said first stays, wherever a page of the log ends: another seal changes nothing.
            return Ok(stored);
        }
        let said = self.seals.get(&sending).map(|(_, content)| [&content.from_phone, &content.from_email]);
        Ok(said.map(|said| said.map(|from| from.as_deref().map(str::to_owned))).unwrap_or_default())
    }

    /// When a sealed sending was accepted.
    pub(super) fn accepted_ms(&self, tables: Tables<'_>, sending: SendingId) -> Result<i64, StorageError> {
        if let Some((sealed, _)) = self.seals.get(&sending) {
            return Ok(sealed.accepted_ms);
        }
        let stored = tables.find(&FACTS, values![&sending], |row| row.get::<Option<i64>>(2))?;
        Ok(stored.flatten().unwrap_or(0))
    }

    /// Writes all changes into the rows.
    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), StorageError> {
        self.flush_seals(tables)?;
        if !self.courses.is_empty() {
            let mut cells = tables.fill(&PUT_COURSE)?;
            for (sending, course) in std::mem::take(&mut self.courses) {
                cells.put(&sending);
                course.put(&mut cells);
                cells.end()?;
                self.facts.entry(sending).or_default().is_stored = true;
            }
        }
        if !self.counts.is_empty() {
            let mut counts: Vec<(SendingId, Counts)> = self.counts.drain().collect();
            counts.sort_unstable_by_key(|(sending, _)| *sending);
            let mut cells = tables.fill(&ADD_COUNTS)?;
            for (sending, counts) in counts {
                cells.put(&sending);
                put_counts(counts, &mut cells);
                cells.end()?;
                self.facts.entry(sending).or_default().is_stored = true;
            }
        }
        if self.facts.len() >= CACHED_MAX {
            self.facts.clear();
        }
        Ok(())
    }

    /// Sealed sendings are written as a whole.
    fn flush_seals(&mut self, tables: Tables<'_>) -> Result<(), StorageError> {
        if self.seals.is_empty() {
            return Ok(());
        }
        let seals = std::mem::take(&mut self.seals);
        let mut cells = tables.fill(&ADD_CONTENT)?;
        for (sending, (_, content)) in &seals {
            cells.put(sending);
            cells.put(content.from_phone.as_ref());
            cells.put(content.from_email.as_ref());
            cells.put(content.subject.as_ref());
            cells.put(&content.text);
            cells.put(content.custom.as_ref());
            cells.end()?;
        }
        let mut cells = tables.fill(&PUT)?;
        for (sending, (sealed, _)) in seals {
            let course = self.courses.remove(&sending).unwrap_or_default();
            cells.put(&sending);
            cells.put(&sealed.tenant);
            cells.put(sealed.class);
            cells.put(sealed.accepted_ms);
            cells.put(sealed.scheduled_ms);
            course.put(&mut cells);
            cells.put(sealed.expires_ms);
            cells.put(sealed.client_reference.as_ref());
            cells.put(sealed.refused_recipients);
            put_counts(self.counts.remove(&sending).unwrap_or_default(), &mut cells);
            cells.end()?;
            self.facts.entry(sending).or_default().is_stored = true;
        }
        Ok(())
    }
}

fn put_counts(counts: Counts, cells: &mut Cells<'_>) {
    Counter::ALL.iter().for_each(|counter| cells.put(counts.get(*counter)));
}
