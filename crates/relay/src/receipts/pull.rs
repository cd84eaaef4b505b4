//! Asks a relay for its receipts: pull, store durably, only then acknowledge.

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_commands::receipts::ReceiptBook;
use kite_commands::{Clock, Step, Worker, WorkerError};
use kite_domain::mutation;
use kite_domain::not_understood::SaidHow;
use kite_domain::slug::RelayId;
use std::sync::Arc;
use std::time::Duration;

use super::telling::{Telling, Word};
use crate::client::{CallFailed, PulledReceipts, RelayClient};
use crate::metrics;

/// The longest pause when there is no room for something.
const FULL_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Pulls the receipts of one relay. A crash between storing and acknowledging brings the same receipts again, which
/// changes nothing. Receipts that there is no room for are not acknowledged: they come again, and meanwhile the
/// pauses grow.
pub struct ReceiptPuller {
    name: String,
    relay: RelayId,
    client: Arc<dyn RelayClient>,
    book: ReceiptBook,
    clock: Arc<dyn Clock>,
    interval: Duration,
    limit: u32,
    failures: u32,
    /// How often in a row there was no room for unreadable receipts.
    full: u32,
    telling: Telling,
}

impl ReceiptPuller {
    /// Asks at most every `interval` when there is nothing, for at most `limit` at once.
    pub fn new(
        relay: RelayId,
        client: Arc<dyn RelayClient>,
        book: ReceiptBook,
        clock: Arc<dyn Clock>,
        interval: Duration,
        limit: u32,
    ) -> Self {
        let name = format!("receipts:{relay}");
        Self {
            name,
            relay,
            client,
            book,
            clock,
            interval,
            limit: limit.max(1),
            failures: 0,
            full: 0,
            telling: Telling::default(),
        }
    }

    fn wait(&self) -> Step {
        let interval = TimeDelta::from_std(self.interval).unwrap_or(TimeDelta::MAX);
        Step::Idle(self.clock.now().checked_add_signed(interval))
    }

    /// Waits for as long as the relay asked, or twice as long with each failure in a row.
    fn rest(&mut self, retry_after: Option<Duration>) -> Step {
        let doubled = self.interval.saturating_mul(1 << self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        let pause = TimeDelta::from_std(retry_after.unwrap_or(doubled)).unwrap_or(TimeDelta::MAX);
        Step::Idle(self.clock.now().checked_add_signed(pause))
    }

    /// Waits until there may be room again, up to a minute.
    fn rest_full(&mut self) -> Step {
        self.full = self.full.saturating_add(1);
        let doubled = self.interval.saturating_mul(1 << self.full.min(16));
        let pause = TimeDelta::from_std(doubled.min(FULL_PAUSE_MAX)).unwrap_or(TimeDelta::MAX);
        Step::Idle(self.clock.now().checked_add_signed(pause))
    }

    /// Logs a failure, when it begins and then seldom.
    fn tell_trouble(&mut self, what: &'static str, failed: &CallFailed) {
        let (relay, reason) = (&self.relay, &*failed.reason);
        match self.telling.trouble(self.clock.now()) {
            Word::Begins => tracing::warn!(%relay, reason, "{what}"),
            Word::GoesOn { since } => {
                tracing::warn!(%relay, reason, since = %since.to_rfc3339(), "{what}, still");
            }
            Word::Silent => tracing::debug!(%relay, reason, "{what}"),
        }
    }

    fn tell_back(&mut self) {
        if let Some(since) = self.telling.over() {
            tracing::info!(relay = %self.relay, since = %since.to_rfc3339(), "receipts are pulled again");
        }
    }

    /// Records what came. Answers whether all of it is kept, so that it can be acknowledged.
    #[tracing::instrument(
        name = "store receipts", level = "debug", skip_all,
        fields(relay = %self.relay, receipts = pulled.receipts.len())
    )]
    async fn store(&self, pulled: PulledReceipts) -> Result<bool, WorkerError> {
        if !pulled.receipts.is_empty() {
            self.book.record(&self.relay, pulled.receipts).await.map_err(WorkerError::from)?;
        }
        // It would come again for ever: it is kept, and then acknowledged with the others.
        let kept = self.book.keep_not_understood(&self.relay, SaidHow::Pulled, pulled.misread).await;
        Ok(kept.map_err(WorkerError::from)?.beyond == 0)
    }
}

#[async_trait]
impl Worker for ReceiptPuller {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let began = self.clock.now();
        let pulled = match self.client.pull_receipts(self.limit).await {
            Ok(pulled) => pulled,
            Err(failed) => {
                self.tell_trouble("receipts could not be pulled", &failed);
                for (how, misread) in self.client.take_misread() {
                    let kept = self.book.keep_not_understood(&self.relay, how, vec![misread]).await;
                    kept.map_err(WorkerError::from)?;
                }
                return Ok(self.rest(failed.retry_after));
            }
        };
        metrics::call(&self.relay, "pull", began, self.clock.now());
        self.failures = 0;
        if pulled.lease.is_empty() {
            self.tell_back();
            return Ok(self.wait());
        }
        let lease = pulled.lease.clone();
        mutation::bug!(ReceiptsAcknowledgedBeforeStored, drop(self.client.acknowledge(&lease).await));
        if !self.store(pulled).await? {
            tracing::error!(
                relay = %self.relay, lease = %lease,
                "receipts are not acknowledged: there is no room for what is not understood of them"
            );
            return Ok(self.rest_full());
        }
        self.full = 0;
        if let Err(failed) = self.client.acknowledge(&lease).await {
            // They will come again.
            self.tell_trouble("receipts could not be acknowledged", &failed);
            return Ok(self.rest(failed.retry_after));
        }
        self.tell_back();
        Ok(Step::Worked)
    }
}
