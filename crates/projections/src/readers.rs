//! Readers of a model, and the position that it has reached.
//!
//! Each connection to a file keeps pages of it in memory, so their number is limited; connections to a server are shared by all
//! models.

use chrono::TimeDelta;
use kite_event_store::{Position, describe};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::database;
use crate::engine;
use crate::error::{OpenError, QueryError};
use crate::pool::{Caller, Pool, Turn};
use crate::postgres::Postgres;
use crate::read_model::ReadModel;

/// Connections of one model, and so queries of users that are answered at the same time.
const CONNECTIONS_MAX: usize = 16;
/// Connections kept open when nobody uses them.
const IDLE_MAX: usize = 4;

/// Reads of one model. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers {
    source: Source,
    caller: Caller,
    position: watch::Sender<Position>,
}

/// What is read.
#[derive(Clone)]
enum Source {
    File(Arc<File>),
    Server(Postgres, &'static str),
}

struct File {
    path: PathBuf,
    open: fn(&Path) -> Result<Connection, OpenError>,
    pool: Pool<Connection>,
}

impl File {
    fn open(&self) -> Result<Connection, QueryError> {
        (self.open)(&self.path).map_err(|error| match error {
            OpenError::Storage { source, .. } | OpenError::Damaged { source, .. } => {
                QueryError::Storage(source)
            }
            other => QueryError::corrupt(other),
        })
    }

    fn ask<T>(
        &self,
        mut turn: Turn<'_, Connection>,
        question: impl FnOnce(engine::Connection<'_>) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let connection = match turn.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let answer = {
            let snapshot = Snapshot::of(&connection).map_err(engine::StorageError::from)?;
            question(engine::Connection::Sqlite(snapshot.0))?
        };
        // One whose snapshot could not be left would keep the file from being tidied.
        if connection.is_autocommit() {
            turn.keep(connection);
        }
        Ok(answer)
    }
}

/// A moment at which everything is read. Its two statements are kept compiled: queries are many, and often small.
struct Snapshot<'c>(&'c Connection);

impl<'c> Snapshot<'c> {
    fn of(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(connection))
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // Nothing was written.
        let left = self.0.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if let Err(error) = left {
            tracing::debug!(error = describe(&error), "a snapshot of a read model could not be left");
        }
    }
}

impl Readers {
    /// Readers of a file that exists.
    pub(crate) fn of_file<M: ReadModel>(path: PathBuf) -> Result<Self, OpenError> {
        let connection = database::open_reader::<M>(&path)?;
        let position = database::position(engine::Connection::Sqlite(&connection))
            .map_err(|source| OpenError::storage(M::NAME, source))?;
        let pool = Pool::new(CONNECTIONS_MAX, IDLE_MAX);
        if let Ok(mut turn) = pool.turn_within(Caller::User, Duration::ZERO) {
            turn.keep(connection);
        }
        let file = File { path, open: database::open_reader::<M>, pool };
        let (source, position) = (Source::File(Arc::new(file)), watch::Sender::new(position));
        Ok(Self { source, caller: Caller::User, position })
    }

    /// Readers of a model on a server.
    pub(crate) fn of_server<M: ReadModel>(postgres: &Postgres) -> Self {
        let position = postgres.positions(M::NAME);
        Self { source: Source::Server(postgres.clone(), M::NAME), caller: Caller::User, position }
    }

    /// The same, asked by the write side.
    pub(crate) fn of_write_side(&self) -> Self {
        Self { caller: Caller::WriteSide, ..self.clone() }
    }

    /// Queries on a free connection, waiting for one if necessary. All reads in one call see the tables at the same
    /// moment. If the connection is lost, or another generation is shown since, the question is asked once more.
    ///
    /// # Errors
    /// [`QueryError::Busy`] if there was none for some seconds; otherwise the error of the query.
    pub(crate) fn ask<T>(
        &self,
        question: impl Fn(engine::Connection<'_>) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        match &self.source {
            Source::File(file) => file.ask(file.pool.turn(self.caller)?, question),
            Source::Server(postgres, model) => {
                postgres.ask(model, self.caller, |snapshot| question(engine::Connection::Postgres(snapshot)))
            }
        }
    }

    /// The sender that the model's projector tells its position to.
    pub(crate) fn position_sender(&self) -> watch::Sender<Position> {
        self.position.clone()
    }

    /// What a projector has told: of this process, or on a server of any.
    pub(crate) fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Waits until the tables hold everything up to `position`. False: not within the time.
    pub(crate) async fn wait_for(&self, position: Position, timeout: Duration) -> bool {
        let mut receiver = self.position.subscribe();
        if *receiver.borrow() >= position {
            return true;
        }
        if let Source::Server(postgres, _) = &self.source {
            postgres.is_waited_for();
        }
        let reached = tokio::time::timeout(timeout, receiver.wait_for(|at| *at >= position)).await;
        if matches!(reached, Ok(Ok(_))) {
            return true;
        }
        // The projector may run in another process. This is no thread that may wait for a connection.
        match &self.source {
            Source::File(file) => {
                let turn = file.pool.turn_within(self.caller, Duration::ZERO);
                let stored =
                    turn.and_then(|turn| file.ask(turn, |connection| Ok(database::position(connection)?)));
                stored.is_ok_and(|stored| stored >= position)
            }
            // It is looked at again and again.
            Source::Server(..) => false,
        }
    }
}

/// A duration of the calendar as milliseconds.
pub(crate) fn milliseconds(duration: TimeDelta) -> i64 {
    duration.num_milliseconds()
}

/// The methods that all query types share.
macro_rules! shared_queries {
    ($queries:ty) => {
        impl $queries {
            /// The position up to which this process has seen the log projected.
            pub fn position(&self) -> kite_event_store::Position {
                self.readers.position()
            }

            /// Waits until the answers hold everything up to `position`, so that a caller reads its own write.
            /// False: not within `timeout`.
            pub async fn wait_for(
                &self,
                position: kite_event_store::Position,
                timeout: std::time::Duration,
            ) -> bool {
                self.readers.wait_for(position, timeout).await
            }
        }
    };
}
pub(crate) use shared_queries;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Access;
    use crate::work::WorkModel;
    use tempfile::TempDir;

    #[test]
    fn however_a_question_ends_its_connection_is_free_again() {
        let directory = TempDir::new().unwrap();
        let path = database::file::<WorkModel>(directory.path());
        drop(database::open_writer::<WorkModel>(&path, Access::Shared).unwrap());
        let readers = Readers::of_file::<WorkModel>(path).unwrap();
        for _ in 0..=CONNECTIONS_MAX {
            let failed = readers.ask(|connection| Ok(connection.exists("SELECT nothing", &[])?));
            assert!(matches!(failed, Err(QueryError::Storage(_))));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                readers.ask(|_| -> Result<(), QueryError> { panic!("a question too many") })
            }));
            assert!(panicked.is_err());
        }
        assert_eq!(readers.ask(|connection| Ok(database::position(connection)?)).unwrap(), 0);
    }
}
