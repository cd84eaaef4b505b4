//! Events that a read model could not apply: parked with the reason, and never silently skipped.
//!
//! The rows of a stream stand where they stood before its first parked event: what came later in the stream is parked
//! behind it, in order, unless nothing is built upon it ([`ReadModel::is_built_upon`]). Other streams go on. The events
//! themselves stay where they are, in the log.
//!
//! What is parked follows from the events and their order alone, like every other row, so a model that is made again
//! parks the same ones; `replay` compares them too, and takes them in again once the fold can.

use chrono::{DateTime, Utc};
use kite_event_store::{Position, RecordedEvent, StreamName};
use rusqlite::{Connection, Row, Transaction};
use serde::Serialize;
use smol_str::SmolStr;
use std::collections::HashSet;

use crate::error::QueryError;
use crate::projector::ReadModel;
use crate::sql::{signed, text, time};

/// A longer reason is cut.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// Why an event is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// This program cannot read it.
    Unreadable,
    /// Its row cannot be written, or the fold cannot take it.
    Unwritable,
    /// An earlier event of its stream is parked.
    Behind,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unreadable, Self::Unwritable, Self::Behind];

    /// The word for it, as it is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Unwritable => "unwritable",
            Self::Behind => "behind",
        }
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

/// Writes the row.
pub(crate) fn insert(transaction: &Transaction<'_>, parking: &Parking) -> rusqlite::Result<()> {
    let Parking { recorded, cause, reason } = parking;
    let reason: String = reason.chars().take(REASON_CHARACTERS_MAX).collect();
    transaction
        .prepare_cached(
            "INSERT INTO parked (position, stream, version, kind, time_ms, cause, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            signed(recorded.position),
            recorded.stream.as_str(),
            signed(recorded.version),
            recorded.kind.as_str(),
            recorded.metadata.time.timestamp_millis(),
            cause.word(),
            reason,
        ))
        .map(drop)
}

/// How many events are parked.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 =
        connection.prepare_cached("SELECT count(*) FROM parked")?.query_row([], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Streams whose later events have to wait.
pub(crate) fn waiting_streams<M: ReadModel>(
    connection: &Connection,
) -> rusqlite::Result<HashSet<StreamName>> {
    let mut statement = connection.prepare("SELECT DISTINCT stream, kind FROM parked")?;
    let mut rows = statement.query([])?;
    let mut streams = HashSet::new();
    while let Some(row) = rows.next()? {
        if M::is_built_upon(row.get_ref(1)?.as_str()?) {
            streams.insert(text(row, 0)?);
        }
    }
    Ok(streams)
}

/// The parked events after this position, in the order of the log.
pub(crate) fn list(
    connection: &Connection,
    after: Position,
    limit: usize,
) -> Result<Vec<ParkedEvent>, QueryError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, stream, version, kind, time_ms, cause, reason FROM parked
         WHERE position > ?1 ORDER BY position LIMIT ?2",
    )?;
    let mut rows = statement.query((signed(after), i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<ParkedEvent, QueryError> {
    let word = text(row, 5)?;
    let cause = Cause::ALL.into_iter().find(|cause| cause.word() == word);
    Ok(ParkedEvent {
        position: row.get::<_, i64>(0)?.unsigned_abs(),
        stream: text(row, 1)?,
        version: row.get::<_, i64>(2)?.unsigned_abs(),
        kind: text(row, 3)?,
        time: time(row.get(4)?)?,
        cause: cause.ok_or_else(|| QueryError::corrupt("why an event is parked"))?,
        reason: row.get(6)?,
    })
}
