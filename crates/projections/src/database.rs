//! A read model's file: tables, checkpoint, parked events.

use kite_event_store::Position;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::{self, StorageError};
use crate::error::OpenError;
use crate::read_model::{ReadModel, Upgrade};
use crate::sql::signed;
use crate::table::{Index, Table, create_indexes as create_indexes_of, integer, sqlite, text};

/// In every file: up to where the rows follow the log.
pub(crate) static CHECKPOINT: Table =
    Table::new("checkpoint", &[integer("id").key(), integer("position")]).only_row(0);

/// In every file: the events that could not be applied. See [`crate::parked`].
pub(crate) static PARKED: Table = Table::new(
    "parked",
    &[
        integer("position").key(),
        text("stream"),
        integer("version"),
        text("kind"),
        integer("time_ms"),
        text("cause"),
        text("reason"),
    ],
)
.indexed(&[Index::new("parked_by_stream", &["stream"])]);

/// All tables of a model that follow from the log alone.
pub(crate) fn tables<M: ReadModel>() -> impl Iterator<Item = &'static Table> {
    M::TABLES.iter().copied().chain([&PARKED])
}

/// Who else opens the file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Other readers use it, and it has its secondary indexes.
    Shared,
    /// Nobody else uses it until it is complete: no locks are taken for each transaction, and secondary indexes are
    /// made by [`create_indexes`], once the rows are in.
    Sole,
}

/// The file of a model in a data directory.
pub(crate) fn file<M: ReadModel>(data_dir: &Path) -> PathBuf {
    data_dir.join(format!("{}.db", M::NAME))
}

/// The connection that writes. Creates file and tables if necessary, and does not change a file that [`upgrade`] can
/// handle.
pub(crate) fn open_writer<M: ReadModel>(path: &Path, access: Access) -> Result<Connection, OpenError> {
    let storage = |source| OpenError::storage(M::NAME, source);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, flags).map_err(storage)?;
    connection.set_prepared_statement_cache_capacity(128);
    if access == Access::Sole {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(storage)?;
    }
    log_ahead(&connection).map_err(storage)?;
    // The tables can always be rebuilt from the log, so a commit need not wait for the disk.
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{};",
            M::CACHE_BYTES / 1024
        ))
        .map_err(storage)?;
    create_or_check::<M>(&connection, access)?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // Otherwise a kept statement with `LIMIT ?` is compiled again at each use, for a plan that may suit the value better.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Switches to write-ahead logging. SQLite commits the switch only after it has returned its answer, so a caller that
/// stops reading there does not notice when the commit fails.
fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// A connection that only reads.
pub(crate) fn open_reader<M: ReadModel>(path: &Path) -> Result<Connection, OpenError> {
    let storage = |source| OpenError::storage(M::NAME, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = open(path, flags).map_err(storage)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch("PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY;").map_err(storage)?;
    Ok(connection)
}

fn create_or_check<M: ReadModel>(connection: &Connection, access: Access) -> Result<(), OpenError> {
    let storage = |source| OpenError::storage(M::NAME, source);
    let found = version(connection).map_err(storage)?;
    if found == M::SCHEMA_VERSION || M::UPGRADE.is_some_and(|upgrade| upgrade.from == found) {
        return Ok(());
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(storage)?;
    if tables != 0 {
        return Err(OpenError::OtherSchema { model: M::NAME, found, known: M::SCHEMA_VERSION });
    }
    let indexes = match access {
        Access::Shared => create_indexes_of(M::TABLES.iter().copied()),
        Access::Sole => String::new(),
    };
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE; {} {} {indexes} PRAGMA user_version = {}; COMMIT;",
            sqlite::create_tables(&[&CHECKPOINT, &PARKED]),
            sqlite::create_tables(M::TABLES),
            M::SCHEMA_VERSION
        ))
        .map_err(storage)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Makes a file of an earlier version one of this version, which the earlier program then refuses. Only for the
/// projector: a command that only reads may run beside a process of the earlier version that uses the file.
pub(crate) fn upgrade<M: ReadModel>(connection: &Connection) -> rusqlite::Result<()> {
    let Some(Upgrade { from, sql }) = M::UPGRADE else { return Ok(()) };
    if version(connection)? != from {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    if version(&transaction)? == from {
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", M::SCHEMA_VERSION)?;
    }
    transaction.commit()
}

/// Makes the indexes that [`Access::Sole`] left out.
pub(crate) fn create_indexes<M: ReadModel>(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&create_indexes_of(M::TABLES.iter().copied()))
}

/// Up to where the tables follow the log.
pub(crate) fn position(connection: engine::Connection<'_>) -> Result<Position, StorageError> {
    connection.one("SELECT position FROM checkpoint WHERE id = 1", &[], |row| {
        row.get::<i64>(0).map(i64::unsigned_abs)
    })
}

/// Moves the checkpoint. Returns whether it was where it was expected.
pub(crate) fn move_checkpoint(
    transaction: &Transaction<'_>,
    from: Position,
    to: Position,
) -> rusqlite::Result<bool> {
    let mut update =
        transaction.prepare_cached("UPDATE checkpoint SET position = ?2 WHERE id = 1 AND position = ?1")?;
    Ok(update.execute((signed(from), signed(to)))? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::WorkModel;
    use tempfile::TempDir;

    /// See `.cargo/config.toml`: its counters of memory would be behind one lock of all threads.
    #[test]
    fn sqlite_is_built_as_the_workspace_says() {
        let connection = Connection::open_in_memory().unwrap();
        let mut options = connection.prepare("PRAGMA compile_options").unwrap();
        let options: Vec<String> =
            options.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        for wanted in ["DEFAULT_MEMSTATUS=0", "OMIT_SHARED_CACHE"] {
            assert!(options.iter().any(|option| option == wanted), "{wanted} is not among {options:?}");
        }
    }

    /// Locks and the index of the write-ahead log in a file of its own are for those who share a file.
    #[test]
    fn a_file_that_nobody_else_opens_has_no_shared_index() {
        let directory = TempDir::new().unwrap();
        for (access, is_shared) in [(Access::Sole, false), (Access::Shared, true)] {
            let path = directory.path().join(format!("{access:?}.db"));
            let _writer = open_writer::<WorkModel>(&path, access).unwrap();
            assert!(directory.path().join(format!("{access:?}.db-wal")).exists());
            assert_eq!(directory.path().join(format!("{access:?}.db-shm")).exists(), is_shared);
        }
    }
}
