//! Why an engine does not do what it is asked.

use kite_event_store::SharedError;
use rusqlite::ErrorCode;
use std::error::Error;
use std::io;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{WasNull, WrongType};

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// SQLite refuses.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refuses, or cannot be reached.
    #[error("PostgreSQL does not do it")]
    Postgres(#[from] tokio_postgres::Error),
    /// PostgreSQL cannot be used as it is.
    #[error(transparent)]
    Unusable(SharedError),
    /// PostgreSQL does not answer.
    #[error("PostgreSQL does not answer")]
    Silent,
    /// The row that has to be there is not.
    #[error("a row is not there that another one names")]
    NoRow,
    /// A stored number is not one that is stored there.
    #[error("a stored number is out of range: {0}")]
    Range(i64),
    /// An id has 16 bytes.
    #[error("a stored id has {0} bytes")]
    IdLength(usize),
}

impl StorageError {
    pub(crate) fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unusable(SharedError::new(error))
    }

    /// Whether what is stored cannot be read, so that trying again does not help.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite(error) => {
                let code = error.sqlite_error_code();
                matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            Self::Postgres(error) => match error.code() {
                // `data_corrupted` and `index_corrupted`.
                Some(code) => code.code().starts_with("XX00") && *code != SqlState::INTERNAL_ERROR,
                None => is_of_another_type(error),
            },
            Self::Unusable(_) | Self::Silent | Self::NoRow | Self::Range(_) | Self::IdLength(_) => false,
        }
    }

    /// Whether it lies in a row that is written or read, so that trying again, on any machine, does not help. All others
    /// (no space, no file, no server, a missing table) concern all rows alike.
    pub(crate) fn is_of_a_row(&self) -> bool {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, words)) => match failure.code {
                ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => true,
                // The only word for it that SQLite has.
                _ => words.as_deref() == Some("integer overflow"),
            },
            Self::Sqlite(
                rusqlite::Error::ToSqlConversionFailure(_)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..),
            )
            | Self::Range(_)
            | Self::IdLength(_) => true,
            // Data that cannot be taken, a constraint, a row or a key that is too long.
            Self::Postgres(error) => error
                .code()
                .is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.code().starts_with(class))),
            Self::Sqlite(_) | Self::Unusable(_) | Self::Silent | Self::NoRow => false,
        }
    }

    /// Whether the connection may have been lost with it: another one may do better.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Postgres(error) => match error.as_db_error() {
                Some(said) => ["08", "57P"].iter().any(|class| said.code().code().starts_with(class)),
                None => is_of_the_transport(error),
            },
            Self::Silent | Self::Unusable(_) => true,
            Self::Sqlite(_) | Self::NoRow | Self::Range(_) | Self::IdLength(_) => false,
        }
    }

    /// Whether a question may have its answer when it is asked once more. One that took too long would again.
    pub(crate) fn is_for_another_try(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        self.is_of_the_connection() || error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
    }

    /// Whether it may be well after a while: the server is away, or others are in the way.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Silent) || self.is_for_another_try()
    }

    /// Whether a table is not there: of an earlier generation, for one.
    pub(crate) fn is_of_a_missing_table(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
        error.code().is_some_and(|code| missing.contains(code))
    }
}

/// Whether nothing came, and not something that cannot be taken.
fn is_of_the_transport(error: &tokio_postgres::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    // What could not even be put into a message is called an input.
    error.is_closed() || source.is_some_and(|source| source.kind() != io::ErrorKind::InvalidInput)
}

/// Whether a column is not of the type that it was made with.
fn is_of_another_type(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<WrongType>() || source.is::<WasNull>())
}
