//! Appends inside the writer's transaction: the version check, the insert, and how a repeat is told from a conflict.
//!
//! Nothing here is undone after a failed transaction, because the store does not continue after one.

use quick_cache::unsync::Cache;
use rusqlite::{CachedStatement, Connection, OptionalExtension, ffi};
use smol_str::SmolStr;
use std::collections::HashMap;
use uuid::Uuid;

use crate::envelope::{RecordedEvent, StreamName};
use crate::port::{AppendError, Appended, Expected, Position, StreamAppend};
use crate::trace_parent::TraceParent;

/// Words kept in memory; more than that are looked up.
const WORDS_MAX: usize = 65_536;

/// The writer's statements, prepared once.
pub(super) struct Statements<'c> {
    pub(super) begin: CachedStatement<'c>,
    pub(super) commit: CachedStatement<'c>,
    insert: CachedStatement<'c>,
    remove_from: CachedStatement<'c>,
    find_stream: CachedStatement<'c>,
    add_stream: CachedStatement<'c>,
    find_word: CachedStatement<'c>,
    add_word: CachedStatement<'c>,
    find_event: CachedStatement<'c>,
    stream_name: CachedStatement<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let prepare = |sql| connection.prepare_cached(sql);
        Ok(Self {
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            insert: prepare(
                "INSERT INTO events (position, stream, version, id, kind, schema_version, time, tenant, actor,
                 correlation, causation, data, trace)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?,
            remove_from: prepare("DELETE FROM events WHERE position >= ?1")?,
            find_stream: prepare(
                "SELECT id, (SELECT max(version) FROM events WHERE stream = streams.id)
                 FROM streams WHERE name = ?1",
            )?,
            add_stream: prepare("INSERT INTO streams (id, name) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")?,
            find_word: prepare("SELECT id FROM words WHERE word = ?1")?,
            add_word: prepare("INSERT INTO words (id, word) VALUES (?1, ?2)")?,
            find_event: prepare("SELECT position, stream, version FROM events WHERE id = ?1")?,
            stream_name: prepare("SELECT name FROM streams WHERE id = ?1")?,
        })
    }
}

#[derive(Clone, Copy)]
struct Head {
    /// The number of the stream; none: there is no such stream yet.
    stream: Option<i64>,
    version: u64,
}

/// What the writer knows of the log.
pub(super) struct Log {
    heads: Cache<StreamName, Head>,
    words: HashMap<SmolStr, i64>,
    last_position: Position,
    last_stream: i64,
    last_word: i64,
    append_bytes_max: usize,
}

/// The envelope in the form of its columns; the same for all events of an append.
struct Envelope {
    time_milliseconds: i64,
    tenant: Option<i64>,
    actor: i64,
    trace: Option<[u8; 25]>,
}

type AppendResult = Result<Appended, AppendError>;

impl Log {
    /// Finds where the log ends.
    pub(super) fn open(
        connection: &Connection,
        heads_max: usize,
        append_bytes_max: usize,
    ) -> rusqlite::Result<Self> {
        let last = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        Ok(Self {
            heads: Cache::new(heads_max),
            words: HashMap::new(),
            last_position: last("SELECT coalesce(max(position), 0) FROM events")? as Position,
            last_stream: last("SELECT coalesce(max(id), 0) FROM streams")?,
            last_word: last("SELECT coalesce(max(id), 0) FROM words")?,
            append_bytes_max,
        })
    }

    pub(super) fn last_position(&self) -> Position {
        self.last_position
    }

