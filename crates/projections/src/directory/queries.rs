//! Where the events in force stand.

use kite_event_store::Position;
use smol_str::SmolStr;

use super::DirectoryModel;
use crate::database;
use crate::engine::{Connection, values};
use crate::error::QueryError;
use crate::files::Files;
use crate::parked;
use crate::readers::{Readers, shared_queries};

/// The events in force, as of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Everything up to here is in it.
    pub position: Position,
    /// Stream and version of each, in the order of the log.
    pub events: Vec<(SmolStr, u64)>,
}

/// Questions about what is in force.
#[derive(Clone)]
pub struct DirectoryQueries {
    readers: Readers,
}

shared_queries!(DirectoryQueries);

impl DirectoryQueries {
    pub(crate) fn new(files: &Files) -> Self {
        Self { readers: files.of::<DirectoryModel>() }
    }

    /// All of them. None: an event is parked, so there may be others.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn in_force(&self) -> Result<Option<InForce>, QueryError> {
        self.readers.ask(|connection| {
            if parked::count(connection)? > 0 {
                return Ok(None);
            }
            let position = database::position(connection)?;
            let sql = "SELECT DISTINCT position, stream, version FROM in_force ORDER BY position";
            let events = connection.all(sql, &[], |row| {
                Ok::<_, QueryError>((row.text(1)?, row.get::<i64>(2)?.unsigned_abs()))
            })?;
            Ok(Some(InForce { position, events }))
        })
    }

    /// The versions of those of one stream, ascending. What came after the last of them is not known here; none: an event of
    /// the stream is parked, so there may be others.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn in_force_of(&self, stream: &str) -> Result<Option<Vec<u64>>, QueryError> {
        self.readers.ask(|connection: Connection<'_>| {
            if connection.exists("SELECT 1 FROM parked WHERE stream = ?1", values![stream])? {
                return Ok(None);
            }
            let sql = "SELECT DISTINCT version FROM in_force WHERE stream = ?1 ORDER BY version";
            let versions = connection
                .all(sql, values![stream], |row| Ok::<_, QueryError>(row.get::<i64>(0)?.unsigned_abs()))?;
            Ok(Some(versions))
        })
    }
}
