//! Asks a relay for its receipts: pull, store durably, only then acknowledge.

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_commands::receipts::ReceiptBook;
use kite_commands::{Clock, Step, Worker, WorkerError};
use kite_domain::mutation::{self, Mutation};
use kite_domain::not_understood::SaidHow;
use kite_domain::slug::RelayId;
use std::sync::Arc;
use std::time::Duration;

use crate::client::RelayClient;
use crate::figures;

/// Pulls the receipts of one relay. A crash between storing and acknowledging brings the same receipts again, which
/// changes nothing.
pub struct ReceiptPuller {
    name: String,
    relay: RelayId,
    client: Arc<dyn RelayClient>,
    book: ReceiptBook,
    clock: Arc<dyn Clock>,
    interval: Duration,
    limit: u32,
    failures: u32,
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
        Self { name, relay, client, book, clock, interval, limit: limit.max(1), failures: 0 }
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
                tracing::warn!(relay = %self.relay, reason = &*failed.reason, "receipts could not be pulled");
                for (how, misread) in self.client.take_misread() {
                    let kept = self.book.keep_not_understood(&self.relay, how, vec![misread]).await;
                    kept.map_err(WorkerError::from)?;
                }
                return Ok(self.rest(failed.retry_after));
            }
        };
        figures::call(&self.relay, "pull", began, self.clock.now());
        self.failures = 0;
        if pulled.lease.is_empty() {
            return Ok(self.wait());
        }
        if mutation::is_active(Mutation::ReceiptsAcknowledgedBeforeStored) {
            let _ = self.client.acknowledge(&pulled.lease).await;
        }
        if !pulled.receipts.is_empty() {
            self.book.record(&self.relay, pulled.receipts).await.map_err(WorkerError::from)?;
        }
        // It would come again for ever: it is kept, and then acknowledged with the others.
        let kept = self.book.keep_not_understood(&self.relay, SaidHow::Pulled, pulled.misread).await;
        kept.map_err(WorkerError::from)?;
        if let Err(failed) = self.client.acknowledge(&pulled.lease).await {
            // They will come again.
            tracing::warn!(relay = %self.relay, reason = &*failed.reason, "receipts could not be acknowledged");
            return Ok(self.rest(failed.retry_after));
        }
        Ok(Step::Worked)
    }
}
