//! Puts back into the work queue what the queue has forgotten: everything after a restart, and whatever else the log
//! says is waiting and the queue does not hold. Goes through all open lots again and again, a page at a time.

use async_trait::async_trait;
use kite_commands::timekeeper::Reviver as Hint;
use kite_commands::{Clock, LotsError, Step, Worker, WorkerError};
use kite_domain::ids::LotId;
use kite_projections::WorkQueries;
use kite_relay::{ReviveError, Reviver};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Lots looked at in one step.
const PAGE: usize = 256;
/// Hints that may wait; more are dropped, because the next round finds those lots anyway.
const HINTS_MAX: usize = 10_000;
/// How long it rests between two rounds.
const ROUND_INTERVAL_S: i64 = 30;

/// See the module.
pub(super) struct Revival {
    reviver: Reviver,
    work: WorkQueries,
    after: Option<LotId>,
    rests_until: Option<chrono::DateTime<chrono::Utc>>,
    hints: mpsc::Receiver<LotId>,
    hint: mpsc::Sender<LotId>,
    clock: Arc<dyn Clock>,
}

impl Revival {
    /// Revives what this model says is waiting.
    pub(super) fn new(reviver: Reviver, work: WorkQueries, clock: Arc<dyn Clock>) -> Self {
        let (hint, hints) = mpsc::channel(HINTS_MAX);
        Self { reviver, work, after: None, rests_until: None, hints, hint, clock }
    }

    /// For whoever knows of a lot that may be waiting.
    pub(super) fn hint(&self) -> Hint {
        let hint = self.hint.clone();
        Arc::new(move |lot| {
            let _ = hint.try_send(lot);
        })
    }

    async fn revive(&self, lot: LotId) -> Result<(), WorkerError> {
        match self.reviver.revive(lot).await {
            Ok(_) | Err(ReviveError::Lots(LotsError::NotFound(_) | LotsError::Contended(_))) => Ok(()),
            Err(error) => Err(WorkerError::Retry(error.to_string())),
        }
    }
}

#[async_trait]
impl Worker for Revival {
    fn name(&self) -> &str {
        "revival"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        for _ in 0..PAGE {
            let Ok(lot) = self.hints.try_recv() else { break };
            self.revive(lot).await?;
        }
        let now = self.clock.now();
        if let Some(until) = self.rests_until.filter(|until| *until > now) {
            return Ok(Step::Idle(Some(until)));
        }
        let (work, after) = (self.work.clone(), self.after);
        let page = tokio::task::spawn_blocking(move || work.lots_to_revive(after, PAGE))
            .await
            .map_err(|error| WorkerError::Retry(error.to_string()))?
            .map_err(|error| WorkerError::Retry(error.to_string()))?;
        self.after = page.last().map(|open| open.id);
        let mut failure = None;
        for open in &page {
            // One lot that cannot be read must not hide those after it.
            if let Err(error) = self.revive(open.id).await {
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
