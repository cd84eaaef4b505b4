//! Rebuilding the read models from position 0, to compare them with the live ones or to replace them.

mod compare;

pub use compare::Difference;

use chrono::DateTime;
use kite_event_store::{EventStore, Position, ReadError};
use rusqlite::Connection;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

use crate::database::{self, Access};
use crate::engine;
use crate::error::{OpenError, ProjectError, QueryError};
use crate::parked::{self, ParkedEvent};
use crate::projector::{Projected, Projector};
use crate::read_model::ReadModel;
use crate::read_models::ReadModels;

/// Where models are rebuilt, within the data directory.
const DIRECTORY: &str = "replay";

/// Why a replay did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An event could not be applied.
    #[error("the read model {model} cannot be made again")]
    Project {
        /// Which model.
        model: &'static str,
        /// Why.
        source: ProjectError,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// The log ends before the position of the live model.
    #[error(
        "the read model {model} stands at {live}, but the log ends at {end}: they are not of the same log"
    )]
    AheadOfLog {
        /// Which model.
        model: &'static str,
        /// Where the live one stands.
        live: Position,
        /// Where the log ends.
        end: Position,
    },
    /// SQLite refuses.
    #[error("the read model {model} cannot be compared or finished")]
    Storage {
        /// Which model.
        model: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// What is parked cannot be read.
    #[error("what the read model {model} has parked cannot be read")]
    Parked {
        /// Which model.
        model: &'static str,
        /// Why.
        source: QueryError,
    },
    /// A file cannot be moved or removed.
    #[error("the files in {path} cannot be moved")]
    Files {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a replay came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One a model.
    pub models: Vec<ModelReport>,
}

/// One model's part of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReport {
    /// Its name.
    pub name: &'static str,
    /// Whether there is such a model. Otherwise nothing was compared.
    pub is_there: bool,
    /// Up to where it was made again.
    pub position: Position,
    /// It has read nothing, although the log has events. So nothing was compared.
    pub has_read_nothing: bool,
    /// Events applied.
    pub events: u64,
    /// Rows compared, or made.
    pub rows: u64,
    /// Rows that differ.
    pub differences_total: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Events that are parked: in the rebuilt model, whether it was only compared or is in place now.
    pub parked: u64,
}

/// What one model has parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedReport {
    /// Its name.
    pub name: &'static str,
    /// All of it, in the order of the log.
    pub events: Vec<ParkedEvent>,
}

/// The result of applying parked events again, for one model that had some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryReport {
    /// How many events were parked.
    pub parked_before: u64,
    /// The model as it is in place now; what is parked still is in [`ModelReport::parked`].
    pub model: ModelReport,
}

impl ModelReport {
    /// There is nothing to compare.
    fn of_none(name: &'static str) -> Self {
        let differences = Vec::new();
        Self {
            name,
            is_there: false,
            position: 0,
            has_read_nothing: false,
            events: 0,
            rows: 0,
            differences_total: 0,
            differences,
            parked: 0,
        }
    }
}

