//! One error type for each boundary: opening, projecting, querying.

use kite_event_store::{Position, ReadError, describe};
use rusqlite::ErrorCode;
use std::error::Error;

/// What is wrong with a row.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

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
    /// What is in the file is no database, or a broken one.
    #[error("the file of the read model {model} is damaged: rebuild it (kite replay --rebuild)")]
    Damaged {
        /// Which model.
        model: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file knows more than the log.
    #[error(
        "the read model {model} stands at {live}, but the log ends at {end}: they are not of the same log. If the log \
         is the right one, rebuild the model (kite replay --rebuild)"
    )]
    AheadOfLog {
        /// Which model.
        model: &'static str,
        /// Where the model stands.
        live: Position,
        /// Where the log ends.
        end: Position,
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

impl OpenError {
    pub(crate) fn storage(model: &'static str, source: rusqlite::Error) -> Self {
        if is_damage(&source) { Self::Damaged { model, source } } else { Self::Storage { model, source } }
    }
}

/// Whether SQLite cannot read the file, so that trying again does not help.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Why events could not be written into the tables. The transaction is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// SQLite refuses.
    #[error("the tables cannot be written")]
    Storage(#[from] rusqlite::Error),
    /// A row of ours does not read back.
    #[error("a stored row cannot be read")]
    Corrupt(#[source] Failure),
    /// The fold panicked.
    #[error("the fold panicked: {0}")]
    Panicked(String),
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
    /// The file is damaged, or contains a row that is not ours. Trying again does not help: this projector must end,
    /// and the model has to be rebuilt.
    #[error("the file of the read model {model} is damaged: rebuild it (kite replay --rebuild)")]
    Damaged {
        /// Which model.
        model: &'static str,
        /// What does not fit.
        source: ApplyError,
    },
    /// Another process moved the checkpoint: a model may have only one projector. This one must end.
    #[error("another projector has taken over: the checkpoint is no longer at {expected}")]
    TakenOver {
        /// Where this one had left it.
        expected: Position,
    },
}

impl ProjectError {
    pub(crate) fn apply(model: &'static str, after: Position, source: ApplyError) -> Self {
        let is_damaged = match &source {
            ApplyError::Storage(error) => is_damage(error),
            ApplyError::Corrupt(_) => true,
            ApplyError::Panicked(_) => false,
        };
        if is_damaged { Self::Damaged { model, source } } else { Self::Apply { after, source } }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The cursor is none of ours.
    #[error("the cursor cannot be read")]
    Cursor,
    /// The maximum number of queries is in progress, and none has ended for some seconds.
    #[error("the read model is answering as many questions as it can: ask again later")]
    Busy,
    /// The answer would have more groups than this.
    #[error("the answer would have more than {0} groups")]
    TooManyGroups(usize),
    /// SQLite refuses.
    #[error("the read model cannot be read")]
    Storage(#[from] rusqlite::Error),
    /// A row of ours does not read back.
    #[error("a stored row cannot be read")]
    Corrupt(#[source] Failure),
}

impl QueryError {
    pub(crate) fn corrupt(reason: impl Into<Failure>) -> Self {
        Self::Corrupt(reason.into())
    }
}

impl ApplyError {
    /// The reason, if it lies in an event and the row that it becomes, so that trying again, on any machine, does not
    /// help. All other errors (no space, no file, a damaged file, a missing table) concern all events alike.
    pub(crate) fn of_an_event(&self) -> Option<String> {
        let is_of_an_event = match self {
            Self::Storage(rusqlite::Error::SqliteFailure(failure, words)) => match failure.code {
                ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => true,
                // The only word for it that SQLite has.
                _ => words.as_deref() == Some("integer overflow"),
            },
            Self::Storage(
                rusqlite::Error::ToSqlConversionFailure(_)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..),
            )
            | Self::Panicked(_) => true,
            Self::Storage(_) | Self::Corrupt(_) => false,
        };
        is_of_an_event.then(|| describe(self))
    }

    pub(crate) fn corrupt(reason: impl Into<Failure>) -> Self {
        Self::Corrupt(reason.into())
    }
}
