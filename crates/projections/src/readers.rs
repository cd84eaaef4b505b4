//! A small pool of connections that only read, and the position that they have reached.
//!
//! Each connection keeps pages of the file in memory, so their number is limited: a caller that comes when all are in
//! use waits for one, and gets an error when that takes too long.

use chrono::TimeDelta;
use kite_event_store::{Position, describe};
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::database;
use crate::engine;
use crate::error::{OpenError, QueryError};
use crate::read_model::ReadModel;

/// Connections of one model, and so queries that are answered at the same time.
const CONNECTIONS_MAX: usize = 16;
/// Connections kept open when nobody uses them.
const IDLE_MAX: usize = 4;
/// How long a question waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads of one model's file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    open: fn(&Path) -> Result<Connection, OpenError>,
    pool: Mutex<Pool>,
    /// Notified whenever a connection is free again.
    freed: Condvar,
    position: watch::Sender<Position>,
}

struct Pool {
    idle: Vec<Connection>,
    in_use: usize,
}

/// The right to one connection, until it is dropped.
struct Turn<'a> {
    shared: &'a Shared,
    /// A connection that is open already; when it is given back, one that is to stay open.
    connection: Option<Connection>,
}

impl Shared {
    fn turn(&self, patience: Duration) -> Result<Turn<'_>, QueryError> {
        let mut pool = self.pool.lock();
        self.freed.wait_while_for(&mut pool, |pool| pool.in_use >= CONNECTIONS_MAX, patience);
        if pool.in_use >= CONNECTIONS_MAX {
            return Err(QueryError::Busy);
        }
        pool.in_use += 1;
        Ok(Turn { shared: self, connection: pool.idle.pop() })
    }

    fn open(&self) -> Result<Connection, QueryError> {
        (self.open)(&self.path).map_err(|error| match error {
            OpenError::Storage { source, .. } | OpenError::Damaged { source, .. } => {
                QueryError::Storage(source)
            }
            other => QueryError::corrupt(other),
        })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut pool = self.shared.pool.lock();
        pool.in_use -= 1;
        let has_room = pool.idle.len() < IDLE_MAX;
        pool.idle.extend(self.connection.take().filter(|_| has_room));
        drop(pool);
        self.shared.freed.notify_one();
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
    pub(crate) fn new<M: ReadModel>(path: PathBuf) -> Result<Self, OpenError> {
        let connection = database::open_reader::<M>(&path)?;
        let position = database::position(engine::Connection::Sqlite(&connection))
            .map_err(|source| OpenError::storage(M::NAME, source))?;
        let shared = Shared {
            path,
            open: database::open_reader::<M>,
            pool: Mutex::new(Pool { idle: vec![connection], in_use: 0 }),
            freed: Condvar::new(),
            position: watch::Sender::new(position),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Queries on a free connection, waiting for one if necessary. All reads in one call see the tables at the same
    /// moment.
    ///
    /// # Errors
    /// [`QueryError::Busy`] if there was none for some seconds; otherwise the error of the query.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(engine::Connection<'_>) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        self.ask_within(PATIENCE, question)
    }

    fn ask_within<T>(
        &self,
        patience: Duration,
        question: impl FnOnce(engine::Connection<'_>) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let mut turn = self.shared.turn(patience)?;
        let connection = match turn.connection.take() {
            Some(connection) => connection,
            None => self.shared.open()?,
        };
        let answer = {
            let snapshot = Snapshot::of(&connection)?;
            question(engine::Connection::Sqlite(snapshot.0))?
        };
        // One whose snapshot could not be left would keep the file from being tidied.
        if connection.is_autocommit() {
            turn.connection = Some(connection);
        }
        Ok(answer)
    }

    /// The sender that the model's projector tells its position to.
    pub(crate) fn position_sender(&self) -> watch::Sender<Position> {
        self.shared.position.clone()
    }

    /// What a projector of this process has told.
    pub(crate) fn position(&self) -> Position {
        *self.shared.position.borrow()
    }

    /// Waits until the tables hold everything up to `position`. False: not within the time.
    pub(crate) async fn wait_for(&self, position: Position, timeout: Duration) -> bool {
        let mut receiver = self.shared.position.subscribe();
        let reached = tokio::time::timeout(timeout, receiver.wait_for(|at| *at >= position)).await;
        if matches!(reached, Ok(Ok(_))) {
            return true;
        }
        // The projector may run in another process. This is no thread that may wait for a connection.
        let stored = self.ask_within(Duration::ZERO, |connection| Ok(database::position(connection)?));
        stored.is_ok_and(|stored| stored >= position)
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
    use std::sync::mpsc;
    use tempfile::TempDir;

    fn readers(directory: &TempDir) -> Readers {
        let path = database::file::<WorkModel>(directory.path());
        drop(database::open_writer::<WorkModel>(&path, Access::Shared).unwrap());
        Readers::new::<WorkModel>(path).unwrap()
    }

    fn position(readers: &Readers, patience: Duration) -> Result<Position, QueryError> {
        readers.ask_within(patience, |connection| Ok(database::position(connection)?))
    }

    /// Does something with the turns of so many who use a connection.
    fn while_in_use<T>(readers: &Readers, count: usize, then: impl FnOnce(Vec<Turn<'_>>) -> T) -> T {
        let turns = (0..count).map(|_| readers.shared.turn(Duration::ZERO).unwrap());
        then(turns.collect())
    }

    #[test]
    fn who_finds_all_connections_in_use_is_told_so() {
        let directory = TempDir::new().unwrap();
        let readers = readers(&directory);
        while_in_use(&readers, CONNECTIONS_MAX, |_turns| {
            let refused = position(&readers, Duration::from_millis(1)).unwrap_err();
            assert!(matches!(refused, QueryError::Busy), "{refused}");
        });
        assert_eq!(position(&readers, Duration::ZERO).unwrap(), 0);
    }

    #[test]
    fn who_can_wait_gets_the_first_connection_that_is_free() {
        let directory = TempDir::new().unwrap();
        let readers = readers(&directory);
        let (asks, asked) = mpsc::channel();
        while_in_use(&readers, CONNECTIONS_MAX, |mut turns| {
            std::thread::scope(|scope| {
                let readers = &readers;
                let waiting = scope.spawn(move || {
                    asks.send(()).unwrap();
                    position(readers, Duration::from_secs(600))
                });
                asked.recv().unwrap();
                drop(turns.pop());
                assert_eq!(waiting.join().unwrap().unwrap(), 0);
            });
        });
    }

    #[test]
    fn however_a_question_ends_its_connection_is_free_again() {
        let directory = TempDir::new().unwrap();
        let readers = readers(&directory);
        for _ in 0..=CONNECTIONS_MAX {
            let failed = readers.ask(|connection| Ok(connection.exists("SELECT nothing", &[])?));
            assert!(matches!(failed, Err(QueryError::Storage(_))));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                readers.ask(|_| -> Result<(), QueryError> { panic!("a question too many") })
            }));
            assert!(panicked.is_err());
        }
        let pool = readers.shared.pool.lock();
        assert!(pool.in_use == 0 && pool.idle.len() <= IDLE_MAX);
    }

    #[test]
    fn few_connections_stay_open() {
        let directory = TempDir::new().unwrap();
        let readers = readers(&directory);
        while_in_use(&readers, CONNECTIONS_MAX, |mut turns| {
            turns.iter_mut().for_each(|turn| turn.connection = Some(readers.shared.open().unwrap()));
        });
        assert_eq!(readers.shared.pool.lock().idle.len(), IDLE_MAX);
    }
}
