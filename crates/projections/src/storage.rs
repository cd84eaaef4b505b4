//! Where read models are kept, and what a projector writes with.

use kite_event_store::Position;
use rusqlite::TransactionBehavior;
use std::path::{Path, PathBuf};

use crate::database;
use crate::engine::{self, StorageError, Tables};
use crate::error::ApplyError;
use crate::postgres::{self, Postgres, Written};

/// Where read models are kept.
#[derive(Clone)]
pub enum Storage {
    /// In files of this directory, for one process.
    Files(PathBuf),
    /// On a server, for several processes.
    Postgres(Postgres),
}

impl From<&Path> for Storage {
    fn from(directory: &Path) -> Self {
        Self::Files(directory.to_owned())
    }
}

impl From<&PathBuf> for Storage {
    fn from(directory: &PathBuf) -> Self {
        Self::Files(directory.clone())
    }
}

impl From<Postgres> for Storage {
    fn from(postgres: Postgres) -> Self {
        Self::Postgres(postgres)
    }
}

/// What a projector writes with.
pub(crate) enum Writer {
    /// A file.
    Sqlite(rusqlite::Connection),
    /// A server.
    Postgres(postgres::Writer),
}

impl Writer {
    /// Whether others may write the tables, too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Whether what was known of the tables may be wrong, because somebody else may have written them.
    pub(crate) fn is_new(&mut self) -> Result<bool, StorageError> {
        match self {
            Self::Sqlite(_) => Ok(false),
            Self::Postgres(writer) => writer.is_new(),
        }
    }

    /// Whether tables are missing because others have taken their place.
    pub(crate) fn is_outdated(&self, error: &StorageError) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(writer) => error.is_of_a_missing_table() && writer.is_outdated(),
        }
    }

    /// A step has failed: whatever the connection stands in is left.
    pub(crate) fn give_up(&mut self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(writer) => writer.give_up(),
        }
    }

    /// Asks about the tables as they are.
    pub(crate) fn ask<T>(
        &mut self,
        question: impl FnOnce(engine::Connection<'_>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self {
            Self::Sqlite(connection) => question(engine::Connection::Sqlite(connection)),
            Self::Postgres(writer) => writer.ask(question),
        }
    }

    /// Reads what a fold needs to know before it writes.
    pub(crate) fn look<T>(
        &mut self,
        look: impl FnOnce(Tables<'_>) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        match self {
            Self::Sqlite(connection) => look(Tables::Sqlite(connection)),
            Self::Postgres(writer) => writer.look(look),
        }
    }

    /// Moves the checkpoint and does this, both or neither. The inner error may lie in what is written.
    pub(crate) fn write(
        &mut self,
        from: Position,
        to: Position,
        apply: impl FnOnce(Tables<'_>) -> Result<(), ApplyError>,
    ) -> Result<Result<Written, ApplyError>, StorageError> {
        match self {
            Self::Sqlite(connection) => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                if !database::move_checkpoint(&transaction, from, to)? {
                    return Ok(Ok(Written::Overtaken));
                }
                if let Err(error) = apply(Tables::Sqlite(&transaction)) {
                    return Ok(Err(error));
                }
                transaction.commit()?;
                Ok(Ok(Written::Done))
            }
            Self::Postgres(writer) => writer.write(from, to, apply),
        }
    }
}
