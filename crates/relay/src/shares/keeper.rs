//! The workers that shares need: the one that keeps them, and the ones that work only with the first share.

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_commands::directory::Directory;
use kite_commands::{Step, Worker, WorkerError};
use std::sync::Arc;

use super::{Shares, Wants};
use crate::attendance::Attendance;
use crate::queue::WorkQueue;

/// How soon it looks again while shares move.
const SOON: TimeDelta = TimeDelta::milliseconds(250);

/// Keeps the shares of one relay under one definition.
pub(crate) struct ShareKeeper {
    name: String,
    shares: Arc<Shares>,
    definition: u64,
    attendance: Arc<Attendance>,
    directory: Directory,
    queue: Arc<dyn WorkQueue>,
}

impl ShareKeeper {
    /// Keeps them for these workers.
    pub(crate) fn new(
        shares: Arc<Shares>,
        definition: u64,
        attendance: Arc<Attendance>,
        directory: Directory,
        queue: Arc<dyn WorkQueue>,
    ) -> Self {
        Self { name: format!("shares:{}", shares.relay), shares, definition, attendance, directory, queue }
    }

    /// A process without workers for the relay leaves it to others, if there are any. So does a process that does not
    /// understand what the log says about relays.
    fn wants(&self) -> Wants {
        let is_deserted = self.attendance.is_deserted();
        let leaves = is_deserted && (!self.attendance.can_be_called() || self.shares.others_want());
        if leaves || self.directory.stands_still() { Wants::Nothing } else { Wants::Shares }
    }
}

#[async_trait]
impl Worker for ShareKeeper {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let looked = self.shares.look(self.wants()).await;
        if looked.map_err(WorkerError::retry)? {
            self.queue.nudge(&self.shares.relay);
        }
        // Whoever drives it lets it look again in a second in any case.
        Ok(Step::Idle(self.shares.is_moving().then(|| self.shares.holder.now() + SOON)))
    }

    async fn retire(&mut self) {
        self.shares.end(self.definition).await;
    }
}

/// A worker that works while this process has the first share.
pub(crate) struct OfTheFirstShare {
    worker: Box<dyn Worker>,
    shares: Arc<Shares>,
}

impl OfTheFirstShare {
    /// Steps this worker.
    pub(crate) fn new(worker: Box<dyn Worker>, shares: Arc<Shares>) -> Self {
        Self { worker, shares }
    }
}

#[async_trait]
impl Worker for OfTheFirstShare {
    fn name(&self) -> &str {
        self.worker.name()
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        match self.shares.begin_pull(self.shares.holder.now()) {
            Some(_under_way) => self.worker.step().await,
            None => Ok(Step::Idle(None)),
        }
    }

    async fn retire(&mut self) {
        self.worker.retire().await;
        self.shares.leave().await;
    }
}
