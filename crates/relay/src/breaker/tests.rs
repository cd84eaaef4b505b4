//! Several processes over one log, each with its own directory, which sees only what it is made to see.

use BreakerPhase::{Passing, Probing, Tripped};
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::event_store::MemoryEventStore;
use kite_commands::manage::Manage;
use kite_commands::{Awaited, Cause, Clock, Journal};
use kite_domain::breaker::{BreakerSettings, Observation, Permit};
use kite_domain::event::Event;
use kite_domain::relay::{BreakerPhase, stream};
use std::sync::Arc;
use uuid::Uuid;

use super::BreakerGuard;
use crate::queue::Hasten;
use crate::worker::testing::{profile, relay, start};

const LOST: Observation = Observation::NoAnswer { messages: 1 };

fn worked(messages: u32) -> Observation {
    Observation::Answered { worked: messages, faulted: 0 }
}

fn cause() -> Cause {
    Cause::new("test", Uuid::nil())
}

/// What the processes share.
struct Log {
    store: Arc<MemoryEventStore>,
    clock: Arc<ManualClock>,
}

impl Log {
    /// With a relay alpha.
    async fn new() -> Self {
        let log = Self { store: Arc::default(), clock: Arc::new(ManualClock::at(start())) };
        let manage = Manage::new(log.journal(), Directory::default(), Arc::new(|| [1; 32]));
        manage.define_relay(&cause(), profile("alpha")).await.unwrap();
        log
    }

    fn journal(&self) -> Journal {
        Journal::new(self.store.clone(), self.clock.clone(), self.clock.clone())
    }

