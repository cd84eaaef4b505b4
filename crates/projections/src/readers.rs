//! A small pool of connections that only read, and the position that they have reached.

use chrono::TimeDelta;
use kite_event_store::Position;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::database;
use crate::error::{OpenError, QueryError};
use crate::projector::ReadModel;

/// Connections kept open when nobody uses them.
const IDLE_MAX: usize = 4;

/// Reads of one model's file. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    open: fn(&Path) -> Result<Connection, OpenError>,
    idle: Mutex<Vec<Connection>>,
    position: watch::Sender<Position>,
}

impl Readers {
    /// Readers of a file that exists.
    pub(crate) fn new<M: ReadModel>(path: PathBuf) -> Result<Self, OpenError> {
        let connection = database::open_reader::<M>(&path)?;
        let position =
            database::checkpoint(&connection).map_err(|source| OpenError::storage(M::NAME, source))?;
        let shared = Shared {
            path,
            open: database::open_reader::<M>,
            idle: Mutex::new(vec![connection]),
            position: watch::Sender::new(position),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Asks on a free connection, or on a new one when all are in use. Everything that is asked in one call sees
    /// the tables as they were at one moment.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let idle = self.shared.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => (self.shared.open)(&self.shared.path).map_err(|error| match error {
                OpenError::Storage { source, .. } | OpenError::Damaged { source, .. } => {
                    QueryError::Storage(source)
                }
                other => QueryError::corrupt(other),
            })?,
        };
        let answer = {
            let snapshot = connection.transaction()?;
            question(&snapshot)?
        };
        let mut idle = self.shared.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
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
        // The projector may run in another process.
        let stored = self.ask(|connection| Ok(database::checkpoint(connection)?));
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
            /// Up to where this process has seen the log projected.
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