    /// Writes the append, if it may be, and adds its events to `fresh`. An error is the engine's: the
    /// transaction is lost.
    pub(super) fn append(
        &mut self,
        sql: &mut Statements<'_>,
        append: StreamAppend,
        fresh: &mut Vec<RecordedEvent>,
    ) -> rusqlite::Result<AppendResult> {
        let bytes = append.events.iter().map(|event| event.data.len()).sum();
        if bytes > self.append_bytes_max {
            return Ok(Err(AppendError::TooLarge { bytes, limit: self.append_bytes_max }));
        }
        let mut head = self.head(sql, &append)?;
        let as_expected = match append.expected {
            Expected::Any => true,
            Expected::Version(version) => version == head.version,
        };
        if !as_expected {
            let ids = append.events.iter().map(|event| event.id);
            return repeat_or_conflict(sql, &append.stream, head.version, ids);
        }
        if append.events.is_empty() {
            return Ok(Ok(Appended { version: head.version, position: self.last_position, repeated: true }));
        }
        let stream = match head.stream {
            Some(stream) => stream,
            None => self.add_stream(sql, &append.stream)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?,
        };
        head.stream = Some(stream);

        let start = fresh.len();
        let name = append.stream.clone();
        self.stage(append, head.version, fresh);
        if self.insert(sql, stream, &fresh[start..])? == Inserted::IdTaken {
            sql.remove_from.execute([self.last_position as i64 + 1])?;
            let ids: Vec<Uuid> = fresh.drain(start..).map(|event| event.id).collect();
            self.heads.insert(name.clone(), head);
            return repeat_or_conflict(sql, &name, head.version, ids.into_iter());
        }
        let count = (fresh.len() - start) as u64;
        self.last_position += count;
        head.version += count;
        self.heads.insert(name, head);
        Ok(Ok(Appended { version: head.version, position: self.last_position, repeated: false }))
    }

    /// Writes all of the appends or, where one of them may not be written, none. An error is the engine's: the transaction is
    /// lost.
    pub(super) fn append_all(
        &mut self,
        sql: &mut Statements<'_>,
        appends: Vec<StreamAppend>,
        fresh: &mut Vec<RecordedEvent>,
    ) -> rusqlite::Result<Vec<AppendResult>> {
        let (count, start, before) = (appends.len(), fresh.len(), self.last_position);
        let mut results = Vec::with_capacity(count);
        for append in appends {
            let result = self.append(sql, append, fresh)?;
            let is_refused = result.is_err();
            results.push(result);
            if is_refused {
                break;
            }
        }
        if let Some(Err(_)) = results.last() {
            let refused = results.len() - 1;
            results[..refused].fill(Err(AppendError::NotTried));
            results.resize(count, Err(AppendError::NotTried));
            // A stream or a word that was new stays: it harms nobody.
            sql.remove_from.execute([before as i64 + 1])?;
            self.last_position = before;
            for event in fresh.drain(start..) {
                self.heads.remove(&event.stream);
            }
        }
        Ok(results)
    }

    /// The events as they will be read.
    fn stage(&self, append: StreamAppend, version: u64, fresh: &mut Vec<RecordedEvent>) {
        let StreamAppend { stream, metadata, events, .. } = append;
        let metadata = metadata.at_log_precision();
        fresh.extend((1..).zip(events).map(|(offset, event)| RecordedEvent {
            position: self.last_position + offset,
            stream: stream.clone(),
            version: version + offset,
            id: event.id,
            kind: event.kind,
            schema_version: event.schema_version,
            metadata: metadata.clone(),
            data: event.data,
        }));
    }

    fn insert(
        &mut self,
        sql: &mut Statements<'_>,
        stream: i64,
        events: &[RecordedEvent],
    ) -> rusqlite::Result<Inserted> {
        let Some(first) = events.first() else { return Ok(Inserted::All) };
        let envelope = Envelope {
            time_milliseconds: first.metadata.time.timestamp_millis(),
            tenant: first.metadata.tenant.as_ref().map(|tenant| self.word(sql, tenant)).transpose()?,
            actor: self.word(sql, &first.metadata.actor)?,
            trace: first.metadata.traceparent.map(TraceParent::to_bytes),
        };
        for event in events {
            let kind = self.word(sql, &event.kind)?;
            match insert_event(&mut sql.insert, stream, kind, &envelope, event) {
                Ok(()) => {}
                Err(error) if is_taken_id(&error) => return Ok(Inserted::IdTaken),
                Err(error) => return Err(error),
            }
        }
        Ok(Inserted::All)
    }

    fn head(&mut self, sql: &mut Statements<'_>, append: &StreamAppend) -> rusqlite::Result<Head> {
        let stream = &append.stream;
        if let Some(head) = self.heads.get(stream) {
            return Ok(*head);
        }
        // Most streams that are not in memory are new, and whoever makes one says so: no need to look first.
        if append.expected == Expected::Version(0)
            && !append.events.is_empty()
            && let Some(added) = self.add_stream(sql, stream)?
        {
            return Ok(Head { stream: Some(added), version: 0 });
        }
        let found = sql
            .find_stream
            .query_row([stream.as_str()], |row| {
                let version: Option<i64> = row.get(1)?;
                Ok(Head { stream: Some(row.get(0)?), version: version.unwrap_or(0) as u64 })
            })
            .optional()?;
        Ok(found.unwrap_or(Head { stream: None, version: 0 }))
    }

