//! Pausing and resuming: nothing of a paused sending is routed or handed over, until somebody resumes it.
//!
//! Only the sending's own stream is written. Whoever routes or hands over checks it. The event that resumes a sending
//! also wakes the router and the publisher, and they find the lots in the log.

use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::sending::{Pause, PauseBy, PauseRefusal, Sending};
use kite_domain::slug::TenantId;
use kite_event_store::{AppendError, Expected, Position};

use super::Acceptance;
use super::cancel::ForgetsSending;
use crate::journal::{Cause, Entry, JournalError};
use crate::tries::Tries;

/// The state of a sending after it was paused or resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseOutcome {
    /// Why nothing of it is handed over; none: it is not paused.
    pub paused: Option<Pause>,
    /// Where in the log.
    pub position: Position,
}

/// Why a sending was neither paused nor resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The tenant has no such sending.
    #[error("there is no sending {0}")]
    NotFound(SendingId),
    /// It was cancelled, or everything in it is final.
    #[error("sending {0} is over already")]
    Over(SendingId),
    /// A tenant cannot resume what an operator paused.
    #[error("an operator paused sending {0}")]
    PausedByOperator(SendingId),
    /// The log.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Acceptance {
    /// Pauses a sending of this tenant. One that is paused already stays so.
    ///
    /// # Errors
    /// See [`PauseError`].
    #[tracing::instrument(level = "debug", skip_all, fields(%tenant, sending = %id))]
    pub async fn pause(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        id: SendingId,
        by: PauseBy,
        reason: Option<String>,
    ) -> Result<PauseOutcome, PauseError> {
        let decide = |sending: &Sending| Ok(sending.pause(id, by, reason.clone())?.map(Event::from));
        self.change_pause(cause, tenant, id, decide).await
    }

    /// Resumes a sending of this tenant. One that is not paused is left as it is.
    ///
    /// # Errors
    /// See [`PauseError`].
    #[tracing::instrument(level = "debug", skip_all, fields(%tenant, sending = %id))]
    pub async fn resume(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        id: SendingId,
        by: PauseBy,
        reason: Option<String>,
    ) -> Result<PauseOutcome, PauseError> {
        let decide = |sending: &Sending| Ok(sending.resume(id, by, reason.clone())?.map(Event::from));
        self.change_pause(cause, tenant, id, decide).await
    }

    async fn change_pause(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        id: SendingId,
        decide: impl Fn(&Sending) -> Result<Option<Event>, PauseRefusal>,
    ) -> Result<PauseOutcome, PauseError> {
        let cause = Cause { correlation: id.0, ..cause.clone() };
        // What is kept of the sending is read again before anybody is told how it stands: two who pause and resume at once could be
        // told in another order than the log's, and what is found paused may be by one who has no answer yet.
        let _forgets = ForgetsSending { lots: &self.lots, id };
        let mut tries = Tries::of(self.journal());
        loop {
            let mut sending = Sending::default();
            let told = self.journal().read_stream(&id.stream(), 0).await?;
            told.iter().for_each(|told| sending.evolve(&told.event, told.recorded.metadata.time));
            if sending.accepted.as_ref().is_none_or(|accepted| &accepted.tenant != tenant) {
                return Err(PauseError::NotFound(id));
            }
            let decided = decide(&sending).map_err(|refusal| match refusal {
                PauseRefusal::NotSealed => PauseError::NotFound(id),
                PauseRefusal::Over => PauseError::Over(id),
                PauseRefusal::PausedByOperator => PauseError::PausedByOperator(id),
            })?;
            let Some(event) = decided else {
                let position = told.last().map_or(0, |last| last.recorded.position);
                return Ok(PauseOutcome { paused: sending.paused, position });
            };
            let entry = Entry {
                stream: id.stream(),
                expected: Expected::Version(told.last().map_or(0, |last| last.recorded.version)),
                tenant: Some(tenant.clone()),
                cause: cause.clone(),
                events: vec![event.clone()],
            };
            match self.journal().append_one(entry).await {
                Ok(appended) => {
                    sending.evolve(&event, self.journal().now());
                    return Ok(PauseOutcome { paused: sending.paused, position: appended.position });
                }
                Err(AppendError::Conflict { .. }) if tries.again().await => {}
                Err(error) => return Err(JournalError::from(error).into()),
            }
        }
    }
}
