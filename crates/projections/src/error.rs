//! One error type for each boundary: opening, projecting, asking.

use kite_event_store::{Position, ReadError};
use rusqlite::ErrorCode;

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

/// Whether SQLite cannot make sense of the file, which no second try will change.
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
    #[error("a stored row cannot be read: {0}")]
    Corrupt(String),
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
    /// The file is damaged, or a row in it is none of ours. No second try will change that: this projector must end,
    /// and the model has to be rebuilt.
    #[error("the file of the read model {model} is damaged: rebuild it (kite replay --rebuild)")]
    Damaged {
        /// Which model.
        model: &'static str,
        /// What does not fit.
        source: ApplyError,
    },
    /// Somebody else moved the checkpoint: there may be only one projector of a model. This one must end.
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
    /// As many questions as may be are being answered, and none has ended for some seconds.
    #[error("the read model is answering as many questions as it can: ask again later")]
    Busy,
    /// The answer would have more groups than this.
    #[error("the answer would have more than {0} groups")]
    TooManyGroups(usize),
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
    /// The reason, if it lies in an event and the row that it is to become, so that no second try on any machine will
    /// change it. Everything else (no room, no file, a damaged file, a table that is not there) concerns all events alike.
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
        is_of_an_event.then(|| error_chain(self))
    }

    pub(crate) fn corrupt(error: impl std::fmt::Display) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// An error with everything behind it, as one text.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