    /// The number of the new stream; none if there is a stream of this name.
    fn add_stream(&mut self, sql: &mut Statements<'_>, stream: &StreamName) -> rusqlite::Result<Option<i64>> {
        let number = self.last_stream + 1;
        sql.add_stream.raw_bind_parameter(1, number)?;
        sql.add_stream.raw_bind_parameter(2, stream.as_str())?;
        if sql.add_stream.raw_execute()? == 0 {
            return Ok(None);
        }
        self.last_stream = number;
        Ok(Some(number))
    }

    fn word(&mut self, sql: &mut Statements<'_>, word: &SmolStr) -> rusqlite::Result<i64> {
        if let Some(id) = self.words.get(word) {
            return Ok(*id);
        }
        let found = sql.find_word.query_row([word.as_str()], |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => {
                self.last_word += 1;
                sql.add_word.execute((self.last_word, word.as_str()))?;
                self.last_word
            }
        };
        if self.words.len() >= WORDS_MAX {
            self.words.clear();
        }
        self.words.insert(word.clone(), id);
        Ok(id)
    }
}

#[derive(PartialEq, Eq)]
enum Inserted {
    All,
    /// An event with one of the ids stands already; what was inserted before it has to go.
    IdTaken,
}

fn insert_event(
    insert: &mut CachedStatement<'_>,
    stream: i64,
    kind: i64,
    envelope: &Envelope,
    event: &RecordedEvent,
) -> rusqlite::Result<()> {
    insert.raw_bind_parameter(1, event.position as i64)?;
    insert.raw_bind_parameter(2, stream)?;
    insert.raw_bind_parameter(3, event.version as i64)?;
    insert.raw_bind_parameter(4, &event.id.as_bytes()[..])?;
    insert.raw_bind_parameter(5, kind)?;
    insert.raw_bind_parameter(6, event.schema_version)?;
    insert.raw_bind_parameter(7, envelope.time_milliseconds)?;
    insert.raw_bind_parameter(8, envelope.tenant)?;
    insert.raw_bind_parameter(9, envelope.actor)?;
    insert.raw_bind_parameter(10, &event.metadata.correlation.as_bytes()[..])?;
    insert.raw_bind_parameter(
        11,
        event.metadata.causation.as_ref().map(|causation| &causation.as_bytes()[..]),
    )?;
    insert.raw_bind_parameter(12, &event.data[..])?;
    insert.raw_bind_parameter(13, envelope.trace.as_ref().map(|trace| &trace[..]))?;
    insert.raw_execute()?;
    Ok(())
}

/// A taken id concerns only one append. If any other constraint fails, the writer's knowledge of the log is wrong,
/// and the writer has to stop.
fn is_taken_id(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(message)) => {
            code.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE && message.ends_with("events.id")
        }
        _ => false,
    }
}

/// The answer of the earlier try, if exactly these events are in the stream in this order.
fn repeat_or_conflict(
    sql: &mut Statements<'_>,
    stream: &str,
    actual: u64,
    ids: impl Iterator<Item = Uuid>,
) -> rusqlite::Result<AppendResult> {
    let mut earlier: Option<Appended> = None;
    for id in ids {
        let found = sql
            .find_event
            .query_row([&id.as_bytes()[..]], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)?, row.get::<_, i64>(2)? as u64))
            })
            .optional()?;
        let Some((position, number, version)) = found else {
            return Ok(Err(AppendError::Conflict { actual }));
        };
        let is_next = match earlier {
            Some(earlier) => position == earlier.position + 1 && version == earlier.version + 1,
            None => true,
        };
        let name: String = sql.stream_name.query_row([number], |row| row.get(0))?;
        if !is_next || name != stream {
            return Ok(Err(AppendError::Conflict { actual }));
        }
        earlier = Some(Appended { version, position, repeated: true });
    }
    Ok(earlier.ok_or(AppendError::Conflict { actual }))
}
