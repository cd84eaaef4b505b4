//! The interface of every background process of Kite: a loop over `step()`, driven elsewhere.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::event::DecodeError;
pub use kite_event_store::describe;
use kite_event_store::{AppendError, ReadError};
use std::time::Duration;

pub use crate::failure::Failure;
use crate::journal::JournalError;
use crate::lots::LotsError;
use crate::open_work::OpenWorkError;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Worked,
    /// Nothing to do until a wake-up, or until this time if there is one.
    Idle(Option<DateTime<Utc>>),
}

/// What the driver is to do about a failed step.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Try again after a pause; nothing is lost.
    #[error("the step is tried again")]
    Retry(#[source] Failure),
    /// The process cannot continue correctly: it must stop and be started again.
    #[error("the process cannot go on")]
    Fatal(#[source] Failure),
}

impl WorkerError {
    /// To be tried again.
    pub fn retry(failure: impl Into<Failure>) -> Self {
        Self::Retry(failure.into())
    }

    /// Nothing that waiting would cure.
    pub fn fatal(failure: impl Into<Failure>) -> Self {
        Self::Fatal(failure.into())
    }
}

/// Whether a log has stopped, or holds what this program cannot read: nothing that waiting would cure.
fn is_fatal(error: &JournalError) -> bool {
    match error {
        // A newer program writes to the log, too: there is other work that this one understands.
        JournalError::Decode { source: DecodeError::UnknownKind { .. }, .. } => false,
        JournalError::Decode { .. }
        | JournalError::Append(AppendError::Stopped(_))
        | JournalError::Read(ReadError::Stopped(_)) => true,
        JournalError::Append(_) | JournalError::Read(_) | JournalError::Memory(_) => false,
    }
}

impl From<JournalError> for WorkerError {
    fn from(error: JournalError) -> Self {
        if is_fatal(&error) { Self::fatal(error) } else { Self::retry(error) }
    }
}

impl From<LotsError> for WorkerError {
    fn from(error: LotsError) -> Self {
        match error {
            LotsError::Journal(error) => error.into(),
            other @ (LotsError::NotFound(_) | LotsError::Contended(_) | LotsError::Fenced) => {
                Self::retry(other)
            }
        }
    }
}

/// A background process. It holds nothing that the log could not restore.
#[async_trait]
pub trait Worker: Send {
    /// For logs and metrics: `router`, `worker:alpha`.
    fn name(&self) -> &str;

    /// Does a bounded piece of work. May be called at any time, even when nothing is due.
    async fn step(&mut self) -> Result<Step, WorkerError>;

    /// Whether it continues until it is idle when the process stops.
    fn finishes(&self) -> bool {
        false
    }

    /// How long it waits to collect more work before it looks again.
    fn gathers(&self) -> Duration {
        Duration::ZERO
    }

    /// Another process does its work for now. It forgets everything that may be outdated when it works again.
    fn stands_by(&mut self) {}

    /// It will not be stepped again: gives back what others wait for.
    async fn retire(&mut self) {}
}

/// Why a look at the time, or at what waits, failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TickError {
    #[error(transparent)]
    OpenWork(#[from] OpenWorkError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<TickError> for WorkerError {
    fn from(error: TickError) -> Self {
        match error {
            TickError::Journal(error) => error.into(),
            TickError::OpenWork(error) => Self::retry(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_cannot_mend_ends_the_process() {
        let malformed = kite_domain::event::Event::from_json("lot-accepted", 1, b"[").unwrap_err();
        let fatal: [JournalError; 3] = [
            AppendError::stopped("full").into(),
            ReadError::stopped("full").into(),
            JournalError::Decode { stream: "lot-x".into(), source: malformed },
        ];
        for error in fatal {
            let told = describe(&error);
            let failed = WorkerError::from(LotsError::Journal(error));
            assert!(matches!(&failed, WorkerError::Fatal(_)), "{told}");
            assert!(
                describe(&failed).starts_with(&format!("the process cannot go on: {told}")),
                "it keeps its source"
            );
        }
        let unknown = kite_domain::event::Event::from_json("of-tomorrow", 1, b"{}").unwrap_err();
        let passing: [JournalError; 5] = [
            JournalError::Decode { stream: "lot-x".into(), source: unknown },
            AppendError::Busy.into(),
            AppendError::unavailable("no connection").into(),
            ReadError::unavailable("no connection").into(),
            ReadError::unreadable("locked").into(),
        ];
        for error in passing {
            let told = error.to_string();
            assert!(matches!(WorkerError::from(error), WorkerError::Retry(_)), "{told}");
        }
    }

    #[test]
    fn an_error_is_told_with_its_sources() {
        let malformed = kite_domain::event::Event::from_json("lot-accepted", 1, b"[").unwrap_err();
        let told = describe(&malformed);
        assert!(
            told.starts_with("the data of a lot-accepted (schema version 1) cannot be read: EOF"),
            "{told}"
        );
    }
}
