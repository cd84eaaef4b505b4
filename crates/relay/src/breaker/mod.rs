//! The circuit breaker of a relay as the workers of this process share it, and as other processes see it.
//!
//! Each process collects its own evidence, but the state of the breaker is what the log says. So evidence leads to a
//! *proposal*: it is appended if nobody has changed the breaker since the change that the proposal is based on.
//! Otherwise it is dropped, and the state in the log is taken over and judged again.
//!
//! - A trip takes effect here at once. A change that lets messages out again takes effect when it is in the log:
//!   until then nothing is handed over.
//! - A change by another process is followed at the next look, as soon as the directory of this process has it.
//! - The result of a call that began before the current phase says nothing about the phase.

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::directory::Directory;
use kite_commands::manage::{Manage, ManageError};
use kite_commands::{Awaited, Cause, JournalError};
use kite_domain::breaker::{
    Awaiting, Breaker, BreakerChange, BreakerSettings, LoggedBreaker, Observation, Permit, Recovery,
};
use kite_domain::mutation::{self, Mutation};
use kite_domain::relay::{BreakerPhase, RelayBreakerChanged};
use kite_domain::slug::RelayId;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;

use crate::metrics;
use crate::queue::Hasten;

/// How late waiting messages may be looked at.
const LOOKED_AT_LATE: TimeDelta = TimeDelta::seconds(5);

/// A breaker, and the changes of it that are not in the log yet.
pub struct BreakerGuard {
    relay: RelayId,
    awaited: Awaited,
    directory: Directory,
    inner: Mutex<Inner>,
    /// Held while writing, so that each change is written once and in order.
    writing: tokio::sync::Mutex<()>,
}

struct Inner {
    settings: BreakerSettings,
    /// As the log has it, with what is proposed.
    breaker: Breaker,
    /// The version of the change in the log that the first proposal rests on; 0: there is none.
    known: u64,
    proposals: VecDeque<BreakerChange>,
    /// How many phases there have been in this process.
    phases: u64,
    recovery: Recovery,
    /// What may be looked at before its time, because the relay is back.
    hasten: Option<Hasten>,
    /// The last change.
    changed: Option<(DateTime<Utc>, String)>,
}

impl Inner {
    fn propose(&mut self, change: Option<BreakerChange>) {
        let Some(change) = change else { return };
        self.phases += 1;
        self.changed = Some((change.at, change.reason.clone()));
        self.proposals.push_back(change);
    }

    /// Takes over what the log says, if that is newer. Proposals based on the earlier state are void.
    fn follow(&mut self, logged: &LoggedBreaker, now: DateTime<Utc>) {
        if logged.version() <= self.known {
            return;
        }
        self.known = logged.version();
        if !mutation::is_active(Mutation::BreakerNotFollowed) {
            self.take_over(logged, now);
        }
    }

    fn take_over(&mut self, logged: &LoggedBreaker, now: DateTime<Utc>) {
        let before = self.proposals.front().map_or(self.breaker.phase(), |change| change.from);
        self.proposals.clear();
        self.phases += 1;
        self.breaker = logged.seen_at(now);
        let changed = logged.changed();
        self.changed = Some((changed.at, changed.reason.clone()));
        if before != self.breaker.phase() {
            self.reaches(self.breaker.phase());
        }
    }

    /// It is in the log that the breaker is there.
    fn reaches(&mut self, phase: BreakerPhase) {
        if phase == BreakerPhase::Passing {
            self.hasten = Some(Hasten::Everything);
        }
    }

    /// The first proposal was appended at this version after `known`.
    fn written(&mut self, known: u64, version: u64) {
        // Else it was taken over from the log meanwhile.
        if self.known == known
            && let Some(change) = self.proposals.pop_front()
        {
            self.known = version;
            self.reaches(change.to);
        }
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone)]
pub(crate) struct BreakerStanding {
    pub(crate) phase: BreakerPhase,
    pub(crate) changed: Option<(DateTime<Utc>, String)>,
    pub(crate) probes_from: Option<DateTime<Utc>>,
}

impl BreakerGuard {
    /// The breaker as the directory has it, with empty counters; one that never changed passes.
    pub fn new(
        relay: RelayId,
        settings: BreakerSettings,
        awaited: Awaited,
        directory: Directory,
        now: DateTime<Utc>,
    ) -> Self {
        let mut inner = Inner {
            settings,
            breaker: Breaker::new(now),
            known: 0,
            proposals: VecDeque::new(),
            phases: 0,
            recovery: Recovery::default(),
            hasten: None,
            changed: None,
        };
        if let Some(logged) = directory.snapshot().breakers.get(&relay) {
            inner.known = logged.version();
            inner.take_over(logged, now);
        }
        Self { relay, awaited, directory, inner: Mutex::new(inner), writing: tokio::sync::Mutex::default() }
    }

