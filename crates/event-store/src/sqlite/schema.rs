//! The tables, and how each connection to them is set up.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

use super::{OpenError, SqliteOptions, uri};

/// The first release in which a checkpoint racing a commit can no longer lose the commit (3.51.3).
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// "KITE", so that a file of something else is not taken for ours.
const APPLICATION_ID: i64 = 0x4b49_5445;
/// The shape below. A later shape comes with the way from the earlier one.
pub(super) const SCHEMA_VERSION: i64 = 2;

/// A shape that logs have, or had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Without traces: shape 1.
    Untraced,
    /// The newest: shape 2.
    Traced,
}

impl Shape {
    fn of_version(version: i64) -> Option<Self> {
        match version {
            1 => Some(Self::Untraced),
            SCHEMA_VERSION => Some(Self::Traced),
            _ => None,
        }
    }
}

/// Stream names and the words of the envelope (type, tenant, actor) are stored as numbers in `events`: that and ids
/// that sort by time save more than anything else here. Columns that a reader skips come before `data`, so that
/// skipping an event reads none of its data. The writer assigns positions, without gaps.
const SCHEMA: &str = "
CREATE TABLE streams (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE words (
    id   INTEGER PRIMARY KEY,
    word TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    stream         INTEGER NOT NULL REFERENCES streams (id),
    version        INTEGER NOT NULL,
    id             BLOB NOT NULL,
    kind           INTEGER NOT NULL REFERENCES words (id),
    schema_version INTEGER NOT NULL,
    time           INTEGER NOT NULL,
    tenant         INTEGER REFERENCES words (id),
    actor          INTEGER NOT NULL REFERENCES words (id),
    correlation    BLOB NOT NULL,
    causation      BLOB,
    data           BLOB NOT NULL,
    trace          BLOB
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON events (stream, version);
CREATE UNIQUE INDEX events_by_id ON events (id);
CREATE INDEX events_by_correlation ON events (correlation);
";

/// For people: what a row says, in words.
const VIEW: &str = "
CREATE VIEW log AS
SELECT e.position, s.name AS stream, e.version, k.word AS kind, e.schema_version,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.time / 1000.0, 'unixepoch') AS time,
       t.word AS tenant, a.word AS actor, lower(hex(e.id)) AS id, lower(hex(e.correlation)) AS correlation,
       lower(hex(e.causation)) AS causation, CAST(e.data AS TEXT) AS data,
       iif(e.trace IS NULL, NULL, '00-' || lower(hex(substr(e.trace, 1, 16))) || '-' ||
           lower(hex(substr(e.trace, 17, 8))) || '-' || lower(hex(substr(e.trace, 25)))) AS traceparent
FROM events e JOIN streams s ON s.id = e.stream JOIN words k ON k.id = e.kind JOIN words a ON a.id = e.actor
LEFT JOIN words t ON t.id = e.tenant;
";

/// Refuses an SQLite that can lose a commit.
pub(super) fn check_engine() -> Result<(), OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::EngineTooOld { version: rusqlite::version().to_owned() });
    }
    Ok(())
}

/// Positions begin with 1. An event before that is in its stream but in no list of all events, so no reader of the
/// log, no seal and no backup would ever see it.
pub(super) fn check_positions(connection: &Connection) -> Result<(), OpenError> {
    let first: Option<i64> =
        connection.query_row("SELECT min(position) FROM events", [], |row| row.get(0))?;
    match first.filter(|first| *first < 1) {
        Some(position) => Err(OpenError::BeforeTheFirst { position }),
        None => Ok(()),
    }
}

/// The only connection that writes events. Creates the file and its tables if need be, and brings an earlier shape into this one.
pub(super) fn open_writer(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, flags)?;
    let journal_mode = log_ahead(&connection)?;
    if journal_mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { found: journal_mode });
    }
    // Foreign keys are given by the writer itself; checking them costs a look-up each. Checkpoints: checkpoint.rs.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = OFF;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = {};
             PRAGMA cache_size = -{};",
        2 * u64::from(options.checkpoint_pages) * 4096,
        options.writer_cache_bytes / 1024,
    ))?;
    create_or_check(&connection)?;
    Ok(connection)
}

