//! Pausing and resuming: who may, and what is already the case.

use chrono::{DateTime, Utc};

use super::{PauseBy, Sending, SendingPaused, SendingResumed};
use crate::ids::SendingId;

/// Why nothing of a sending is handed over at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: DateTime<Utc>,
    /// By whom.
    pub by: PauseBy,
    /// Why, in their words.
    pub reason: Option<String>,
}

impl Pause {
    pub(super) fn new(paused: &SendingPaused, since: DateTime<Utc>) -> Self {
        Self { since, by: paused.by, reason: paused.reason.clone() }
    }
}

/// Why a sending is not paused or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PauseRefusal {
    /// It was never sealed.
    #[error("there is no such sending")]
    NotSealed,
    /// It was cancelled, or every message is final.
    #[error("the sending is over")]
    Over,
    /// Only an operator may resume what an operator paused.
    #[error("an operator paused the sending")]
    PausedByOperator,
}

impl Sending {
    /// The event that pauses it; none: it is already paused, by somebody with at least the same priority.
    ///
    /// # Errors
    /// See [`PauseRefusal`].
    pub fn pause(
        &self,
        id: SendingId,
        by: PauseBy,
        reason: Option<String>,
    ) -> Result<Option<SendingPaused>, PauseRefusal> {
        self.is_going_on()?;
        let is_paused = self.paused.as_ref().is_some_and(|pause| pause.by >= by);
        Ok((!is_paused).then_some(SendingPaused { sending: id, by, reason }))
    }

    /// The event that resumes it; none: it is not paused.
    ///
    /// # Errors
    /// See [`PauseRefusal`].
    pub fn resume(
        &self,
        id: SendingId,
        by: PauseBy,
        reason: Option<String>,
    ) -> Result<Option<SendingResumed>, PauseRefusal> {
        self.is_going_on()?;
        match &self.paused {
            None => Ok(None),
            Some(pause) if pause.by > by => Err(PauseRefusal::PausedByOperator),
            Some(_) => Ok(Some(SendingResumed { sending: id, by, reason })),
        }
    }

    fn is_going_on(&self) -> Result<(), PauseRefusal> {
        if self.accepted.is_none() {
            return Err(PauseRefusal::NotSealed);
        }
        if self.cancelled_at.is_some() || self.completed { Err(PauseRefusal::Over) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::policy::FailoverTerms;
    use crate::sending::{MessageClass, SendingAccepted, SendingCancelled, SendingContent};
    use crate::slug::TenantId;
    use uuid::Uuid;

    const ID: SendingId = SendingId(Uuid::from_u128(7));

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_000_000 + seconds, 0).unwrap()
    }

    fn sealed() -> Sending {
        let mut sending = Sending::default();
        let accepted = SendingAccepted {
            sending: ID,
            tenant: TenantId::parse("acme").unwrap(),
            class: MessageClass::Notice,
            from_phone: None,
            from_email: None,
            lots: 1,
            messages: 1,
            refused: 0,
            scheduled_at: None,
            expires_at: at(3_600),
            failover: FailoverTerms::default(),
            ad: None,
            client_reference: None,
            custom: None,
            body_hash: None,
            personal: SendingContent {
                subject: None,
                text: "hello".to_owned(),
                variables: Default::default(),
            },
        };
        sending.evolve(&Event::from(accepted), at(0));
        sending
    }

    fn pause(sending: &mut Sending, by: PauseBy) -> Option<SendingPaused> {
        let paused = sending.pause(ID, by, Some("wrong price".to_owned())).unwrap();
        paused.iter().for_each(|event| sending.evolve(&Event::from(event.clone()), at(1)));
        paused
    }

    fn resume(sending: &mut Sending, by: PauseBy) -> Result<Option<SendingResumed>, PauseRefusal> {
        let resumed = sending.resume(ID, by, None)?;
        resumed.iter().for_each(|event| sending.evolve(&Event::from(event.clone()), at(2)));
        Ok(resumed)
    }

    #[test]
    fn a_paused_sending_is_not_due_until_it_is_resumed() {
        let mut sending = sealed();
        assert!(sending.is_due(at(5)));
        assert!(pause(&mut sending, PauseBy::Tenant).is_some());
        assert!(!sending.is_due(at(5)));
        let known = Pause { since: at(1), by: PauseBy::Tenant, reason: Some("wrong price".to_owned()) };
        assert_eq!(sending.paused, Some(known));
        assert!(resume(&mut sending, PauseBy::Tenant).unwrap().is_some());
        assert!(sending.is_due(at(5)));
    }

    #[test]
    fn what_is_so_already_takes_nothing() {
        let mut sending = sealed();
        assert_eq!(resume(&mut sending, PauseBy::Tenant), Ok(None));
        pause(&mut sending, PauseBy::Operator);
        assert_eq!(pause(&mut sending, PauseBy::Operator), None);
        assert_eq!(pause(&mut sending, PauseBy::Tenant), None, "it stays the operator's");
    }

    #[test]
    fn only_an_operator_resumes_what_an_operator_paused() {
        let mut sending = sealed();
        pause(&mut sending, PauseBy::Tenant);
        assert!(pause(&mut sending, PauseBy::Operator).is_some(), "the operator's pause takes its place");
        assert_eq!(resume(&mut sending, PauseBy::Tenant), Err(PauseRefusal::PausedByOperator));
        assert!(resume(&mut sending, PauseBy::Operator).unwrap().is_some());
        pause(&mut sending, PauseBy::Tenant);
        assert!(resume(&mut sending, PauseBy::Operator).unwrap().is_some(), "and a tenant's as well");
    }

    #[test]
    fn what_is_over_or_was_never_sealed_is_neither_paused_nor_resumed() {
        let never = Sending::default();
        assert_eq!(never.pause(ID, PauseBy::Operator, None), Err(PauseRefusal::NotSealed));
        let mut sending = sealed();
        pause(&mut sending, PauseBy::Tenant);
        sending.evolve(&SendingCancelled { sending: ID, reason: None }.into(), at(3));
        assert_eq!(sending.pause(ID, PauseBy::Tenant, None), Err(PauseRefusal::Over));
        assert_eq!(resume(&mut sending, PauseBy::Operator), Err(PauseRefusal::Over));
    }
}