    /// Its current state, with what the directory has by now.
    fn follow(&self, now: DateTime<Utc>) -> MutexGuard<'_, Inner> {
        let directory = self.directory.snapshot();
        let mut inner = self.inner.lock();
        if let Some(logged) = directory.breakers.get(&self.relay) {
            inner.follow(logged, now);
        }
        inner
    }

    /// Lets time pass: when a trip is over, which may be sooner while something urgent waits, it proposes to probe.
    pub fn tick(&self, now: DateTime<Utc>) {
        let awaiting = self.awaited.of(&self.relay, now);
        let mut inner = self.follow(now);
        let change = inner.breaker.tick_awaited(&awaiting, now);
        inner.propose(change);
    }

    /// These messages wait for the relay, and are looked at again at `until`.
    pub(crate) fn note_awaiting(&self, waiting: Awaiting, until: DateTime<Utc>, now: DateTime<Utc>) {
        self.awaited.note(&self.relay, waiting, until + LOOKED_AT_LATE, now);
    }

    /// Its current phase, and until when it is tripped, as long as nothing more urgent starts to wait.
    pub(crate) fn standing(&self, now: DateTime<Utc>) -> BreakerStanding {
        let awaiting = self.awaited.of(&self.relay, now);
        let inner = self.follow(now);
        BreakerStanding {
            phase: inner.breaker.phase(),
            changed: inner.changed.clone(),
            probes_from: inner.breaker.probes_from(&awaiting, now),
        }
    }

    /// Where it stands now.
    pub fn phase(&self, now: DateTime<Utc>) -> BreakerPhase {
        self.follow(now).breaker.phase()
    }

    /// Asks to hand over this many messages now. None may go while a change is not in the log.
    pub fn permit(&self, wanted: u32, now: DateTime<Utc>) -> Permit {
        let mut inner = self.follow(now);
        if !inner.proposals.is_empty() {
            return Permit::NotBefore(now);
        }
        let Inner { breaker, settings, .. } = &mut *inner;
        breaker.permit(wanted, settings, now)
    }

    /// Gives back what was permitted and not handed over.
    pub fn give_back(&self, messages: u32) {
        self.inner.lock().breaker.give_back(messages);
    }

    /// The number of the phase: a call that begins now is evidence about this phase and no other.
    pub fn phase_number(&self, now: DateTime<Utc>) -> u64 {
        self.follow(now).phases
    }

    /// Records the result of a call that began in the phase of this number.
    pub fn observe(&self, observation: Observation, phase_number: u64, now: DateTime<Utc>) {
        let mut inner = self.follow(now);
        if inner.recovery.observe(&observation, now) {
            inner.hasten = inner.hasten.max(Some(Hasten::Questions));
        }
        if phase_number != inner.phases {
            return;
        }
        let Inner { breaker, settings, .. } = &mut *inner;
        let change = breaker.observe(observation, settings, now);
        inner.propose(change);
    }

    /// Whether something is to be written: [`BreakerGuard::write`].
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.inner.lock().proposals.is_empty()
    }

    /// What may be looked at before its time, because the relay is back. Returned only once.
    pub(crate) fn hasten(&self) -> Option<Hasten> {
        self.inner.lock().hasten.take()
    }

    /// Writes the proposals to the log. What could not be written is written next time; a proposal that the log has
    /// overtaken is dropped.
    pub async fn write(&self, manage: &Manage, cause: &Cause) -> Result<(), JournalError> {
        let _writing = self.writing.lock().await;
        loop {
            let (change, known) = {
                let inner = self.inner.lock();
                let Some(change) = inner.proposals.front() else { return Ok(()) };
                (change.clone(), inner.known)
            };
            let event = RelayBreakerChanged {
                relay: self.relay.clone(),
                from: change.from,
                to: change.to,
                reason: change.reason,
                until: change.until,
            };
            match manage.change_breaker(cause, event.clone(), known).await {
                Ok(done) => {
                    metrics::breaker(&self.relay, event.to);
                    tracing::info!(relay = %self.relay, to = ?event.to, reason = event.reason, "breaker changed");
                    self.inner.lock().written(known, done.value);
                }
                Err(ManageError::Refused(refusal)) => {
                    tracing::info!(relay = %self.relay, to = ?event.to, %refusal, "breaker not changed");
                    self.give_up(known, change.at);
                }
                Err(ManageError::Journal(error)) => return Err(error),
            }
        }
    }

    /// The proposals on this version came too late, or the relay is gone.
    fn give_up(&self, known: u64, now: DateTime<Utc>) {
        let mut inner = self.follow(now);
        // Else it was taken over from the log meanwhile.
        if inner.known == known || mutation::is_active(Mutation::BreakerNotFollowed) {
            inner.proposals.clear();
        }
    }
}

#[cfg(test)]
mod tests;
