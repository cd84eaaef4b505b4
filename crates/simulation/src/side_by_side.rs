//! Situations that need two processes: parts of both, side by side over one log, in a written order. Seeds reach them
//! once in some hundreds (`--nodes`); here they are shown at once.

use chrono::TimeDelta;
use futures::executor::block_on;
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::manage::Manage;
use kite_commands::{Awaited, Cause, Clock, Journal, JournalError, describe};
use kite_domain::breaker::{BreakerSettings, Observation, Permit};
use kite_domain::relay::BreakerPhase;
use kite_domain::slug::RelayId;
use kite_event_store::MemoryEventStore;
use kite_relay::BreakerGuard;
use std::sync::Arc;

use crate::check::Checked;
use crate::setting::{self, profile, traits_of};

/// One of two processes that work for the same relay.
struct Process {
    journal: Journal,
    directory: Directory,
    manage: Manage,
    breaker: BreakerGuard,
}

impl Process {
    async fn start(journal: Journal, relay: &RelayId) -> Result<Self, JournalError> {
        let directory = Directory::default();
        directory.catch_up(&journal).await?;
        let (settings, awaited) = (BreakerSettings::default(), Awaited::default());
        let breaker = BreakerGuard::new(relay.clone(), settings, awaited, directory.clone(), journal.now());
        let manage = Manage::new(journal.clone(), directory.clone(), Arc::new(|| [7; 32]));
        Ok(Self { journal, directory, manage, breaker })
    }

    async fn hear(&self, observation: Observation, times: u32) -> Result<(), JournalError> {
        let now = self.journal.now();
        for _ in 0..times {
            self.breaker.observe(observation, self.breaker.phase_number(now), now);
        }
        self.write().await
    }

    async fn write(&self) -> Result<(), JournalError> {
        self.breaker.write(&self.manage, &cause()).await
    }

    async fn tick(&self) -> Result<(), JournalError> {
        self.directory.catch_up(&self.journal).await?;
        self.breaker.tick(self.journal.now());
        self.write().await
    }

    fn may_call(&self) -> bool {
        matches!(self.breaker.permit(1, self.journal.now()), Permit::All | Permit::Probes(_))
    }
}

fn cause() -> Cause {
    Cause::new("admin", uuid::Uuid::nil())
}

/// A process trips a relay: another, which has heard nothing bad of it, stops calling once it can have seen that, and continues
/// when the relay is back.
///
/// # Errors
/// What was wrong.
pub fn a_breaker_is_followed() -> Checked {
    match block_on(follow()) {
        Ok(answer) => answer,
        Err(error) => Err(describe(&error)),
    }
}

async fn follow() -> Result<Checked, JournalError> {
    const LOST: Observation = Observation::NoAnswer { messages: 1 };
    const WORKED: Observation = Observation::Answered { worked: 1, faulted: 0 };
    let clock = Arc::new(ManualClock::at(setting::start(720)));
    let journal = Journal::new(Arc::new(MemoryEventStore::new()), clock.clone(), clock.clone());
    let terms = profile(0, traits_of(1)[0]);
    let relay = terms.relay.clone();
    let one = Process::start(journal.clone(), &relay).await?;
    if let Err(error) = one.manage.define_relay(&cause(), terms).await {
        return Ok(Err(describe(&error)));
    }
    let (one, other) = (one, Process::start(journal, &relay).await?);
    let settings = BreakerSettings::default();
    one.hear(LOST, settings.failed_calls_in_a_row).await?;
    other.tick().await?;
    if other.may_call() {
        return Ok(Err(format!("{relay} is tripped in the log, and called by another process")));
    }
    clock.advance(TimeDelta::milliseconds(settings.back_off_first_ms as i64));
    for process in [&one, &other] {
        process.tick().await?;
    }
    one.hear(WORKED, settings.probe_successes).await?;
    other.tick().await?;
    let phase = other.breaker.phase(clock.now());
    Ok(match phase {
        BreakerPhase::Passing => Ok(()),
        BreakerPhase::Tripped | BreakerPhase::Probing => {
            Err(format!("{relay} passes in the log, and is {phase:?} for another process"))
        }
    })
}
