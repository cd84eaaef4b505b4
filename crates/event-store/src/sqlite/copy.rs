//! A consistent copy of a log that may be written meanwhile, by this process or by another.
//!
//! The log only grows, and its positions have no gaps. So its content up to a position never changes, and is copied
//! piece by piece. No read lasts longer than a piece, so none keeps an old state of the database, which would keep
//! the write-ahead log from being started again (SQLite's own online copy does that, or begins again and again while
//! others write). Memory is limited to a piece, whatever the length of the log.
//!
//! The caller controls the speed: it may pause between two pieces.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checkpoint::BUSY_WAIT_MAX;
use super::schema::{self, Found, Shape};
use super::uri::read_only;
use crate::measure::Stopwatch;
use crate::port::Position;

/// How much is copied at once.
const EVENTS_PER_PIECE: i64 = 2_000;
const NAMES_PER_PIECE: i64 = 8_000;
const PIECE_BYTES: i64 = 4 * 1024 * 1024;

/// Why a log could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no log.
    #[error("there is no log at {}", .0.display())]
    NoLog(PathBuf),
    /// A database of something else, or of another version of this program.
    #[error("{} is no log that this program knows", .0.display())]
    NotALog(PathBuf),
    /// Something is there already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// A newer program has taken over the log meanwhile.
    #[error("a newer program writes the log")]
    OtherShape,
    /// Whoever asked for it wants it no more.
    #[error("the copy was broken off")]
    BrokenOff,
    /// Events were there a moment ago and are gone.
    #[error("somebody deletes events: there are none after position {after}")]
    Vanished {
        /// The last one that was copied.
        after: Position,
    },
    /// SQLite refused.
    #[error("the log cannot be copied")]
    Engine(#[from] rusqlite::Error),
    /// The file system refused.
    #[error("the copy cannot be written")]
    Files(#[from] std::io::Error),
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The position of the last event.
    pub until: Position,
    /// How many events there are, assuming that none was deleted.
    pub events: u64,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Up to this position everything is copied.
    pub position: Position,
    /// It goes up to this one.
    pub until: Position,
    /// How long the newest piece took.
    pub took: Duration,
}

/// Copies the present content of the log in `from` into the new file `to`, and makes it durable. Blocks for as long
/// as that takes.
///
/// `goes_on` is called after each piece, and may pause; if it returns `false`, the copy is broken off.
///
/// # Errors
/// See [`CopyError`]; what was written until then stays behind.
pub fn copy_log(
    from: &Path,
    to: &Path,
    goes_on: &mut dyn FnMut(Progress) -> bool,
) -> Result<Copied, CopyError> {
    if !from.exists() {
        return Err(CopyError::NoLog(from.to_owned()));
    }
    if to.exists() {
        return Err(CopyError::Exists(to.to_owned()));
    }
    let connection = open_copy(from, to)?;
    let until = connection
        .query_row("SELECT coalesce(max(position), 0) FROM source.events", [], |row| row.get::<_, i64>(0))?;
    let (mut after, mut events) = (0, 0);
    while after < until {
        let stopwatch = Stopwatch::start();
        let piece = copy_piece(&connection, after, until)?;
        (after, events) = (piece.end, events + piece.events);
        let (position, until) = (after as Position, until as Position);
        if !goes_on(Progress { position, until, took: stopwatch.elapsed() }) {
            return Err(CopyError::BrokenOff);
        }
    }
    finish(&connection)?;
    drop(connection);
    File::open(to)?.sync_all()?;
    Ok(Copied { until: until as Position, events })
}

/// A new, empty log, with the other one attached to it for reading.
fn open_copy(from: &Path, to: &Path) -> Result<Connection, CopyError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(to, flags)?;
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Nobody looks at it before it is whole, and then it is made durable at once.
    connection
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;")?;
    schema::create(&connection)?;
    connection.execute("ATTACH DATABASE ?1 AS source", [read_only(from)])?;
    match schema::shape_of(&connection, "source")? {
        Found::Log(_) => {}
        Found::Newer { .. } => return Err(CopyError::OtherShape),
        Found::Foreign => return Err(CopyError::NotALog(from.to_owned())),
    }
    Ok(connection)
}

/// What was copied at once.
struct Piece {
    /// The last position.
    end: i64,
    events: u64,
}

/// The next piece.
fn copy_piece(connection: &Connection, after: i64, until: i64) -> Result<Piece, CopyError> {
    let mut found = connection.prepare_cached(
        "SELECT position, length(data) FROM source.events WHERE position > ?1 AND position <= ?2
         ORDER BY position LIMIT ?3",
    )?;
    let transaction = connection.unchecked_transaction()?;
    let mut end = after;
    let mut bytes = 0;
    let mut rows = found.query((after, until, EVENTS_PER_PIECE))?;
    while let Some(row) = rows.next()? {
        end = row.get(0)?;
        bytes += row.get::<_, i64>(1)?;
        if bytes >= PIECE_BYTES {
            break;
        }
    }
    drop(rows);
    if end == after {
        return Err(CopyError::Vanished { after: after as Position });
    }
    // Whoever writes the log may bring it into the newest shape meanwhile.
    let columns = match schema::shape_of(connection, "source")? {
        Found::Log(Shape::Untraced) => "*, NULL",
        Found::Log(Shape::Traced) => "*",
        Found::Newer { .. } | Found::Foreign => return Err(CopyError::OtherShape),
    };
    let mut copy = connection.prepare_cached(&format!(
        "INSERT INTO main.events SELECT {columns} FROM source.events WHERE position > ?1 AND position <= ?2"
    ))?;
    let events = copy.execute((after, end))? as u64;
    transaction.commit()?;
    Ok(Piece { end, events })
}

/// The names that the events have; then the file as an event store expects it.
fn finish(connection: &Connection) -> Result<(), CopyError> {
    // Numbered in the order in which they come: those of later events are not among them.
    let last: Option<i64> =
        connection.query_row("SELECT max(stream) FROM main.events", [], |row| row.get(0))?;
    copy_names(connection, "streams", "name", last.unwrap_or(0))?;
    // There are few of these, and to look for the last one would be to read everything again.
    copy_names(connection, "words", "word", i64::MAX)?;
    connection.execute_batch("DETACH DATABASE source; PRAGMA synchronous = FULL;")?;
    // This file is nobody else's: it is left without a write-ahead log beside it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    schema::log_ahead(connection)?;
    Ok(())
}

/// A piece at a time, too.
fn copy_names(connection: &Connection, table: &str, column: &str, last: i64) -> Result<(), CopyError> {
    let sql = format!(
        "INSERT INTO main.{table} (id, {column})
         SELECT id, {column} FROM source.{table} WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3"
    );
    let mut copy = connection.prepare_cached(&sql)?;
    let newest = format!("SELECT coalesce(max(id), 0) FROM main.{table}");
    let mut after = 0;
    while copy.execute((after, last, NAMES_PER_PIECE))? > 0 {
        after = connection.query_row(&newest, [], |row| row.get::<_, i64>(0))?;
    }
    Ok(())
}
