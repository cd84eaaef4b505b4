//! Connections that only read.
//!
//! There are two sets. Point reads (the newest state of one stream, a few events) are made in the calling thread,
//! because handing them to another costs more than they do. Everything that may take longer goes to a blocking thread
//! and uses the other set, so that a point read never waits for a long one.

use bytes::Bytes;
use chrono::DateTime;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row};
use smol_str::SmolStr;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

use super::schema::{self, Shape};
use super::{OpenError, PIECE_BYTES, SqliteOptions};
use crate::envelope::{Metadata, RecordedEvent, StreamName};
use crate::errors::SharedError;
use crate::port::{Filter, KeptEvent, KeptPage, Page, Position, ReadError};
use crate::queue::WasClosed;
use crate::recent::PageBuilder;
use crate::trace_parent::TraceParent;

const WORDS_MAX: usize = 65_536;
/// Data on one page of the log as it is kept.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The queries for the columns that [`Names::event`] takes apart. A log of an earlier shape that is only read has no trace.
macro_rules! queries {
    ($trace:literal) => {
        Queries {
            stream: queries!(
                $trace,
                "WHERE stream = (SELECT id FROM streams WHERE name = ?1) AND version > ?2 ORDER BY version LIMIT ?3"
            ),
            correlation: queries!(
                $trace,
                "INDEXED BY events_by_correlation WHERE correlation = ?1 AND position > ?2 ORDER BY position LIMIT ?3"
            ),
            last: queries!(
                $trace,
                "WHERE stream = (SELECT id FROM streams WHERE name = ?1) ORDER BY version DESC LIMIT 1"
            ),
            page: queries!($trace, "WHERE position > ?1 ORDER BY position LIMIT ?2"),
            one: queries!($trace, "WHERE position = ?1"),
        }
    };
    ($trace:literal, $rest:literal) => {
        concat!(
            "SELECT position, stream, version, id, kind, schema_version, time, tenant, actor, correlation, ",
            "causation, data, ",
            $trace,
            " FROM events ",
            $rest
        )
    };
}

const QUERIES: Queries = queries!("trace");
const QUERIES_WITHOUT_TRACE: Queries = queries!("NULL");

/// What is asked of one connection.
#[derive(Clone, Copy)]
struct Queries {
    stream: &'static str,
    correlation: &'static str,
    last: &'static str,
    page: &'static str,
    one: &'static str,
}

impl Queries {
    fn of(shape: Shape) -> Self {
        match shape {
            Shape::Untraced => QUERIES_WITHOUT_TRACE,
            Shape::Traced => QUERIES,
        }
    }
}

/// The index has all that is asked for.
const PLACE_SQL: &str = "SELECT position, version FROM events INDEXED BY events_by_stream
    WHERE stream = (SELECT id FROM streams WHERE name = ?1) AND version > ?2 ORDER BY version LIMIT 1";

/// How much one read may return: at either limit it ends, though there may be more.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// What one read brought.
pub(super) struct Piece {
    pub(super) events: Vec<RecordedEvent>,
    /// It ended at a bound: there may be more.
    pub(super) is_cut: bool,
}

/// Reads piece by piece after `events`, until there is no more or there are `limit`.
pub(super) async fn in_pieces<F: Future<Output = Result<Piece, ReadError>>>(
    mut events: Vec<RecordedEvent>,
    limit: usize,
    mut read: impl FnMut(Option<&RecordedEvent>, Bounds) -> F,
) -> Result<Vec<RecordedEvent>, ReadError> {
    while events.len() < limit {
        let bounds = Bounds { events: limit - events.len(), bytes: PIECE_BYTES };
        let piece = read(events.last(), bounds).await?;
        events.extend(piece.events);
        if !piece.is_cut {
            break;
        }
    }
    Ok(events)
}

/// A few read-only connections.
pub(super) struct Readers {
    connections: Vec<Mutex<Option<Reader>>>,
    next: AtomicUsize,
}

impl Readers {
    pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        let connections = (0..options.readers.max(1))
            .map(|_| Ok(Mutex::new(Some(Reader::new(schema::open_reader(path, options)?, Shape::Traced)))))
            .collect::<Result<_, OpenError>>()?;
        Ok(Self { connections, next: AtomicUsize::new(0) })
    }

    /// With this connection to a log of this shape.
    pub(super) fn of(connection: Connection, shape: Shape) -> Self {
        let connections = vec![Mutex::new(Some(Reader::new(connection, shape)))];
        Self { connections, next: AtomicUsize::new(0) }
    }

    /// Reads with the first free connection; waits when none is.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&mut Reader) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let count = self.connections.len();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let free = (0..count).find_map(|offset| self.connections[(start + offset) % count].try_lock());
        let mut slot = free.unwrap_or_else(|| self.connections[start % count].lock());
        let reader = slot.as_mut().ok_or_else(|| ReadError::stopped(WasClosed))?;
        read(reader)
    }

    /// Ends the reads in progress and answers later ones with [`ReadError::Stopped`].
    pub(super) fn close(&self) {
        for connection in &self.connections {
            drop(connection.lock().take());
        }
    }
}

