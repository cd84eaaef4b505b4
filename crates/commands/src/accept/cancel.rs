//! Cancelling: messages that were not handed over never will be; those that were continue.

use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::instance::Originality;
use kite_domain::sending::{Sending, SendingCancelled};
use kite_domain::slug::TenantId;
use kite_event_store::{AppendError, Expected, Position};
use smol_str::SmolStr;

use super::Acceptance;
use crate::journal::{Cause, Entry, JournalError};
use crate::lots::{Lots, LotsError};
use crate::tries::Tries;

/// What a cancellation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelOutcome {
    /// Messages that were stopped by this.
    pub cancelled: u32,
    /// Messages that are with a relay and continue.
    pub in_flight: u32,
    /// Messages that were final before.
    pub finished: u32,
    /// Where in the log.
    pub position: Position,
}

/// A cancellation that is in the log.
struct Written {
    /// Of how many lots.
    lots: u32,
    /// Where the sending was accepted.
    accepted: Position,
    /// Where it was cancelled.
    position: Position,
}

/// Why a sending was not cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The tenant has no such sending.
    #[error("there is no sending {0}")]
    NotFound(SendingId),
    /// It had been cancelled, or everything in it was final.
    #[error("sending {0} is over already")]
    Over(SendingId),
    /// The log.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A lot.
    #[error(transparent)]
    Lots(#[from] LotsError),
}

impl Acceptance {
    /// Cancels a sending of this tenant. First the cancellation itself is made durable. If the process dies before
    /// every lot has it, the timekeeper continues.
    ///
    /// In a copy that is not settled, the lots that it has from its original are left alone: what the original may have
    /// handed over is not cancelled. The settler puts that in doubt, and the timekeeper cancels the rest.
    #[tracing::instrument(level = "debug", skip_all, fields(%tenant, sending = %id))]
    pub async fn cancel(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        id: SendingId,
        reason: Option<String>,
    ) -> Result<CancelOutcome, CancelError> {
        let cause = Cause { correlation: id.0, ..cause.clone() };
        let Written { lots, accepted, position } =
            self.write_cancellation(&cause, tenant, id, reason).await?;
        self.directory.stay_current(self.journal()).await?;
        let is_originals = match self.directory.snapshot().instance {
            Originality::Copy { until, .. } | Originality::Released { until, .. } => accepted <= until,
            Originality::Original | Originality::Settled { .. } => false,
        };
        let ids: Vec<LotId> = (0..lots).map(|number| LotId { sending: id, number }).collect();
        let mut outcome = CancelOutcome { cancelled: 0, in_flight: 0, finished: 0, position };
        let actor = SmolStr::clone(&cause.actor);
        for counted in self
            .lots
            .change(&ids, &actor, |_, lot, _| {
                let events = if is_originals { Vec::new() } else { lot.cancel() };
                let stopped: u32 = events
                    .iter()
                    .map(|event| match event {
                        Event::MessagesFinished(finished) => finished.messages.len() as u32,
                        _ => 0,
                    })
                    .sum();
                let counts = lot.counts();
                (events, (stopped, counts.open - stopped, counts.total() - counts.open))
            })
            .await
        {
            let (stopped, in_flight, finished) = counted?;
            outcome.cancelled += stopped;
            outcome.in_flight += in_flight;
            outcome.finished += finished;
        }
        Ok(outcome)
    }

    /// Whether anything is left to cancel. The completion of a sending is recorded a moment after its last message is
    /// final, and a sending that is over in between must not become a cancelled one.
    async fn has_open_messages(&self, sending: SendingId, lots: u32) -> Result<bool, LotsError> {
        for number in 0..lots {
            if self.lots.read(LotId { sending, number }, |lot, _| lot.counts().open > 0).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn write_cancellation(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        id: SendingId,
        reason: Option<String>,
    ) -> Result<Written, CancelError> {
        // However this ends, also by a caller that goes away: what is kept of the sending is read again.
        let _forgets = ForgetsSending { lots: &self.lots, id };
        let mut tries = Tries::of(self.journal());
        loop {
            let mut sending = Sending::default();
            let told = self.journal().read_stream(&id.stream(), 0).await?;
            told.iter().for_each(|told| sending.evolve(&told.event, told.recorded.metadata.time));
            let terms = sending
                .accepted
                .filter(|accepted| &accepted.tenant == tenant)
                .ok_or(CancelError::NotFound(id))?;
            if sending.cancelled_at.is_some() || sending.completed {
                return Err(CancelError::Over(id));
            }
            if !self.has_open_messages(id, terms.lots).await? {
                return Err(CancelError::Over(id));
            }
            let sealed = told.iter().find(|told| matches!(told.event, Event::SendingAccepted(_)));
            let accepted = sealed.map_or(0, |told| told.recorded.position);
            let event = Event::from(SendingCancelled { sending: id, reason: reason.clone() });
            let entry = Entry {
                stream: id.stream(),
                expected: Expected::Version(told.last().map_or(0, |last| last.recorded.version)),
                tenant: Some(tenant.clone()),
                cause: cause.clone(),
                events: vec![event.clone()],
            };
            match self.journal().append_one(entry).await {
                Ok(appended) => {
                    self.lots.note_sending(id, &event);
                    return Ok(Written { lots: terms.lots, accepted, position: appended.position });
                }
                Err(AppendError::Conflict { .. }) if tries.again().await => {}
                Err(error) => return Err(JournalError::from(error).into()),
            }
        }
    }
}

/// Drops what is kept of a sending when it goes out of scope.
pub(super) struct ForgetsSending<'l> {
    pub(super) lots: &'l Lots,
    pub(super) id: SendingId,
}

impl Drop for ForgetsSending<'_> {
    fn drop(&mut self) {
        self.lots.forget_sending(self.id);
    }
}