    async fn process(&self) -> Process {
        let (journal, directory) = (self.journal(), Directory::default());
        directory.catch_up(&journal).await.unwrap();
        let settings = BreakerSettings::default();
        let breaker =
            BreakerGuard::new(relay("alpha"), settings, Awaited::default(), directory.clone(), self.now());
        let manage = Manage::new(journal.clone(), directory.clone(), Arc::new(|| [1; 32]));
        Process { journal, directory, manage, breaker, clock: self.clock.clone() }
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn wait(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    async fn phases(&self) -> Vec<BreakerPhase> {
        let told = self.journal().read_stream(&stream(&relay("alpha")), 0).await.unwrap();
        let phase = |event| match event {
            Event::RelayBreakerChanged(changed) => Some(changed.to),
            _ => None,
        };
        told.into_iter().filter_map(|told| phase(told.event)).collect()
    }
}

struct Process {
    journal: Journal,
    directory: Directory,
    manage: Manage,
    breaker: BreakerGuard,
    clock: Arc<ManualClock>,
}

impl Process {
    async fn catch_up(&self) {
        self.directory.catch_up(&self.journal).await.unwrap();
    }

    fn hear(&self, observation: Observation) {
        let now = self.clock.now();
        self.breaker.observe(observation, self.breaker.phase_number(now), now);
    }

    async fn write(&self) {
        self.breaker.write(&self.manage, &cause()).await.unwrap();
    }

    async fn trips(&self) {
        (0..5).for_each(|_| self.hear(LOST));
        self.write().await;
    }

    async fn tick(&self) {
        self.breaker.tick(self.clock.now());
        self.write().await;
    }

    fn phase(&self) -> BreakerPhase {
        self.breaker.phase(self.clock.now())
    }

    fn permit(&self, wanted: u32) -> Permit {
        self.breaker.permit(wanted, self.clock.now())
    }
}

#[tokio::test]
async fn what_one_process_finds_out_all_follow() {
    let log = Log::new().await;
    let (one, other) = (log.process().await, log.process().await);
    one.trips().await;
    assert_eq!(other.phase(), Passing, "it cannot know yet");
    other.catch_up().await;
    let until = log.now() + TimeDelta::seconds(5);
    assert_eq!((other.phase(), other.permit(1)), (Tripped, Permit::NotBefore(until)));
    assert_eq!(log.process().await.permit(1), Permit::NotBefore(until), "nor does one that starts now call");
    log.wait(5);
    other.tick().await;
    one.catch_up().await;
    assert_eq!((one.phase(), other.phase()), (Probing, Probing));
    one.hear(worked(20));
    one.write().await;
    other.catch_up().await;
    assert_eq!((other.phase(), other.permit(100)), (Passing, Permit::All));
    assert_eq!(other.breaker.hasten(), Some(Hasten::Everything), "what waits there too");
    assert_eq!(log.phases().await, [Tripped, Probing, Passing]);
}

#[tokio::test]
async fn two_that_find_out_the_same_at_once_say_it_once() {
    let log = Log::new().await;
    let (one, other) = (log.process().await, log.process().await);
    one.trips().await;
    log.wait(1);
    other.trips().await;
    assert_eq!(other.permit(1), one.permit(1), "until when is what the log says");
    log.wait(4);
    tokio::join!(one.tick(), other.tick());
    assert_eq!((one.phase(), other.phase()), (Probing, Probing));
    assert_eq!(log.phases().await, [Tripped, Probing]);
    one.hear(LOST);
    one.write().await;
    let twice = log.now() + TimeDelta::seconds(10);
    other.hear(LOST);
    other.write().await;
    assert_eq!(log.phases().await, [Tripped, Probing, Tripped]);
    assert_eq!((one.permit(1), other.permit(1)), (Permit::NotBefore(twice), Permit::NotBefore(twice)));
}

#[tokio::test]
async fn who_has_not_seen_the_last_trip_lifts_nothing() {
    let log = Log::new().await;
    let (one, stale) = (log.process().await, log.process().await);
    one.trips().await;
    log.wait(5);
    stale.catch_up().await;
    stale.tick().await;
    one.catch_up().await;
    one.hear(LOST);
    one.write().await;
    // It was paused with its probes in progress.
    stale.hear(worked(20));
    assert_eq!(stale.permit(1), Permit::NotBefore(log.now()), "what is not in the log opens nothing");
    stale.write().await;
    assert_eq!((stale.phase(), log.phases().await), (Tripped, vec![Tripped, Probing, Tripped]));
    assert!(matches!(stale.permit(1), Permit::NotBefore(until) if until > log.now()));
    assert_eq!(stale.breaker.hasten(), None);
}

#[tokio::test]
async fn a_call_says_nothing_of_a_phase_that_began_after_it() {
    let log = Log::new().await;
    let (one, other) = (log.process().await, log.process().await);
    let before = other.breaker.phase_number(log.now());
    one.trips().await;
    log.wait(5);
    one.tick().await;
    other.catch_up().await;
    other.breaker.observe(LOST, before, log.now());
    assert_eq!(other.phase(), Probing, "a call from before the trip is no probe");
    other.breaker.observe(LOST, other.breaker.phase_number(log.now()), log.now());
    assert_eq!(other.phase(), Tripped);
}

#[tokio::test]
async fn what_else_happens_to_a_relay_keeps_no_change_from_the_log() {
    let log = Log::new().await;
    let (one, other) = (log.process().await, log.process().await);
    other.manage.define_relay(&cause(), profile("alpha")).await.unwrap();
    one.trips().await;
    assert_eq!(log.phases().await, [Tripped]);
}

#[tokio::test]
async fn of_a_relay_that_is_not_in_the_log_nothing_is_left_to_be_written() {
    let log = Log::new().await;
    let one = log.process().await;
    let (settings, awaited) = (BreakerSettings::default(), Awaited::default());
    let breaker = BreakerGuard::new(relay("gone"), settings, awaited, one.directory.clone(), log.now());
    (0..5).for_each(|_| breaker.observe(LOST, breaker.phase_number(log.now()), log.now()));
    assert!(breaker.has_unwritten());
    breaker.write(&one.manage, &cause()).await.unwrap();
    assert!(!breaker.has_unwritten());
}
