//! How full the house is, looked at a few times a second: acceptance asks at every request.

use async_trait::async_trait;
use kite_commands::accept::{BacklogGauge, BacklogLevel};
use kite_commands::{Clock, Step, Worker, WorkerError};
use kite_event_store::Position;
use kite_projections::ReadModels;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Looks at the work model at most this often; the driving loop also wakes it with the log.
const LOOK_INTERVAL_MS: i64 = 100;

/// Keeps the level.
pub(super) struct BacklogWatch {
    models: ReadModels,
    open_messages: Arc<AtomicU64>,
    head: watch::Receiver<Position>,
    looked_at: Option<chrono::DateTime<chrono::Utc>>,
    clock: Arc<dyn Clock>,
}

impl BacklogWatch {
    /// Watches these models.
    pub(super) fn new(models: ReadModels, head: watch::Receiver<Position>, clock: Arc<dyn Clock>) -> Self {
        Self { models, open_messages: Arc::default(), head, looked_at: None, clock }
    }

    /// What acceptance asks.
    pub(super) fn gauge(&self) -> BacklogGauge {
        let (models, open_messages, head) =
            (self.models.clone(), self.open_messages.clone(), self.head.clone());
        Arc::new(move || {
            let slowest = [
                models.address_book.position(),
                models.routing.position(),
                models.delivery.position(),
                models.work.position(),
            ];
            let slowest = slowest.into_iter().min().unwrap_or(0);
            BacklogLevel {
                open_messages: open_messages.load(Ordering::Relaxed),
                projector_lag_events: head.borrow().saturating_sub(slowest),
            }
        })
    }
}

#[async_trait]
impl Worker for BacklogWatch {
    fn name(&self) -> &str {
        "backlog"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let now = self.clock.now();
        let next = self.looked_at.map(|last| last + chrono::Duration::milliseconds(LOOK_INTERVAL_MS));
        if let Some(next) = next.filter(|next| *next > now) {
            return Ok(Step::Idle(Some(next)));
        }
        let work = self.models.work.clone();
        let backlog = tokio::task::spawn_blocking(move || work.backlog())
            .await
            .map_err(|error| WorkerError::Retry(error.to_string()))?
            .map_err(|error| WorkerError::Retry(error.to_string()))?;
        self.open_messages.store(backlog.open_messages, Ordering::Relaxed);
        metrics::gauge!("kite_open_messages").set(backlog.open_messages as f64);
        self.looked_at = Some(now);
        Ok(Step::Idle(Some(now + chrono::Duration::milliseconds(LOOK_INTERVAL_MS))))
    }
}