/// Switches to write-ahead logging, and returns what SQLite has switched to. SQLite commits the switch only after it
/// has returned its answer: a caller that stops reading there does not notice when the commit fails, and works
/// without a write-ahead log.
pub(super) fn log_ahead(connection: &Connection) -> rusqlite::Result<String> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mut journal_mode = String::new();
    while let Some(row) = rows.next()? {
        journal_mode = row.get(0)?;
    }
    Ok(journal_mode)
}

/// The connection that copies the write-ahead log into the database.
pub(super) fn open_checkpointer(path: &Path) -> Result<Connection, OpenError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{};", options.reader_cache_bytes / 1024))?;
    Ok(connection)
}

/// A connection to a log that nobody writes. SQLite then takes no lock and makes no file.
pub(super) fn open_unchanging(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = open(Path::new(&uri::immutable(path)), flags)?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{};", options.reader_cache_bytes / 1024))?;
    Ok(connection)
}

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A log of a known shape.
    Log(Shape),
    /// A log of a newer program.
    Newer {
        /// Its shape.
        version: i64,
    },
    /// Something else.
    Foreign,
}

/// What a database is that is attached under this name.
pub(super) fn shape_of(connection: &Connection, name: &str) -> rusqlite::Result<Found> {
    let pragma = |pragma: &str| {
        connection.query_row(&format!("PRAGMA {name}.{pragma}"), [], |row| row.get::<_, i64>(0))
    };
    match pragma("application_id")? {
        APPLICATION_ID => {
            let version = pragma("user_version")?;
            Ok(Shape::of_version(version).map_or(Found::Newer { version }, Found::Log))
        }
        _ => Ok(Found::Foreign),
    }
}

/// Makes the tables of an empty log.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {SCHEMA} {VIEW}
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    ))
}

/// Brings a log of shape 1 into the newest shape: all of it, or nothing. No event is read or touched: a row that ends before
/// its last column has NULL there.
///
/// `ALTER TABLE … ADD COLUMN` would do the same to the table's text. But it would read every row of a strict table first, which
/// takes minutes for a large log, and refuse it because of a single damaged event.
fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE; PRAGMA writable_schema = ON;")?;
    let table: String =
        connection.query_row("SELECT sql FROM sqlite_schema WHERE name = 'events'", [], |row| row.get(0))?;
    let Some((columns, rest)) = table.rsplit_once(')') else {
        return Err(rusqlite::Error::InvalidQuery);
    };
    let table = format!("{},\n    trace          BLOB\n){rest}", columns.trim_end());
    connection.execute("UPDATE sqlite_schema SET sql = ?1 WHERE name = 'events'", [table])?;
    connection.execute_batch(&format!(
        "DROP VIEW IF EXISTS log; {VIEW} PRAGMA user_version = {SCHEMA_VERSION};
         PRAGMA writable_schema = RESET;"
    ))?;
    // What SQLite cannot read is not committed. No row is read for that.
    connection.prepare("SELECT traceparent FROM log")?;
    connection.execute_batch("COMMIT")
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // After a failed fsync nothing may be copied any more; a regular close does it before.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Otherwise a kept statement with `LIMIT ?` is compiled again at each use, for a plan that may suit the value better.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

fn create_or_check(connection: &Connection) -> Result<(), OpenError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (application_id, version) = (pragma("application_id")?, pragma("user_version")?);
    if application_id == APPLICATION_ID {
        return match Shape::of_version(version) {
            Some(Shape::Traced) => Ok(()),
            Some(Shape::Untraced) => Ok(migrate(connection)?),
            None => Err(OpenError::OtherSchema { found: version, known: SCHEMA_VERSION }),
        };
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application_id != 0 || tables != 0 {
        return Err(OpenError::NotAnEventStore);
    }
    create(connection)?;
    Ok(())
}
