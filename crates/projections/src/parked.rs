//! Events that a read model could not apply: parked with the reason, and never silently skipped.
//!
//! The rows of a stream stay as they were before its first parked event. Later events of the stream are parked behind
//! it, in order, unless nothing is built upon it ([`ReadModel::is_built_upon`]). Other streams continue. The events
//! themselves stay in the log.
//!
//! Like every other row, what is parked follows from the events and their order alone, so a rebuilt model parks the
//! same events. `replay` compares them, too, and applies them again once the fold can.

use chrono::{DateTime, Utc};
use kite_event_store::{Position, RecordedEvent, StreamName};
use serde::Serialize;
use smol_str::SmolStr;
use std::collections::HashSet;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::database::PARKED;
use crate::engine::{Connection, Row, StorageError, Tables, values};
use crate::error::QueryError;
use crate::read_model::ReadModel;
use crate::sql::{signed, time};
use crate::table::{Pick, Statement};

/// A longer reason is cut.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// Why an event is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// This program cannot read it.
    Unreadable,
    /// Its row cannot be written, or the fold cannot handle it.
    Unwritable,
    /// An earlier event of its stream is parked.
    Behind,
}

impl Cause {
    /// The word for it, as it is stored and shown.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// A parked event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedEvent {
    /// Where it is in the log.
    pub position: Position,
    /// In which stream.
    pub stream: SmolStr,
    /// Where in it.
    pub version: u64,
    /// Its type.
    pub kind: SmolStr,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// Why it is parked.
    pub cause: Cause,
    /// The same in full.
    pub reason: String,
}

/// An event that is to be parked.
pub(crate) struct Parking {
    pub(crate) recorded: RecordedEvent,
    pub(crate) cause: Cause,
    pub(crate) reason: String,
}

impl Parking {
    /// One that waits behind another.
    pub(crate) fn behind(recorded: RecordedEvent) -> Self {
        Self { recorded, cause: Cause::Behind, reason: "an earlier event of the stream is parked".to_owned() }
    }
}

static ADD: Statement = Statement::insert(&PARKED, Pick::All);

/// Writes the rows.
pub(crate) fn insert(tables: Tables<'_>, parked: &[Parking]) -> Result<(), StorageError> {
    if parked.is_empty() {
        return Ok(());
    }
    let mut cells = tables.fill(&ADD)?;
    for Parking { recorded, cause, reason } in parked {
        let reason: String = reason.chars().take(REASON_CHARACTERS_MAX).collect();
        cells.put(signed(recorded.position));
        cells.put(recorded.stream.as_str());
        cells.put(signed(recorded.version));
        cells.put(recorded.kind.as_str());
        cells.put(recorded.metadata.time.timestamp_millis());
        cells.put(cause.word());
        cells.put(&reason);
        cells.end()?;
    }
    Ok(())
}

/// How many events are parked.
pub(crate) fn count(connection: Connection<'_>) -> Result<u64, StorageError> {
    connection.one("SELECT count(*) FROM parked", &[], |row| row.get::<i64>(0).map(i64::unsigned_abs))
}

/// Streams whose later events have to wait.
pub(crate) fn waiting_streams<M: ReadModel>(
    connection: Connection<'_>,
) -> Result<HashSet<StreamName>, StorageError> {
    let parked = connection.all("SELECT DISTINCT stream, kind FROM parked", &[], |row| {
        Ok::<_, StorageError>(M::is_built_upon(row.str(1)?).then_some(row.text(0)?))
    })?;
    Ok(parked.into_iter().flatten().collect())
}

/// The parked events after this position, in the order of the log.
pub(crate) fn list(
    connection: Connection<'_>,
    after: Position,
    limit: usize,
) -> Result<Vec<ParkedEvent>, QueryError> {
    connection.all(
        "SELECT position, stream, version, kind, time_ms, cause, reason FROM parked
         WHERE position > ?1 ORDER BY position LIMIT ?2",
        values![signed(after), i64::try_from(limit).unwrap_or(i64::MAX)],
        read,
    )
}

fn read(row: &Row<'_>) -> Result<ParkedEvent, QueryError> {
    Ok(ParkedEvent {
        position: row.get::<i64>(0)?.unsigned_abs(),
        stream: row.text(1)?,
        version: row.get::<i64>(2)?.unsigned_abs(),
        kind: row.text(3)?,
        time: time(row.get(4)?)?,
        cause: row.str(5)?.parse().map_err(|_| QueryError::corrupt("why an event is parked"))?,
        reason: row.get(6)?,
    })
}
