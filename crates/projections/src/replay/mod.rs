//! Rebuilding the read models from position 0, to compare them with the live ones or to replace them.

mod compare;
mod walk;

pub use compare::Difference;

use chrono::DateTime;
use kite_event_store::{EventStore, Position, ReadError};
use rusqlite::Connection;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::database::{self, Access};
use crate::engine::{self, StorageError};
use crate::error::{OpenError, ProjectError, QueryError};
use crate::parked::{self, ParkedEvent};
use crate::pool::Caller;
use crate::postgres::{Postgres, Rebuild, Snapshot};
use crate::projector::{Projected, Projector};
use crate::read_model::ReadModel;
use crate::read_models::ReadModels;
use crate::register::Of;
use crate::storage::{Storage, Writer};

/// How often it is tried to show what was made again, and what is waited between the tries.
const SHOWN_TRIES_MAX: u32 = 100;
const AHEAD_TRIES_MAX: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_secs(5);
/// How often in a row a step may fail, as when the server is away for a while.
const FAILED_STEPS_MAX: u32 = 60;
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);
/// How a session is that looks at one moment for long.
const LOOKING: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";
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
    /// The engine refuses.
    #[error("the read model {model} cannot be compared or finished")]
    Storage {
        /// Which model.
        model: &'static str,
        /// Why.
        source: StorageError,
    },
    /// It could not be made again beside the live one.
    #[error(
        "the rebuild of the read model {model} has not come to its end; what is shown is whole, and it can be run again"
    )]
    Rebuild {
        /// Which model.
        model: &'static str,
        /// Why.
        source: StorageError,
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

impl ModelReport {
    /// It was made again and is in place: there is nothing to compare it with.
    fn of_made(name: &'static str, position: Position, events: u64, rows: u64, parked: u64) -> Self {
        Self { is_there: true, position, events, rows, parked, ..Self::of_none(name) }
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
pub async fn verify(store: Arc<dyn EventStore>, storage: impl Into<Storage>) -> Result<Report, ReplayError> {
    let (storage, mut models) = (storage.into(), Vec::new());
    for model in ReadModels::each() {
        models.push(model.verify(&store, &storage).await?);
    }
    Ok(Report { models })
}

/// Rebuilds every model and replaces the live one. In files, whose old ones are kept as `<name>.db.previous`, nothing else
/// may have the directory open. In PostgreSQL everything goes on meanwhile: the model is rebuilt beside the live one,
/// by the owner of the database, and is shown once it has caught up.
///
/// # Errors
/// See [`ReplayError`]; models that were not replaced yet are as before.
pub async fn rebuild(store: Arc<dyn EventStore>, storage: impl Into<Storage>) -> Result<Report, ReplayError> {
    let (storage, mut models) = (storage.into(), Vec::new());
    for model in ReadModels::each() {
        models.push(model.rebuild(&store, &storage).await?);
    }
    Ok(Report { models })
}

/// The parked events of every model, without reading the log.
///
/// # Errors
/// See [`ReplayError`].
pub fn parked(storage: impl Into<Storage>) -> Result<Vec<ParkedReport>, ReplayError> {
    let storage = storage.into();
    ReadModels::each().iter().map(|model| model.parked(&storage)).collect()
}

/// Applies parked events again: every model that has some is rebuilt and replaces the live one, as by [`rebuild`];
/// what still cannot be applied is parked again. Nothing else may have the directory open, if they are in files.
///
/// Applying the parked events late, to the current rows, would be faster and wrong: rows also depend on the order of
/// events of different streams (the newest carry of a split, which of two contacts is older).
///
/// # Errors
/// See [`ReplayError`]; models that were not replaced yet are as before.
pub async fn retry_parked(
    store: Arc<dyn EventStore>,
    storage: impl Into<Storage>,
) -> Result<Vec<RetryReport>, ReplayError> {
    let (storage, mut retried) = (storage.into(), Vec::new());
    for model in ReadModels::each() {
        retried.extend(model.retry_parked(&store, &storage).await?);
    }
    Ok(retried)
}

pub(crate) fn parked_of<M: ReadModel>(storage: &Storage) -> Result<ParkedReport, ReplayError> {
    let list = |connection: engine::Connection<'_>| parked::list(connection, 0, usize::MAX);
    let listed = match storage {
        Storage::Files(directory) => {
            let path = database::file::<M>(directory);
            if !path.exists() {
                return Ok(ParkedReport { name: M::NAME, events: Vec::new() });
            }
            let connection = database::open_writer::<M>(&path, Access::Shared)?;
            list(engine::Connection::Sqlite(&connection))
        }
        Storage::Postgres(postgres) => {
            postgres.ask(M::NAME, Caller::User, |snapshot| list(engine::Connection::Postgres(snapshot)))
        }
    };
    let events = listed.map_err(|source| ReplayError::Parked { model: M::NAME, source })?;
    Ok(ParkedReport { name: M::NAME, events })
}

pub(crate) async fn retry_model<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    storage: &Storage,
) -> Result<Option<RetryReport>, ReplayError> {
    let parked_before = parked_of::<M>(storage)?.events.len() as u64;
    if parked_before == 0 {
        return Ok(None);
    }
    let model = rebuild_model::<M>(store, storage).await?;
    Ok(Some(RetryReport { parked_before, model }))
}

pub(crate) async fn verify_model<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    storage: &Storage,
) -> Result<ModelReport, ReplayError> {
    let model_error = |source| ReplayError::Storage { model: M::NAME, source };
    match storage {
        Storage::Files(directory) => {
            let path = database::file::<M>(directory);
            if !path.exists() {
                return Ok(ModelReport::of_none(M::NAME));
            }
            let live = database::open_reader::<M>(&path)?;
            // What is read from here on is what stands at this checkpoint, whatever is written meanwhile.
            live.execute_batch("BEGIN").map_err(StorageError::from).map_err(model_error)?;
            verify_against::<M>(store, directory, Live::Sqlite(live)).await
        }
        Storage::Postgres(postgres) => {
            // A long look, at one moment.
            let session = postgres.session(LOOKING).map_err(model_error)?;
            let live = Live::Postgres(session.snapshot(&postgres.schema(M::NAME)));
            verify_against::<M>(store, postgres.scratch_dir(), live).await
        }
    }
}

/// A model at the moment at which it is compared.
enum Live<'s> {
    Sqlite(Connection),
    Postgres(Snapshot<'s>),
}

impl Live<'_> {
    fn connection(&self) -> engine::Connection<'_> {
        match self {
            Self::Sqlite(connection) => engine::Connection::Sqlite(connection),
            Self::Postgres(snapshot) => engine::Connection::Postgres(snapshot),
        }
    }
}

