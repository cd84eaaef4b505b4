//! Looks after a relay beside its workers: says in the log when nobody works for it and when somebody does again, takes away
//! what waits meanwhile, and keeps its gauges.

use async_trait::async_trait;
use kite_commands::manage::ManageError;
use kite_commands::{Step, Worker, WorkerError};
use std::sync::Arc;

use crate::attendance::{Attendance, News};
use crate::desk::Board;
use crate::figures;
use crate::hand::{Crew, RelayWorker};
use crate::queue::WantedLanes;

/// See the module.
pub(crate) struct Steward {
    name: String,
    attendance: Arc<Attendance>,
    board: Arc<Board>,
    crew: Arc<Crew>,
    /// Works for the relay in so far as that needs no call.
    stand_in: RelayWorker,
}

impl Steward {
    /// Looks after the relay of this crew.
    pub(crate) fn new(crew: Arc<Crew>, attendance: Arc<Attendance>, board: Arc<Board>) -> Self {
        let name = format!("steward:{}", crew.relay());
        let stand_in = RelayWorker::new(crew.clone(), 0, WantedLanes::All);
        Self { name, attendance, board, crew, stand_in }
    }

    async fn tell(&self, news: News) -> Result<(), WorkerError> {
        let manage = &self.crew.parts.manage;
        let relay = self.crew.relay();
        let told = match news {
            News::Unattended(left) => {
                tracing::error!(%relay, cause = ?left.cause, reason = left.reason, "nobody works for the relay");
                figures::unattended(relay);
                manage.leave_relay(&self.crew.cause(), left).await
            }
            News::Attended => {
                tracing::info!(%relay, "somebody works for the relay again");
                manage.attend_relay(&self.crew.cause(), relay).await
            }
        };
        match told {
            // It is gone: there is nothing to say of it.
            Ok(_) | Err(ManageError::Refused(_)) => Ok(()),
            Err(ManageError::Journal(error)) => Err(error.into()),
        }
    }
}

#[async_trait]
impl Worker for Steward {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let now = self.crew.now();
        let directory = self.crew.parts.directory.snapshot();
        let Some(entry) = directory.relays.get(self.crew.relay()) else { return Ok(Step::Idle(None)) };
        self.board.show(entry, now);
        if let Some(news) = self.attendance.news(entry.unattended.as_ref(), now) {
            self.tell(news).await?;
            return Ok(Step::Worked);
        }
        if entry.unattended.is_some() && self.stand_in.take_in_place_of_nobody().await? == Step::Worked {
            return Ok(Step::Worked);
        }
        // Whoever drives it lets it look again in a second in any case.
        Ok(Step::Idle(None))
    }
}
