//! The connection that calls are made over, and why a call has no answer.

use kite_postgres::{Connector, OpenError, check_server};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Statement};

use super::flush::Disk;
use crate::errors::SharedError;
use crate::port::AppendError;
use crate::queue::Line;

/// The function that appends (`log.sql`), in a transaction that does not wait for the disk: see [`super::flush`].
macro_rules! call {
    ($and:literal) => {
        concat!(
            "WITH turn AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) = 'off' ",
            $and,
            " AS has_come)
             SELECT appended.* FROM turn, LATERAL kite_log.append(
                 CASE WHEN turn.has_come THEN $1::integer[] END, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17
             ) AS appended"
        )
    };
}
const CALL: &str = call!("");
/// For what is not urgent. Of all that, over all processes, only one call at a time stands before the lock of the head; so an urgent
/// one waits for no more than one of them. The key is `kite_log` in ASCII.
const CALL_IN_TURN: &str = call!("AND pg_advisory_xact_lock(7739845413354368871) IS NOT NULL");

/// A connection that calls are made over.
pub(super) struct Session {
    pub(super) client: Client,
    /// Prepared once: a call is one round trip.
    pub(super) append: Statement,
    pub(super) disk: Disk,
    _driving: Driving,
}

impl Session {
    #[expect(
        clippy::disallowed_methods,
        reason = "the connection is driven for as long as its client is there"
    )]
    /// Connects to a server that is fit for it.
    pub(super) async fn open(
        connector: &Connector,
        line: Line,
        call_timeout: Duration,
    ) -> Result<Self, CallError> {
        let (client, connection) = connector.connect().await.map_err(CallError::NotReached)?;
        let driving = Driving(tokio::spawn(connection).abort_handle());
        check_server(&client).await.map_err(CallError::NotFit)?;
        let (call, locks) = match line {
            Line::Ordinary => (CALL_IN_TURN, 2),
            Line::Front => (CALL, 1),
        };
        // Who gives up waiting for the others knows that nothing was written. Each lock may be waited for as long as that.
        let patience = format!("SET lock_timeout = {}", (call_timeout.as_millis() * 2 / 3 / locks).max(1));
        client.batch_execute(&patience).await.map_err(CallError::NotReached)?;
        let append = client.prepare(call).await.map_err(CallError::NotReached)?;
        // While commits wait (for a standby that is away), nothing is begun whose answer would be lost.
        let disk = Disk::new(connector.clone());
        disk.flushed(&client).await.map_err(CallError::NotReached)?;
        Ok(Self { client, append, disk, _driving: driving })
    }
}

/// Ends a connection with whoever has it, although an answer is on its way: the server is to see that nobody waits for it.
struct Driving(AbortHandle);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// There is no connection, so nothing was written.
    #[error("the server cannot be reached")]
    NotReached(#[source] tokio_postgres::Error),
    /// It does not say anything, so nothing was written.
    #[error("the server does not say anything")]
    NotConnected,
    /// The server is not one to write to, and nothing was written.
    #[error("the server cannot be used")]
    NotFit(#[source] OpenError),
    /// It has another log.
    #[error("the log is not the one that was written to")]
    WrongLog(#[source] SharedError),
    /// The server has said that nothing is written.
    #[error("nothing was written")]
    NothingWritten(#[source] tokio_postgres::Error),
    /// An id stands in its stream already, so nothing is written.
    #[error("an event stands in the log already")]
    IdTaken(#[source] tokio_postgres::Error),
    /// The connection was lost while the server was at it.
    #[error("the connection was lost")]
    Lost(#[source] tokio_postgres::Error),
    /// No answer in time.
    #[error("the server does not answer")]
    TooLong,
}

impl From<tokio_postgres::Error> for CallError {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = error.as_db_error().map(|said| (said.parsed_severity(), said.code().code()));
        match said {
            Some((Some(Severity::Error), code)) if is_certain(code) => {
                if code == SqlState::UNIQUE_VIOLATION.code() {
                    return Self::IdTaken(error);
                }
                Self::NothingWritten(error)
            }
            Some(_) | None => Self::Lost(error),
        }
    }
}

/// Whether an error of this code says that the statement was rolled back. Anything graver than an error (a server that shuts
/// down, or one that panics over its disk) may come after the commit, and so may what a proxy says of a lost server.
fn is_certain(code: &str) -> bool {
    !code.starts_with("08") && !code.starts_with("57P") && code != "40003"
}

impl CallError {
    /// Whether there is no server to write to.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::NotReached(_) | Self::NotFit(_) | Self::NotConnected)
    }

    /// What a caller is told whose append was part of the call.
    pub(super) fn into_answer(self) -> AppendError {
        match self {
            Self::NotReached(_)
            | Self::NotFit(_)
            | Self::NothingWritten(_)
            | Self::IdTaken(_)
            | Self::NotConnected => AppendError::unavailable(self),
            Self::WrongLog(wrong) => AppendError::Stopped(wrong),
            Self::Lost(_) | Self::TooLong => AppendError::AnswerLost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_certainly_rolled_back_was_not_written() {
        for certain in ["23505", "55P03", "40001", "40P01", "22021", "25006", "42501", "53100", "57014"] {
            assert!(is_certain(certain), "{certain}");
        }
        for uncertain in ["08006", "08P01", "08007", "40003", "57P01", "57P02", "57P03"] {
            assert!(!is_certain(uncertain), "{uncertain}");
        }
    }
}