/// Makes the model again in a file of this directory, whatever engine the live one is in, and compares the two.
async fn verify_against<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    directory: &Path,
    live: Live<'_>,
) -> Result<ModelReport, ReplayError> {
    let storage = |source| ReplayError::Storage { model: M::NAME, source };
    let position = database::position(live.connection()).map_err(storage)?;
    let made = make_again::<M>(store, directory, position).await?;
    if made.position < position {
        return Err(ReplayError::AheadOfLog { model: M::NAME, live: position, end: made.position });
    }
    let rebuilt = engine::Connection::Sqlite(&made.connection);
    let compared = compare::compare(live.connection(), rebuilt, database::tables::<M>()).map_err(storage)?;
    let parked = parked::count(rebuilt).map_err(storage)?;
    drop(made.connection);
    remove(directory)?;
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
    storage: &Storage,
) -> Result<ModelReport, ReplayError> {
    match storage {
        Storage::Files(directory) => rebuild_file::<M>(store, directory).await,
        Storage::Postgres(postgres) => rebuild_beside::<M>(store, postgres).await,
    }
}

/// Makes the next generation beside the one that is shown, which goes on meanwhile, and then shows it.
async fn rebuild_beside<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    postgres: &Postgres,
) -> Result<ModelReport, ReplayError> {
    let lost = |source| ReplayError::Rebuild { model: M::NAME, source };
    let mut rebuild = Rebuild::begin(postgres, &Of::<M>::NEW).map_err(lost)?;
    let projector = |rebuild: &mut Rebuild| {
        Projector::<M>::new(store.clone(), Writer::Postgres(rebuild.writer()), watch::Sender::new(0))
    };
    let mut projector = again(&mut rebuild, projector).await.map_err(lost)?.in_large_pieces();
    let mut events = to_the_end(&mut projector, Position::MAX).await?;
    again(&mut rebuild, Rebuild::complete).await.map_err(lost)?;
    let mut tries = 1;
    loop {
        // What is shown is not written from here any more.
        if again(&mut rebuild, Rebuild::is_shown).await.map_err(lost)? {
            break;
        }
        events += to_the_end(&mut projector, Position::MAX).await?;
        // From here on nobody projects the other one. Whoever has seen something there sees it here, too.
        let Some(live) = again(&mut rebuild, Rebuild::hold).await.map_err(lost)? else { break };
        events += to_the_end(&mut projector, live).await?;
        let position = projector.position();
        if position < live && tries >= AHEAD_TRIES_MAX {
            // What this is for: the log has lost what the other one shows.
            tracing::warn!(model = M::NAME, live, end = position, "the read model was ahead of the log");
        }
        let shown = match position < live && tries < AHEAD_TRIES_MAX {
            // The end of the log may be known a moment later.
            true => Err(None),
            false => rebuild.show().map_err(Some),
        };
        let Err(error) = shown else { break };
        rebuild.let_go();
        // Whoever has a view open for long is in the way of its change. Or the answer was lost.
        if let Some(error) = error {
            if tries == SHOWN_TRIES_MAX {
                return Err(lost(error));
            }
            let error = kite_event_store::describe(&error);
            tracing::warn!(model = M::NAME, error, "what was made again cannot be shown yet, trying again");
        }
        tries += 1;
        pause(BETWEEN_TRIES).await;
    }
    let position = projector.position();
    drop(projector);
    let tables: Vec<&str> = database::tables::<M>().map(|table| table.name).collect();
    let storage = |source| ReplayError::Storage { model: M::NAME, source };
    let (rows, parked) = again(&mut rebuild, |rebuild| rebuild.count(&tables)).await.map_err(storage)?;
    if let Err(error) = again(&mut rebuild, Rebuild::drop_previous).await {
        tracing::warn!(
            model = M::NAME,
            error = kite_event_store::describe(&error),
            "the tables that were shown before are still there; the next rebuild takes them away"
        );
    }
    Ok(ModelReport::of_made(M::NAME, position, events, rows, parked))
}