/// One connection and the names it has met.
pub(super) struct Reader {
    connection: Connection,
    queries: Queries,
    names: Names,
}

#[derive(Default)]
struct Names {
    words: HashMap<i64, SmolStr>,
    /// Events of one stream often stand together.
    last_stream: Option<(i64, StreamName)>,
}

impl Reader {
    fn new(connection: Connection, shape: Shape) -> Self {
        Self { connection, queries: Queries::of(shape), names: Names::default() }
    }

    /// Events of a stream in order.
    pub(super) fn stream(
        &mut self,
        stream: &str,
        after_version: u64,
        bounds: Bounds,
    ) -> Result<Piece, ReadError> {
        let parameters = (stream, signed(after_version), signed(bounds.events as u64));
        self.collect(self.queries.stream, parameters, bounds)
    }

    /// The last event of a stream.
    pub(super) fn last_of(&mut self, stream: &str) -> Result<Option<RecordedEvent>, ReadError> {
        let bounds = Bounds { events: 1, bytes: usize::MAX };
        Ok(self.collect(self.queries.last, [stream], bounds)?.events.pop())
    }

    /// Events of a correlation in order.
    pub(super) fn correlation(
        &mut self,
        correlation: Uuid,
        after: Position,
        bounds: Bounds,
    ) -> Result<Piece, ReadError> {
        let parameters = (&correlation.as_bytes()[..], signed(after), signed(bounds.events as u64));
        self.collect(self.queries.correlation, parameters, bounds)
    }

