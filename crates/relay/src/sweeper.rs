//! Puts back into the work queue what the queue has forgotten: everything after a restart, and whatever else the log
//! says is waiting and the queue does not hold. Goes through all open lots again and again, a page at a time.

use async_trait::async_trait;
use kite_commands::open_work::OpenWork;
use kite_commands::timekeeper::LotHint;
use kite_commands::{Clock, LotsError, Step, Worker, WorkerError};
use kite_domain::ids::LotId;
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::publisher::{FeedError, QueueFeeder};

/// Lots looked at in one step.
const PAGE: usize = 256;
/// Hints that may wait; more are dropped, because the next round finds those lots anyway.
const HINTS_MAX: usize = 10_000;
/// How long it rests between two rounds.
const ROUND_INTERVAL_S: i64 = 30;

/// See the module.
pub struct Sweeper {
    feeder: QueueFeeder,
    open_work: Arc<dyn OpenWork>,
    after: Option<LotId>,
    rests_until: Option<chrono::DateTime<chrono::Utc>>,
    hints: mpsc::Receiver<LotId>,
    hint: mpsc::Sender<LotId>,
    clock: Arc<dyn Clock>,
}

impl Sweeper {
    /// Feeds what is waiting according to this.
    pub fn new(feeder: QueueFeeder, open_work: Arc<dyn OpenWork>, clock: Arc<dyn Clock>) -> Self {
        let (hint, hints) = mpsc::channel(HINTS_MAX);
        Self { feeder, open_work, after: None, rests_until: None, hints, hint, clock }
    }

    /// For whoever knows of a lot that may be waiting.
    pub fn hint(&self) -> LotHint {
        let hint = self.hint.clone();
        Arc::new(move |lot| {
            let _ = hint.try_send(lot);
        })
    }

    async fn feed(&self, lot: LotId) -> Result<(), WorkerError> {
        match self.feeder.feed(lot).await {
            Ok(_) | Err(FeedError::Lots(LotsError::NotFound(_) | LotsError::Contended(_))) => Ok(()),
            Err(error) => Err(WorkerError::Retry(error.to_string())),
        }
    }
}

#[async_trait]
impl Worker for Sweeper {
    fn name(&self) -> &str {
        "sweeper"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        for _ in 0..PAGE {
            let Ok(lot) = self.hints.try_recv() else { break };
            self.feed(lot).await?;
        }
        let now = self.clock.now();
        if let Some(until) = self.rests_until.filter(|until| *until > now) {
            return Ok(Step::Idle(Some(until)));
        }
        let page = self.open_work.lots_to_sweep(self.after, PAGE).await;
        let page = page.map_err(|error| WorkerError::Retry(error.to_string()))?;
        self.after = page.last().copied();
        let mut failure = None;
        for lot in &page {
            // One lot that cannot be read must not hide those after it.
            if let Err(error) = self.feed(*lot).await {
                failure = Some(error);
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        match page.is_empty() {
            true => {
                let until = now + chrono::Duration::seconds(ROUND_INTERVAL_S);
                self.rests_until = Some(until);
                Ok(Step::Idle(Some(until)))
            }
            false => Ok(Step::Worked),
        }
    }
}
