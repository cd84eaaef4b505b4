//! The circuit breaker of a relay as its hands share it: fed by answers, its changes written to the log.

use chrono::{DateTime, Utc};
use kite_commands::manage::{Manage, ManageError};
use kite_commands::{Cause, Journal, JournalError};
use kite_domain::breaker::{Breaker, BreakerChange, BreakerSettings, Observation, Permit};
use kite_domain::event::Event;
use kite_domain::relay::{BreakerPhase, RelayBreakerChanged, stream};
use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use std::collections::VecDeque;

use crate::figures;

/// A breaker, and the changes of it that are not in the log yet.
pub struct BreakerGuard {
    relay: RelayId,
    settings: BreakerSettings,
    inner: Mutex<Inner>,
    /// Held while writing, so that changes are written in order and once.
    writing: tokio::sync::Mutex<()>,
}

struct Inner {
    breaker: Breaker,
    unwritten: VecDeque<BreakerChange>,
}

impl BreakerGuard {
    /// A breaker that passes.
    pub fn new(relay: RelayId, settings: BreakerSettings, now: DateTime<Utc>) -> Self {
        let inner = Inner { breaker: Breaker::new(now), unwritten: VecDeque::new() };
        Self { relay, settings, inner: Mutex::new(inner), writing: tokio::sync::Mutex::default() }
    }

    /// The breaker as the log left it, with empty counters.
    pub async fn restore(
        relay: RelayId,
        settings: BreakerSettings,
        journal: &Journal,
    ) -> Result<Self, JournalError> {
        let guard = Self::new(relay, settings, journal.now());
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
                guard.inner.lock().breaker.apply(&change);
            }
        }
        Ok(guard)
    }

    /// Lets time pass, and answers where the breaker stands and until when it is tripped.
    pub fn tick(&self, now: DateTime<Utc>) -> (BreakerPhase, Option<DateTime<Utc>>) {
        let mut inner = self.inner.lock();
        let change = inner.breaker.tick(now);
        inner.unwritten.extend(change);
        (inner.breaker.phase(), inner.breaker.due_at())
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
        let change = inner.breaker.observe(observation, &self.settings, now);
        inner.unwritten.extend(change);
    }

    /// Whether [`BreakerGuard::write`] has something to do.
    pub fn has_unwritten(&self) -> bool {
        !self.inner.lock().unwritten.is_empty()
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