impl Report {
    /// Whether nothing differs, and nothing is missing that should have been compared.
    pub fn is_clean(&self) -> bool {
        let is_equal =
            |model: &ModelReport| model.is_there && !model.has_read_nothing && model.differences_total == 0;
        self.models.iter().all(is_equal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for model in &self.models {
            let ModelReport { name, position, events, rows, differences_total, parked, .. } = model;
            writeln!(
                formatter,
                "{name}: {events} events up to position {position}, {rows} rows, {differences_total} differences, \
                 {parked} parked"
            )?;
            for difference in &model.differences {
                writeln!(formatter, "  {difference}")?;
            }
        }
        Ok(())
    }
}

/// Rebuilds every model beside the live one, up to the live one's position, and compares every row of every table.
/// The live models may continue meanwhile: each is compared as it was when its turn came.
///
/// # Errors
/// See [`ReplayError`]; differences are not an error but part of the report.
pub async fn verify(store: Arc<dyn EventStore>, data_dir: &Path) -> Result<Report, ReplayError> {
    let mut models = Vec::new();
    for model in ReadModels::each() {
        models.push(model.verify(&store, data_dir).await?);
    }
    Ok(Report { models })
}

/// Rebuilds every model and replaces the live one, whose file is kept as `<name>.db.previous`. Nothing else may have
/// the directory open.
///
/// # Errors
/// See [`ReplayError`]; models that were not replaced yet are as before.
pub async fn rebuild(store: Arc<dyn EventStore>, data_dir: &Path) -> Result<Report, ReplayError> {
    let mut models = Vec::new();
    for model in ReadModels::each() {
        models.push(model.rebuild(&store, data_dir).await?);
    }
    Ok(Report { models })
}

/// The parked events of every model, without reading the log.
///
/// # Errors
/// See [`ReplayError`].
pub fn parked(data_dir: &Path) -> Result<Vec<ParkedReport>, ReplayError> {
    ReadModels::each().iter().map(|model| model.parked(data_dir)).collect()
}

/// Applies parked events again: every model that has some is rebuilt and replaces the live one, as by [`rebuild`];
/// what still cannot be applied is parked again. Nothing else may have the directory open.
///
/// Applying the parked events late, to the current rows, would be faster and wrong: rows also depend on the order of
/// events of different streams (the newest carry of a split, which of two contacts is older).
///
/// # Errors
/// See [`ReplayError`]; models that were not replaced yet are as before.
pub async fn retry_parked(
    store: Arc<dyn EventStore>,
    data_dir: &Path,
) -> Result<Vec<RetryReport>, ReplayError> {
    let mut retried = Vec::new();
    for model in ReadModels::each() {
        retried.extend(model.retry_parked(&store, data_dir).await?);
    }
    Ok(retried)
}

pub(crate) fn parked_of<M: ReadModel>(data_dir: &Path) -> Result<ParkedReport, ReplayError> {
    let path = database::file::<M>(data_dir);
    if !path.exists() {
        return Ok(ParkedReport { name: M::NAME, events: Vec::new() });
    }
    let connection = database::open_writer::<M>(&path, Access::Shared)?;
    let events = parked::list(engine::Connection::Sqlite(&connection), 0, usize::MAX)
        .map_err(|source| ReplayError::Parked { model: M::NAME, source })?;
    Ok(ParkedReport { name: M::NAME, events })
}

pub(crate) async fn retry_model<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    data_dir: &Path,
) -> Result<Option<RetryReport>, ReplayError> {
    let parked_before = parked_of::<M>(data_dir)?.events.len() as u64;
    if parked_before == 0 {
        return Ok(None);
    }
    let model = rebuild_model::<M>(store, data_dir).await?;
    Ok(Some(RetryReport { parked_before, model }))
}

pub(crate) async fn verify_model<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    data_dir: &Path,
) -> Result<ModelReport, ReplayError> {
    let storage = |source| ReplayError::Storage { model: M::NAME, source };
    let path = database::file::<M>(data_dir);
    if !path.exists() {
        return Ok(ModelReport::of_none(M::NAME));
    }
    let live = database::open_reader::<M>(&path)?;
    // What is read from here on is what stands at this checkpoint, whatever is written meanwhile.
    live.execute_batch("BEGIN").map_err(storage)?;
    let position = database::position(engine::Connection::Sqlite(&live)).map_err(storage)?;
    let made = make_again::<M>(store, data_dir, position).await?;
    if made.position < position {
        return Err(ReplayError::AheadOfLog { model: M::NAME, live: position, end: made.position });
    }
    let compared = compare::compare(&live, &made.connection, database::tables::<M>()).map_err(storage)?;
    let parked = parked::count(engine::Connection::Sqlite(&made.connection)).map_err(storage)?;
    drop(made.connection);
    remove(data_dir)?;
    Ok(ModelReport {
        name: M::NAME,
        is_there: true,
        position,
        has_read_nothing: position == 0 && *store.head().borrow() > 0,
        events: made.events,
        rows: compared.rows,
        differences_total: compared.differences_total,
        differences: compared.differences,
        parked,
    })
}

