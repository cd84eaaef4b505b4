//! Keeps the counts of [`Room`](super::Room) up to date, a few times a second.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::event::{Event, EventKind};
use kite_domain::load::LoadKind;
use kite_event_store::{Filter, Position};
use std::sync::Arc;

use super::Acceptance;
use crate::journal::JournalError;
use crate::open_work::OpenWork;
use crate::worker::{Step, TickError, Worker, WorkerError};

/// Reads the work model at most this often; the driving loop also wakes it with the log.
const LOOK_INTERVAL: TimeDelta = TimeDelta::milliseconds(100);
const PAGE: usize = 1_000;
/// At the beginning a read model may be behind by this many times the lag at which campaigns are refused. What is
/// counted here is kept in memory.
const COUNTED_LAGS: u64 = 10;

/// See the module.
pub struct LoadWatch {
    acceptance: Acceptance,
    open_work: Arc<dyn OpenWork>,
    looked_at: Option<DateTime<Utc>>,
    /// Whether what was accepted before this process began is counted.
    is_counted: bool,
}

impl LoadWatch {
    /// Watches for this acceptance, which accepts nothing before the log has been counted. Call it before the first
    /// request.
    pub fn new(acceptance: Acceptance, open_work: Arc<dyn OpenWork>) -> Self {
        acceptance.room.is_to_be_counted();
        Self { acceptance, open_work, looked_at: None, is_counted: false }
    }

    async fn look(&mut self) -> Result<(), TickError> {
        let workload = self.open_work.workload().await?;
        let position = workload.position;
        let directory = self.acceptance.directory.snapshot();
        let default = &self.acceptance.limits.tenant;
        self.acceptance
            .room
            .refresh(workload, |tenant| directory.limits_of(tenant, default).open_messages_max);
        if !self.is_counted {
            self.is_counted = self.count_the_rest(position).await?;
        }
        let load = self.acceptance.room.load_of_all();
        metrics::gauge!("kite_open_messages").set(load.open() as f64);
        metrics::gauge!("kite_scheduled_messages").set(load.scheduled as f64);
        Ok(())
    }

    /// Counts what is in the log after the read model's position. It waits for a read model that is very far behind.
    async fn count_the_rest(&self, position: Position) -> Result<bool, JournalError> {
        let journal = self.acceptance.journal();
        let lag_max = self.acceptance.limits.projector_lag_events_max.saturating_mul(COUNTED_LAGS);
        if journal.store().count_after(position) > lag_max {
            return Ok(false);
        }
        let filter = Filter::kinds([EventKind::SendingAccepted]);
        let mut after = position;
        loop {
            let (told, next) = journal.read_all(after, PAGE, &filter).await?;
            for told in &told {
                let Event::SendingAccepted(accepted) = &told.event else { continue };
                let is_scheduled = accepted.scheduled_at.is_some_and(|at| at > told.recorded.metadata.time);
                let kind = LoadKind::of(accepted.class, is_scheduled);
                let (messages, at) = (accepted.messages.into(), told.recorded.position);
                self.acceptance.room.note(&accepted.tenant, kind, messages, at);
            }
            if next == after {
                break;
            }
            after = next;
        }
        self.acceptance.room.is_counted();
        Ok(true)
    }
}

#[async_trait]
impl Worker for LoadWatch {
    fn name(&self) -> &str {
        "load-watch"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let now = self.acceptance.journal().now();
        let next = self.looked_at.map(|last| last + LOOK_INTERVAL);
        // A clock that was set back must not keep it from looking.
        if let Some(next) = next.filter(|next| *next > now && *next <= now + LOOK_INTERVAL) {
            return Ok(Step::Idle(Some(next)));
        }
        self.look().await?;
        self.looked_at = Some(now);
        Ok(Step::Idle(Some(now + LOOK_INTERVAL)))
    }
}
