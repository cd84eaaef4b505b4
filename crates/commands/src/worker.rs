//! What every background process of Kite looks like: a loop over `step()`, driven elsewhere.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

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
    #[error("{0}; trying again")]
    Retry(String),
    /// The process cannot go on correctly: it must stop and be started again.
    #[error("{0}")]
    Fatal(String),
}

/// A background process. Holds nothing that the log could not give back.
#[async_trait]
pub trait Worker: Send {
    /// For logs and metrics: `router`, `worker:alpha`.
    fn name(&self) -> &str;

    /// Does a bounded piece of work. May be called at any time, also when nothing is due.
    async fn step(&mut self) -> Result<Step, WorkerError>;
}
