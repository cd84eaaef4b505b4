//! The write side's view of the read models: a thin adapter, because the two know nothing of each other.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::open_work::{OpenWork, OpenWorkError, ParkedReceipt, RouterMemory};
use kite_domain::advice::RelayFigures;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::text::Channel;
use kite_projections::{QueryError, ReadModels};

/// How many unrouted sendings are asked for at once. The router reads the rest from the log as it goes.
const UNROUTED_MAX: usize = 1_000_000;

/// Answers from the read models, away from the async threads.
pub(crate) struct OpenWorkReader {
    models: ReadModels,
    figures_window: chrono::Duration,
}

impl OpenWorkReader {
    /// Answers from these models; figures over this window.
    pub(crate) fn new(models: ReadModels, figures_window: chrono::Duration) -> Self {
        Self { models, figures_window }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&ReadModels) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, OpenWorkError> {
        let models = self.models.clone();
        tokio::task::spawn_blocking(move || question(&models))
            .await
            .map_err(|error| OpenWorkError(error.to_string()))?
            .map_err(|error| OpenWorkError(error.to_string()))
    }
}

#[async_trait]
impl OpenWork for OpenWorkReader {
    async fn router_memory(&self) -> Result<RouterMemory, OpenWorkError> {
        self.ask(|models| {
            // The position is taken before the rows: the rows may know more, never less.
            let work_position = models.work.position();
            let unrouted =
                models.work.unrouted_sendings(UNROUTED_MAX)?.into_iter().map(|open| open.id).collect();
            let (routing_position, carries) = models.routing.carries()?;
            Ok(RouterMemory { position: work_position.min(routing_position), carries, unrouted })
        })
        .await
    }

    async fn due_sendings(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<SendingId>, OpenWorkError> {
        self.ask(move |models| models.work.due_scheduled(now, limit)).await
    }

    async fn due_lots(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        self.ask(move |models| models.work.due_lots(now.timestamp_millis(), limit)).await
    }

    async fn cancelled_lots(&self, limit: usize) -> Result<Vec<LotId>, OpenWorkError> {
        self.ask(move |models| {
            let mut lots = Vec::new();
            for sending in models.work.cancelled_sendings(limit)? {
                lots.extend(models.work.cancelled_open_lots(sending, None, limit)?);
            }
            Ok(lots)
        })
        .await
    }

    async fn finished_sendings(&self, limit: usize) -> Result<Vec<SendingId>, OpenWorkError> {
        self.ask(move |models| models.work.completed_sendings(limit)).await
    }

    async fn parked_receipts(&self, limit: usize) -> Result<Vec<ParkedReceipt>, OpenWorkError> {
        self.ask(move |models| {
            let mut parked = Vec::new();
            for relay in models.work.parked_relays()? {
                parked.extend(models.work.parked_receipts(&relay, limit)?.into_iter().map(|one| {
                    ParkedReceipt { relay: relay.clone(), receipt: one.receipt, parked_at: one.parked_at }
                }));
            }
            Ok(parked)
        })
        .await
    }

    async fn figures(
        &self,
        channel: Channel,
        now: DateTime<Utc>,
    ) -> Result<Vec<RelayFigures>, OpenWorkError> {
        let window = self.figures_window;
        self.ask(move |models| models.routing.figures(channel, window, now)).await
    }
}