/// Does something of a rebuild, and again if the connection was lost or others were in the way: a server comes back.
async fn again<T>(
    rebuild: &mut Rebuild,
    mut work: impl FnMut(&mut Rebuild) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let mut failed = 0;
    loop {
        match work(rebuild) {
            Err(error) if error.may_pass() && failed < FAILED_STEPS_MAX => {
                if error.is_of_the_connection() {
                    rebuild.give_up();
                }
                failed += 1;
                pause(AFTER_A_FAILURE).await;
            }
            done => return done,
        }
    }
}

/// Steps the projector up to a position, or until there is nothing left. Returns how many events it has applied.
async fn to_the_end<M: ReadModel>(projector: &mut Projector<M>, until: Position) -> Result<u64, ReplayError> {
    let (mut events, mut failed) = (0, 0);
    while projector.position() < until {
        // The time is for the metric of the lag, which means nothing here.
        match projector.step(DateTime::UNIX_EPOCH).await {
            Ok(Projected::Idle { .. }) => break,
            Ok(Projected::Advanced { events: applied, .. }) => {
                events += applied as u64;
                failed = 0;
            }
            // A server comes back; a file does not.
            Err(ProjectError::Apply { .. }) if projector.is_shared() && failed < FAILED_STEPS_MAX => {
                failed += 1;
                pause(AFTER_A_FAILURE).await;
            }
            Err(source) => return Err(ReplayError::Project { model: M::NAME, source }),
        }
    }
    Ok(events)
}

#[expect(clippy::disallowed_methods, reason = "an operator's command waits for others")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn rebuild_file<M: ReadModel>(
    store: &Arc<dyn EventStore>,
    data_dir: &Path,
) -> Result<ModelReport, ReplayError> {
    let storage = |source| ReplayError::Storage { model: M::NAME, source };
    let sqlite = |source| storage(StorageError::Sqlite(source));
    let head = *store.head().borrow();
    let made = make_again::<M>(store, data_dir, head).await?;
    database::create_indexes::<M>(&made.connection).map_err(sqlite)?;
    let connection = engine::Connection::Sqlite(&made.connection);
    let rows = compare::count_rows(connection, database::tables::<M>()).map_err(storage)?;
    let parked = parked::count(connection).map_err(storage)?;
    // Everything into the one file that is moved, and onto the disk: from then on it is not thrown away.
    made.connection.execute_batch("PRAGMA synchronous = FULL;").map_err(sqlite)?;
    let _: i64 =
        made.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(sqlite)?;
    let Made { connection, position, events } = made;
    connection.close().map_err(|(_, source)| sqlite(source))?;
    swap_in::<M>(data_dir)?;
    Ok(ModelReport::of_made(M::NAME, position, events, rows, parked))
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
    let off = connection.execute_batch("PRAGMA synchronous = OFF;");
    off.map_err(|source| storage(source.into()))?;
    let (told, writer) = (watch::Sender::new(0), Writer::Sqlite(connection));
    let mut projector = Projector::<M>::new(store.clone(), writer, told).map_err(storage)?.until(until);
    let events = to_the_end(&mut projector, until).await?;
    let position = projector.position();
    let Writer::Sqlite(connection) = projector.into_writer() else {
        unreachable!("it is the one from above")
    };
    Ok(Made { connection, position, events })
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
            source: StorageError::Sqlite(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                Some("somebody else has the file open".to_owned()),
            )),
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