pub(crate) async fn rebuild_model<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    data_dir: &Path,
) -> Result<ModelReport, ReplayError> {
    let storage = |source| ReplayError::Storage { model: M::NAME, source };
    let head = *store.head().borrow();
    let made = make_again::<M>(store, data_dir, head).await?;
    database::create_indexes::<M>(&made.connection).map_err(storage)?;
    let rows = compare::count_rows(&made.connection, database::tables::<M>()).map_err(storage)?;
    let parked = parked::count(engine::Connection::Sqlite(&made.connection)).map_err(storage)?;
    // Everything into the one file that is moved, and onto the disk: from then on it is not thrown away.
    made.connection.execute_batch("PRAGMA synchronous = FULL;").map_err(storage)?;
    let _: i64 = made
        .connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(storage)?;
    let Made { connection, position, events } = made;
    connection.close().map_err(|(_, source)| storage(source))?;
    swap_in::<M>(data_dir)?;
    let differences = Vec::new();
    Ok(ModelReport {
        name: M::NAME,
        is_there: true,
        position,
        has_read_nothing: false,
        events,
        rows,
        differences_total: 0,
        differences,
        parked,
    })
}

/// A rebuilt model, without secondary indexes.
struct Made {
    connection: Connection,
    position: Position,
    events: u64,
}

async fn make_again<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    data_dir: &Path,
    until: Position,
) -> Result<Made, ReplayError> {
    remove(data_dir)?;
    let directory = data_dir.join(DIRECTORY);
    std::fs::create_dir_all(&directory)
        .map_err(|source| ReplayError::Files { path: directory.clone(), source })?;
    let connection = database::open_writer::<M>(&database::file::<M>(&directory), Access::Sole)?;
    let storage = |source| ReplayError::Storage { model: M::NAME, source };
    // If this process dies, the half-made files are thrown away.
    connection.execute_batch("PRAGMA synchronous = OFF;").map_err(storage)?;
    let told = watch::Sender::new(0);
    let mut projector = Projector::<M>::new(store.clone(), connection, told).map_err(storage)?.until(until);
    let mut events = 0;
    loop {
        // The time is for the metric of the lag, which means nothing here.
        let step = projector.step(DateTime::UNIX_EPOCH).await;
        match step.map_err(|source| ReplayError::Project { model: M::NAME, source })? {
            Projected::Idle { .. } => break,
            Projected::Advanced { events: applied, .. } => events += applied as u64,
        }
        if projector.position() >= until {
            break;
        }
    }
    let position = projector.position();
    Ok(Made { connection: projector.into_connection(), position, events })
}

fn swap_in<M: ReadModel>(data_dir: &Path) -> Result<(), ReplayError> {
    let live = database::file::<M>(data_dir);
    let made = database::file::<M>(&data_dir.join(DIRECTORY));
    let previous = data_dir.join(format!("{}.db.previous", M::NAME));
    let files = |source| ReplayError::Files { path: data_dir.to_owned(), source };
    if live.exists() {
        // The write-ahead log belongs to the file of its name: fold it in before the name changes.
        fold_in::<M>(&live)?;
        std::fs::rename(&live, &previous).map_err(files)?;
    }
    for suffix in ["-wal", "-shm"] {
        remove_file(&data_dir.join(format!("{}.db{suffix}", M::NAME)))?;
    }
    std::fs::rename(&made, &live).map_err(files)?;
    remove(data_dir)
}

/// Moves the write-ahead log into the file. A file that is not a database of ours is moved away as it is.
fn fold_in<M: ReadModel>(path: &Path) -> Result<(), ReplayError> {
    let Ok(connection) = Connection::open(path) else { return Ok(()) };
    let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    if let Ok(1) = folded {
        return Err(ReplayError::Storage {
            model: M::NAME,
            source: rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                Some("somebody else has the file open".to_owned()),
            ),
        });
    }
    Ok(())
}

fn remove(data_dir: &Path) -> Result<(), ReplayError> {
    let directory = data_dir.join(DIRECTORY);
    match std::fs::remove_dir_all(&directory) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ReplayError::Files { path: directory, source })
        }
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), ReplayError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ReplayError::Files { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