    fn collect(
        &mut self,
        sql: &str,
        parameters: impl rusqlite::Params,
        bounds: Bounds,
    ) -> Result<Piece, ReadError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(unreadable)?;
        let mut rows = statement.query(parameters).map_err(unreadable)?;
        let mut events = Vec::new();
        let mut bytes = 0;
        while bytes < bounds.bytes
            && let Some(row) = rows.next().map_err(unreadable)?
        {
            let kind = self.names.word(&self.connection, row.get(4).map_err(unreadable)?)?;
            let event = self.names.event(&self.connection, row, kind)?;
            bytes += event.data.len();
            events.push(event);
        }
        let is_cut = bytes >= bounds.bytes || events.len() >= bounds.events;
        Ok(Piece { events, is_cut })
    }

    /// A page of the whole log.
    pub(super) fn page(&mut self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        let mut builder = PageBuilder::new(after, limit);
        let mut statement = self.connection.prepare_cached(self.queries.page).map_err(unreadable)?;
        let parameters = (signed(after), signed(builder.scan_left() as u64));
        let mut rows = statement.query(parameters).map_err(unreadable)?;
        while builder.has_room()
            && let Some(row) = rows.next().map_err(unreadable)?
        {
            let kind = self.names.word(&self.connection, row.get(4).map_err(unreadable)?)?;
            if filter.admits(&kind) {
                builder.push(self.names.event(&self.connection, row, kind)?);
            } else {
                builder.skip(row.get::<_, i64>(0).map_err(unreadable)? as u64);
            }
        }
        Ok(builder.finish())
    }

    /// A page of the whole log, up to `head`, as it lies in the file.
    pub(super) fn kept(
        &mut self,
        after: Position,
        limit: usize,
        head: Position,
    ) -> Result<KeptPage, ReadError> {
        self.forget()?;
        let mut names = Names::default();
        let mut page = KeptPage { events: Vec::new(), next: after };
        let mut bytes = 0;
        let mut statement = self.connection.prepare_cached(self.queries.page).map_err(unreadable)?;
        let mut rows = statement.query((signed(after), signed(limit as u64))).map_err(unreadable)?;
        while bytes < KEPT_BYTES_MAX {
            let kept = match rows.next() {
                Ok(None) => break,
                Ok(Some(row)) => names.kept(&self.connection, row)?,
                // A part of the file is no database any more. What comes after this position may be in another part.
                Err(error) if is_damage(&error) && page.next < head && limit > 0 => {
                    page.next += 1;
                    page.events.extend(names.kept_at(&self.connection, self.queries.one, page.next)?);
                    break;
                }
                Err(error) => return Err(unreadable(error)),
            };
            page.next = kept.position;
            bytes += kept.event.as_ref().map_or(0, |event| event.data.len());
            page.events.push(kept);
        }
        Ok(page)
    }

    /// Events of a stream in order, as they lie in the file.
    pub(super) fn kept_stream(
        &mut self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, ReadError> {
        self.forget()?;
        let mut names = Names::default();
        let mut statement = self.connection.prepare_cached(self.queries.stream).map_err(unreadable)?;
        let (mut events, mut after) = (Vec::new(), signed(after_version));
        while events.len() < limit {
            let left = signed((limit - events.len()) as u64);
            let mut rows = statement.query((stream, after, left)).map_err(unreadable)?;
            let error = loop {
                match rows.next() {
                    Ok(None) => return Ok(events),
                    Ok(Some(row)) => {
                        let kept = names.kept(&self.connection, row)?;
                        after = signed(kept.version);
                        events.push(kept);
                    }
                    Err(error) if is_damage(&error) => break error,
                    Err(error) => return Err(unreadable(error)),
                }
            };
            // Where the next one is stands in another part of the file than what it says.
            let place = self.place_after(stream, after)?;
            let Some((position, version)) = place else { return Err(unreadable(error)) };
            let why = Err(SharedError::new(error));
            events.push(KeptEvent { position: position as u64, version: version as u64, event: why });
            after = version;
        }
        Ok(events)
    }

    /// The position and the version of the first event of a stream after a version. The event itself is not read.
    fn place_after(&self, stream: &str, version: i64) -> Result<Option<(i64, i64)>, ReadError> {
        self.connection
            .prepare_cached(PLACE_SQL)
            .and_then(|mut statement| {
                statement.query_row((stream, version), |row| Ok((row.get(0)?, row.get(1)?))).optional()
            })
            .map_err(unreadable)
    }

    /// The connection's cached pages of the file may differ from the damaged file.
    fn forget(&self) -> Result<(), ReadError> {
        self.connection.execute_batch("PRAGMA shrink_memory").map_err(unreadable)
    }

    /// The position before the first up to `head` whose event's time is this one or later, in epoch milliseconds; the head
    /// when there is none.
    pub(super) fn position_before(&self, time: i64, head: Position) -> Result<Position, ReadError> {
        let (mut first, mut end) = (1, head + 1);
        while first < end {
            let middle = first + (end - first) / 2;
            if self.time_at(middle)? < time {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        Ok(first - 1)
    }

    /// The time of the event at this position, in epoch milliseconds.
    fn time_at(&self, position: Position) -> Result<i64, ReadError> {
        self.connection
            .prepare_cached("SELECT time FROM events WHERE position = ?1")
            .and_then(|mut statement| statement.query_row([signed(position)], |row| row.get(0)))
            .map_err(unreadable)
    }
}

impl Names {
    fn word(&mut self, connection: &Connection, id: i64) -> Result<SmolStr, RowError> {
        if let Some(word) = self.words.get(&id) {
            return Ok(word.clone());
        }
        let word = look_up(connection, "SELECT word FROM words WHERE id = ?1", id)?;
        if self.words.len() >= WORDS_MAX {
            self.words.clear();
        }
        self.words.insert(id, word.clone());
        Ok(word)
    }

    fn stream(&mut self, connection: &Connection, id: i64) -> Result<StreamName, RowError> {
        match &self.last_stream {
            Some((last, name)) if *last == id => Ok(name.clone()),
            _ => {
                let name = look_up(connection, "SELECT name FROM streams WHERE id = ?1", id)?;
                self.last_stream = Some((id, name.clone()));
                Ok(name)
            }
        }
    }

    /// The event at a position, if there is one. It is found without reading the part of the file with the one
    /// before.
    fn kept_at(
        &mut self,
        connection: &Connection,
        sql: &str,
        position: Position,
    ) -> Result<Option<KeptEvent>, ReadError> {
        let mut statement = connection.prepare_cached(sql).map_err(unreadable)?;
        let mut rows = statement.query([signed(position)]).map_err(unreadable)?;
        match rows.next() {
            Ok(row) => row.map(|row| self.kept(connection, row)).transpose(),
            Err(error) if is_damage(&error) => {
                Ok(Some(KeptEvent { position, version: 0, event: Err(SharedError::new(error)) }))
            }
            Err(error) => Err(unreadable(error)),
        }
    }

    /// The event, or why it is none.
    fn kept(&mut self, connection: &Connection, row: &Row<'_>) -> Result<KeptEvent, ReadError> {
        let kind = row.get(4).map_err(RowError::from).and_then(|kind| self.word(connection, kind));
        let event = match kind.and_then(|kind| self.event(connection, row, kind)) {
            Ok(event) => Ok(event),
            Err(RowError::NoEvent(why)) => Err(SharedError::new(why)),
            // What it says of the event is not known: the next reading may tell.
            Err(unread @ RowError::Unread(_)) => return Err(unread.into()),
        };
        let position = row.get::<_, i64>(0).map_err(unreadable)? as u64;
        Ok(KeptEvent { position, version: row.get::<_, i64>(2).unwrap_or(0) as u64, event })
    }

    fn event(
        &mut self,
        connection: &Connection,
        row: &Row<'_>,
        kind: SmolStr,
    ) -> Result<RecordedEvent, RowError> {
        let number = |column: usize| row.get::<_, i64>(column);
        let tenant = row.get::<_, Option<i64>>(7)?;
        let metadata = Metadata {
            time: DateTime::from_timestamp_millis(number(6)?).ok_or(NoEvent::Time)?,
            tenant: tenant.map(|id| self.word(connection, id)).transpose()?,
            correlation: uuid(row, 9)?.ok_or(NoEvent::NoCorrelation)?,
            causation: uuid(row, 10)?,
            actor: self.word(connection, number(8)?)?,
            traceparent: traceparent(row, 12)?,
        };
        let data = row.get_ref(11).and_then(|value| Ok(value.as_blob()?))?;
        Ok(RecordedEvent {
            position: number(0)? as u64,
            stream: self.stream(connection, number(1)?)?,
            version: number(2)? as u64,
            id: uuid(row, 3)?.ok_or(NoEvent::NoId)?,
            kind,
            schema_version: row.get(5)?,
            metadata,
            data: Bytes::copy_from_slice(data),
        })
    }
}

/// Why a row did not become an event.
enum RowError {
    /// It is not an event: reading it again gives the same.
    NoEvent(NoEvent),
    /// The reading failed, and the next one may not.
    Unread(rusqlite::Error),
}

/// Why a row is no event.
#[derive(Debug, thiserror::Error)]
enum NoEvent {
    #[error("an event's time is out of range")]
    Time,
    #[error("an event has no correlation")]
    NoCorrelation,
    #[error("an event has no id")]
    NoId,
    #[error("an id of an event is none")]
    Id(#[source] uuid::Error),
    #[error("the trace of an event is none")]
    Trace,
    #[error(transparent)]
    Value(rusqlite::Error),
}

impl From<NoEvent> for RowError {
    fn from(why: NoEvent) -> Self {
        Self::NoEvent(why)
    }
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        // Without a code it is not the engine that failed: a value is of another type, or a name is not there.
        match error.sqlite_error_code() {
            Some(_) if !is_damage(&error) => Self::Unread(error),
            _ => Self::NoEvent(NoEvent::Value(error)),
        }
    }
}

impl From<RowError> for ReadError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::NoEvent(why) => Self::unreadable(why),
            RowError::Unread(error) => Self::unreadable(error),
        }
    }
}

/// Whether the file, and not the reading of it, is at fault. Nothing is written that is larger than the engine takes.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, TooBig};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | TooBig))
}

fn uuid(row: &Row<'_>, column: usize) -> Result<Option<Uuid>, RowError> {
    let bytes = row.get_ref(column).and_then(|value| Ok(value.as_blob_or_null()?))?;
    bytes.map(Uuid::from_slice).transpose().map_err(|error| NoEvent::Id(error).into())
}

fn traceparent(row: &Row<'_>, column: usize) -> Result<Option<TraceParent>, RowError> {
    let Some(bytes) = row.get_ref(column).and_then(|value| Ok(value.as_blob_or_null()?))? else {
        return Ok(None);
    };
    let read = TraceParent::from_bytes(bytes);
    read.map(Some).ok_or_else(|| RowError::NoEvent(NoEvent::Trace))
}

fn look_up(connection: &Connection, sql: &str, id: i64) -> Result<SmolStr, RowError> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([id], |row| Ok(SmolStr::new(row.get_ref(0)?.as_str()?)))?)
}

fn unreadable(error: rusqlite::Error) -> ReadError {
    ReadError::unreadable(error)
}

/// SQLite's numbers are signed; nothing is ever at a place beyond.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
