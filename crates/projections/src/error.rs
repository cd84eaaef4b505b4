//! One error type for each boundary: opening, projecting, asking.

use kite_event_store::{Position, ReadError};

/// A read model's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made.
    #[error("the directory of the read models cannot be made")]
    Directory(#[from] std::io::Error),
    /// SQLite refuses.
    #[error("the file of the read model {model} cannot be opened")]
    Storage {
        /// Which model.
        model: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file has tables of another version of the program.
    #[error(
        "the file of the read model {model} has schema version {found}, this program uses {known}: rebuild it"
    )]
    OtherSchema {
        /// Which model.
        model: &'static str,
        /// The version in the file.
        found: i64,
        /// The version of this program.
        known: i64,
    },
}

/// Why events could not be written into the tables. The transaction is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// SQLite refuses.
    #[error("the tables cannot be written")]
    Storage(#[from] rusqlite::Error),
    /// A row of ours does not read back.
    #[error("a stored row cannot be read: {0}")]
    Corrupt(String),
}

/// Why a step failed. Nothing of it is in the tables; the next step tries the same events again.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The log cannot be read now.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// The tables cannot be written.
    #[error("events after position {after} cannot be applied")]
    Apply {
        /// The checkpoint.
        after: Position,
        /// Why.
        source: ApplyError,
    },
    /// Somebody else moved the checkpoint: there may be only one projector of a model. This one must end.
    #[error("another projector has taken over: the checkpoint is no longer at {expected}")]
    TakenOver {
        /// Where this one had left it.
        expected: Position,
    },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The cursor is none of ours.
    #[error("the cursor cannot be read")]
    Cursor,
    /// SQLite refuses.
    #[error("the read model cannot be read")]
    Storage(#[from] rusqlite::Error),
    /// A row of ours does not read back.
    #[error("a stored row cannot be read: {0}")]
    Corrupt(String),
}

impl QueryError {
    pub(crate) fn corrupt(error: impl std::fmt::Display) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl ApplyError {
    pub(crate) fn corrupt(error: impl std::fmt::Display) -> Self {
        Self::Corrupt(error.to_string())
    }
}
