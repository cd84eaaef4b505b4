//! One error type for each boundary: opening, projecting, querying.

use kite_event_store::{Position, ReadError, SharedError, describe};
use std::error::Error;
use uuid::Uuid;

use crate::engine::StorageError;

/// What is wrong with a row.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A read model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made.
    #[error("the directory of the read models cannot be made")]
    Directory(#[from] std::io::Error),
    /// The server, or what should be on it, cannot be used.
    #[error(transparent)]
    Server(SharedError),
    /// The server does not have it.
    #[error("the read model {model} is not in the database: it has to be made first (kite postgres migrate)")]
    NotMade {
        /// Which model.
        model: &'static str,
    },
    /// The server has the read models of another log.
    #[error(
        "the read models in the database are of another log ({known}, and this one is {log}): use another database"
    )]
    OtherLog {
        /// Theirs.
        known: Uuid,
        /// This one.
        log: Uuid,
    },
    /// The engine refuses.
    #[error("the read model {model} cannot be opened")]
    Storage {
        /// Which model.
        model: &'static str,
        /// Why.
        source: StorageError,
    },
    /// What is in the file is no database, or a broken one; or a server says that its tables are broken.
    #[error("the read model {model} is damaged: rebuild it (kite replay --rebuild)")]
    Damaged {
        /// Which model.
        model: &'static str,
        /// What the engine says.
        source: StorageError,
    },
    /// It knows more than the log.
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
    /// Its tables are of another version of the program.
    #[error("the read model {model} has schema version {found}, this program uses {known}: rebuild it")]
    OtherSchema {
        /// Which model.
        model: &'static str,
        /// The version found.
        found: i64,
        /// The version of this program.
        known: i64,
    },
}

impl OpenError {
    pub(crate) fn server(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Server(SharedError::new(error))
    }

    pub(crate) fn storage(model: &'static str, source: impl Into<StorageError>) -> Self {
        let source = source.into();
        if source.is_damage() { Self::Damaged { model, source } } else { Self::Storage { model, source } }
    }
}

/// Why events could not be written into the tables. The transaction is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The engine refuses.
    #[error("the tables cannot be written")]
    Storage(#[from] StorageError),
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
    /// The tables are damaged, or contain a row that is not ours. Trying again does not help: this projector must end,
    /// and the model has to be rebuilt.
    #[error("the read model {model} is damaged: rebuild it (kite replay --rebuild)")]
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
            ApplyError::Storage(error) => error.is_damage(),
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
    /// The engine refuses.
    #[error("the read model cannot be read")]
    Storage(#[from] StorageError),
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
    /// help. All other errors (no space, no file or server, a damaged table, a missing one) concern all events alike.
    pub(crate) fn of_an_event(&self) -> Option<String> {
        let is_of_an_event = match self {
            Self::Storage(error) => error.is_of_a_row(),
            Self::Panicked(_) => true,
            Self::Corrupt(_) => false,
        };
        is_of_an_event.then(|| describe(self))
    }

    pub(crate) fn corrupt(reason: impl Into<Failure>) -> Self {
        Self::Corrupt(reason.into())
    }
}
