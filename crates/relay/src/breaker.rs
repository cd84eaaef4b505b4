//! The circuit breaker of a relay as its hands share it: fed by answers, its changes written to the log.

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::manage::{Manage, ManageError};
use kite_commands::{Awaited, Cause, Journal, JournalError};
use kite_domain::breaker::{
    Awaiting, Breaker, BreakerChange, BreakerSettings, Observation, Permit, Recovery,
};
use kite_domain::event::Event;
use kite_domain::relay::{BreakerPhase, RelayBreakerChanged, stream};
use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use std::collections::VecDeque;

use crate::figures;
use crate::queue::Hasten;

/// By so much later than it should somebody may look at what waits.
const LOOKED_AT_LATE: TimeDelta = TimeDelta::seconds(5);

/// A breaker, and the changes of it that are not in the log yet.
pub struct BreakerGuard {
    relay: RelayId,
    settings: BreakerSettings,
    awaited: Awaited,
    inner: Mutex<Inner>,
    /// Held while writing, so that changes are written in order and once.
    writing: tokio::sync::Mutex<()>,
}

struct Inner {
    breaker: Breaker,
    unwritten: VecDeque<BreakerChange>,
    recovery: Recovery,
    /// What may be looked at before its time, because the relay is back.
    hasten: Option<Hasten>,
    /// The last change.
    changed: Option<(DateTime<Utc>, String)>,
}

impl Inner {
    fn note(&mut self, change: Option<BreakerChange>) {
        let Some(change) = change else { return };
        if change.to == BreakerPhase::Passing {
            self.hasten = Some(Hasten::Everything);
        }
        self.changed = Some((change.at, change.reason.clone()));
        self.unwritten.push_back(change);
    }
}

/// What is to be done about a breaker beside calling its relay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    /// Changes are to be written: [`BreakerGuard::write`].
    pub(crate) has_unwritten: bool,
    /// The relay is back. Told once.
    pub(crate) hasten: Option<Hasten>,
}

/// Where a breaker stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) phase: BreakerPhase,
    pub(crate) changed: Option<(DateTime<Utc>, String)>,
    pub(crate) probes_from: Option<DateTime<Utc>>,
}

impl BreakerGuard {
    /// A breaker that passes.
    pub fn new(relay: RelayId, settings: BreakerSettings, awaited: Awaited, now: DateTime<Utc>) -> Self {
        let inner = Inner {
            breaker: Breaker::new(now),
            unwritten: VecDeque::new(),
            recovery: Recovery::default(),
            hasten: None,
            changed: None,
        };
        Self { relay, settings, awaited, inner: Mutex::new(inner), writing: tokio::sync::Mutex::default() }
    }

    /// The breaker as the log left it, with empty counters.
    pub async fn restore(
        relay: RelayId,
        settings: BreakerSettings,
        awaited: Awaited,
        journal: &Journal,
    ) -> Result<Self, JournalError> {
        let guard = Self::new(relay, settings, awaited, journal.now());
        let told = journal.read_stream(&stream(&guard.relay), 0).await?;
        for told in &told {
            if let Event::RelayBreakerChanged(changed) = &told.event {
                let change = BreakerChange {
                    from: changed.from,
                    to: changed.to,
                    reason: changed.reason.clone(),
                    at: told.recorded.metadata.time,
                    until: changed.until,
                };
                let mut inner = guard.inner.lock();
                inner.breaker.apply(&change);
                inner.changed = Some((change.at, change.reason));
            }
        }
        Ok(guard)
    }

    /// Lets time pass, and answers where the breaker stands and until when it is tripped, as long as nothing more urgent
    /// waits than does now.
    pub fn tick(&self, now: DateTime<Utc>) -> (BreakerPhase, Option<DateTime<Utc>>) {
        let mut inner = self.inner.lock();
        if inner.breaker.phase() != BreakerPhase::Tripped {
            return (inner.breaker.phase(), None);
        }
        let awaiting = self.awaited.of(&self.relay, now);
        let change = inner.breaker.tick_awaited(&awaiting, now);
        inner.note(change);
        (inner.breaker.phase(), inner.breaker.probes_from(&awaiting, now))
    }

    /// These messages wait for the relay, and are looked at again at `until`.
    pub(crate) fn note_awaiting(&self, waiting: Awaiting, until: DateTime<Utc>, now: DateTime<Utc>) {
        self.awaited.note(&self.relay, waiting, until + LOOKED_AT_LATE, now);
    }

    /// Where it stands now.
    pub(crate) fn standing(&self, now: DateTime<Utc>) -> Standing {
        let awaiting = self.awaited.of(&self.relay, now);
        let inner = self.inner.lock();
        Standing {
            phase: inner.breaker.phase(),
            changed: inner.changed.clone(),
            probes_from: inner.breaker.probes_from(&awaiting, now),
        }
    }

    /// Asks to hand over this many messages now.
    pub fn permit(&self, wanted: u32, now: DateTime<Utc>) -> Permit {
        self.inner.lock().breaker.permit(wanted, &self.settings, now)
    }

    /// Gives back what was permitted and not handed over.
    pub fn give_back(&self, messages: u32) {
        self.inner.lock().breaker.give_back(messages);
    }

    /// Takes note of what a call said.
    pub fn observe(&self, observation: Observation, now: DateTime<Utc>) {
        let mut inner = self.inner.lock();
        if inner.recovery.observe(&observation, now) {
            inner.hasten = inner.hasten.max(Some(Hasten::Questions));
        }
        let change = inner.breaker.observe(observation, &self.settings, now);
        inner.note(change);
    }

    /// What is to be done beside calling the relay.
    pub(crate) fn pending(&self) -> Pending {
        let mut inner = self.inner.lock();
        Pending { has_unwritten: !inner.unwritten.is_empty(), hasten: inner.hasten.take() }
    }

    /// Writes what changed to the log. What could not be written is written next time.
    pub async fn write(&self, manage: &Manage, cause: &Cause) -> Result<(), JournalError> {
        let _writing = self.writing.lock().await;
        loop {
            let Some(change) = self.inner.lock().unwritten.front().cloned() else { return Ok(()) };
            let event = RelayBreakerChanged {
                relay: self.relay.clone(),
                from: change.from,
                to: change.to,
                reason: change.reason,
                until: change.until,
            };
            match manage.change_breaker(cause, event.clone()).await {
                Ok(_) => {
                    figures::breaker(&self.relay, event.to);
                    tracing::info!(relay = %self.relay, to = ?event.to, reason = event.reason, "breaker changed");
                }
                // Another process drives this relay too, and was first.
                Err(ManageError::Refused(refusal)) => {
                    tracing::warn!(relay = %self.relay, %refusal, "breaker")
                }
                Err(ManageError::Journal(error)) => return Err(error),
            }
            self.inner.lock().unwritten.pop_front();
        }
    }
}
