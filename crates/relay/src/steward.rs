//! Looks after a relay beside its workers: records in the log when no worker serves it and when one does again, moves
//! waiting messages elsewhere meanwhile, and updates its metrics.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::manage::ManageError;
use kite_commands::{Step, Worker, WorkerError};
use kite_domain::relay::{BreakerPhase, Ineligible, RelayDirectory, RelayEntry};
use kite_domain::slug::RelayId;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::attendance::{Attendance, News};
use crate::board::Board;
use crate::metrics;
use crate::queue::{Hasten, WantedLanes};
use crate::worker::{ActiveRelay, RelayWorker};

/// See the module.
pub(crate) struct Steward {
    name: String,
    attendance: Arc<Attendance>,
    board: Arc<Board>,
    active: Arc<ActiveRelay>,
    /// Does the work for a relay that needs no call.
    stand_in: RelayWorker,
    /// The other relays that took messages at the last look, while this one takes none.
    others: Option<BTreeSet<RelayId>>,
    /// How many approvals of senders there were then.
    approvals: u64,
}

impl Steward {
    /// Looks after the relay of this active.
    pub(crate) fn new(active: Arc<ActiveRelay>, attendance: Arc<Attendance>, board: Arc<Board>) -> Self {
        let name = format!("steward:{}", active.relay());
        let stand_in = RelayWorker::new(active.clone(), 0, WantedLanes::All);
        Self { name, attendance, board, active, stand_in, others: None, approvals: 0 }
    }

    /// Messages wait for a relay that takes nothing only while no other relay can carry them. When another relay is
    /// back, or a sender is approved, they are looked at again at once. So they are when this relay is found to take
    /// nothing. If this relay may soon be back, a relay that is only being probed does not count as back: otherwise
    /// messages would go from one relay in trouble to the other.
    fn look_for_others(&mut self, relays: &RelayDirectory, approvals: u64) {
        let own = self.active.relay();
        let others: Option<BTreeSet<RelayId>> = relays.get(own).and_then(RelayEntry::closed).map(|closed| {
            let is_open = |other: &RelayEntry| {
                other.closed().is_none()
                    && (closed != Ineligible::BreakerTripped || other.breaker == BreakerPhase::Passing)
            };
            let open = relays.iter().filter(|(id, entry)| *id != own && is_open(entry));
            open.map(|(id, _)| id.clone()).collect()
        });
        let known = self.others.take().unwrap_or_default();
        let is_approved = std::mem::replace(&mut self.approvals, approvals) != approvals;
        if others.as_ref().is_some_and(|others| is_approved || !others.is_subset(&known)) {
            self.active.parts.queue.hasten(own, Hasten::PutOff);
        }
        self.others = others;
    }

    /// Writes the event, and does what follows once it is in the log.
    async fn tell(&self, news: News, now: DateTime<Utc>) -> Result<(), WorkerError> {
        let parts = &self.active.parts;
        let relay = self.active.relay();
        let told = match &news {
            News::Unattended(left) => parts.manage.leave_relay(&self.active.cause(), left.clone()).await,
            News::Attended => parts.manage.attend_relay(&self.active.cause(), relay).await,
        };
        match told {
            Ok(_) => {}
            // It is gone: there is nothing to say of it.
            Err(ManageError::Refused(_)) => return Ok(()),
            Err(ManageError::Journal(error)) => return Err(error.into()),
        }
        self.attendance.told(&news, now);
        match news {
            News::Unattended(left) => {
                tracing::error!(%relay, cause = ?left.cause, reason = left.reason, "nobody works for the relay");
                metrics::unattended(relay);
            }
            News::Attended => {
                tracing::info!(%relay, "somebody works for the relay again");
                parts.queue.hasten(relay, Hasten::PutOff);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Worker for Steward {
    fn name(&self) -> &str {
        &self.name
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let parts = &self.active.parts;
        parts.directory.stay_current(parts.lots.journal()).await.map_err(WorkerError::from)?;
        let now = self.active.now();
        let directory = parts.directory.snapshot();
        let Some(entry) = directory.relays.get(self.active.relay()) else { return Ok(Step::Idle(None)) };
        self.board.show(entry, now);
        self.look_for_others(&directory.relays, directory.senders.approvals());
        let news = self.attendance.news(entry.unattended.as_ref(), now);
        // While other processes work for it, a relay is not unattended.
        let is_of_others =
            |news: &News| matches!(news, News::Unattended(_)) && self.active.shares.others_want();
        if let Some(news) = news.filter(|news| !is_of_others(news)) {
            self.tell(news, now).await?;
            return Ok(Step::Worked);
        }
        if entry.unattended.is_some() && self.stand_in.take_in_place_of_nobody().await? == Step::Worked {
            return Ok(Step::Worked);
        }
        // Whoever drives it lets it look again in a second in any case.
        Ok(Step::Idle(None))
    }
}
