//! Several processes at one relay, over one log.

use futures::FutureExt;
use kite_commands::Journal;
use kite_commands::directory::Directory;
use kite_commands::event_store::MemoryEventStore;
use kite_commands::lease::{InProcessLeases, LeaseHolder, Leases, TERM};
use kite_commands::manage::Manage;
use kite_domain::relay::RelayUnattended;
use std::collections::BTreeSet;

use super::*;
use crate::lanes::{InProcessQueue, QueueLimits};
use crate::publisher::Publisher;
use crate::queue::{JobKind, Taken, Want, WantedLanes};
use crate::worker::testing::Script;

struct Ground {
    clock: Arc<ManualClock>,
    store: Arc<MemoryEventStore>,
    leases: Arc<dyn Leases>,
}

impl Ground {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let leases = Arc::new(InProcessLeases::new(clock.clone(), TERM));
        Self { clock, store: Arc::new(MemoryEventStore::new()), leases }
    }

    /// What another process writes, which calls nobody.
    fn clerk(&self) -> Manage {
        let journal = Journal::new(self.store.clone(), self.clock.clone(), self.clock.clone());
        Manage::new(journal.of_node("clerk").shared(), Directory::default(), Arc::new(|| [1; 32]))
    }

    /// A process that calls what the script answers.
    async fn process(&self, name: &str, profile: &RelayProfile) -> (World, Arc<Script>) {
        let script = Arc::new(Script::default());
        let holder = LeaseHolder::new(self.leases.clone(), name, self.clock.clone());
        let world = World::with_queue(
            Arc::new(InProcessQueue::new(QueueLimits::default())),
            holder,
            self.clock.clone(),
            self.store.clone(),
            vec![profile.clone()],
            script.clone(),
            RelaySettings::default(),
        )
        .await;
        (world, script)
    }
}

fn sent(script: &Script) -> Vec<kite_domain::ids::AttemptReference> {
    let alpha = script.relay("alpha");
    let calls = alpha.calls.lock();
    calls.iter().flatten().map(|message| message.reference).collect()
}

#[tokio::test]
async fn two_processes_share_a_relays_rate_and_each_message_is_handed_over_once() {
    let ground = Ground::new();
    let profile =
        RelayProfile { calls_in_flight_max: 8, rate_parts_per_second: Some(80), ..profile("alpha") };
    let (mut one, by_one) = ground.process("one", &profile).await;
    let (mut other, by_other) = ground.process("other", &profile).await;
    let lot = one.send(Sent { to: numbers(900), ..Sent::default() }).await;
    let (mut most, mut before) = (0, 0);
    for _ in 0..40 {
        for _ in 0..10 {
            one.settle().await;
            other.settle().await;
            ground.clock.advance(TimeDelta::milliseconds(100));
        }
        let all = sent(&by_one).len() + sent(&by_other).len();
        most = most.max(all - before);
        before = all;
    }
    assert!(one.messages(lot).await.iter().all(|message| state(message) == AttemptState::Accepted));
    let (by_one, by_other) = (sent(&by_one), sent(&by_other));
    // One begins alone, and both go for the same lot: what one finds done by the other it has been charged for.
    assert!(by_one.len() > 200 && by_other.len() > 200, "{} and {}", by_one.len(), by_other.len());
    let all: BTreeSet<_> = by_one.iter().chain(&by_other).copied().collect();
    assert_eq!((all.len(), by_one.len() + by_other.len()), (900, 900), "each of them once");
    assert!(most <= 80 + 20, "{most} in a second");
}

#[tokio::test]
async fn a_process_without_a_share_calls_nobody_and_goes_on_when_the_other_has_left() {
    let ground = Ground::new();
    let (mut one, by_one) = ground.process("one", &profile("alpha")).await;
    let (mut other, by_other) = ground.process("other", &profile("alpha")).await;
    let first = one.send(Sent { to: numbers(3), ..Sent::default() }).await;
    other.settle().await;
    assert!(sent(&by_other).is_empty(), "the relay takes one call at a time");
    one.settle().await;
    assert_eq!(sent(&by_one).len(), 3);
    assert!(one.messages(first).await.iter().all(|message| state(message) == AttemptState::Accepted));
    for hired in &mut one.workers {
        hired.worker.retire().await;
    }
    let second = one.send(Sent { to: numbers(2), ..Sent::default() }).await;
    for _ in 0..4 {
        other.settle().await;
        ground.clock.advance(TimeDelta::seconds(1));
    }
    assert!(other.messages(second).await.iter().all(|message| state(message) == AttemptState::Accepted));
    assert_eq!(sent(&by_other).len(), 2);
}

/// Whoever comes across the intent of another process lets it have its time, and no longer.
#[tokio::test]
async fn an_intent_of_another_process_is_unanswered_only_after_its_time() {
    let ground = Ground::new();
    let (mut world, _) = ground.process("one", &profile("alpha")).await;
    let lot = world.send(Sent { to: numbers(1), ..Sent::default() }).await;
    let answer_by = start() + TimeDelta::seconds(20);
    let intent = MessagesSubmitted { answer_by: Some(answer_by), holder: Some("other".into()), ..intent() };
    append(&world.journal, &lot.stream(), vec![intent.into()], Expected::Version(2)).await;
    for (at, is_believed_alive) in [
        (start(), true),
        (answer_by - TimeDelta::milliseconds(1), true),
        (answer_by + TimeDelta::milliseconds(1), false),
    ] {
        ground.clock.set(at);
        world.feeder.feed(lot).await.unwrap();
        world.settle().await;
        let is_submitted = state(&world.messages(lot).await[0]) == AttemptState::Submitted;
        assert_eq!(is_submitted, is_believed_alive, "at {at}");
    }
}

/// An operator says at another process what a code means while the relay is about to answer with it.
#[tokio::test]
async fn an_answer_is_judged_by_what_another_process_wrote_during_the_call() {
    let ground = Ground::new();
    let (mut world, script) = ground.process("one", &profile("alpha")).await;
    let (clerk, clock) = (ground.clerk(), ground.clock.clone());
    script.relay("alpha").reply(move |messages| {
        clock.advance(TimeDelta::seconds(2));
        let classed = CodeClassed {
            relay: relay("alpha"),
            code: "9876".into(),
            class: FailureClass::RelayFault,
            billable: false,
            text: None,
        };
        let written = clerk.class_code(&Cause::new("admin", Uuid::nil()), classed).now_or_never();
        written.expect("memory never waits").unwrap();
        SubmitAnswer::all(messages.len(), refused("9876"))
    });
    let lot = world.send(Sent::default()).await;
    world.settle().await;
    let told = world.events(lot).await;
    let refused = told.iter().find_map(|event| match event {
        Event::RelayResponded(responded) => responded.refused.first().cloned(),
        _ => None,
    });
    assert_eq!(refused.expect("it is refused").class, FailureClass::RelayFault);
}

/// The process that said that nobody works for a relay may be gone, and have been the only one without workers.
#[tokio::test]
async fn a_steward_says_that_somebody_works_for_a_relay_of_which_another_process_said_that_nobody_does() {
    let ground = Ground::new();
    let (mut world, _) = ground.process("one", &profile("alpha")).await;
    world.settle().await;
    ground.clock.advance(TimeDelta::seconds(30));
    let left = RelayUnattended {
        relay: relay("alpha"),
        cause: UnattendedCause::Unusable,
        reason: "of the other".to_owned(),
        since: start(),
    };
    ground.clerk().leave_relay(&Cause::new("clerk", Uuid::nil()), left).await.unwrap();
    let is_steward = |hired: &&mut Hired| hired.worker.name() == "steward:alpha";
    let steward = world.workers.iter_mut().find(is_steward).expect("each relay has one");
    assert_eq!(steward.worker.step().await.unwrap(), Step::Worked);
    let stream = kite_domain::relay::stream(&relay("alpha"));
    let told = world.journal.read_stream(&stream, 0).await.unwrap();
    assert!(matches!(told.last().unwrap().event, Event::RelayAttended(_)), "{:?}", told.last());
}

#[tokio::test]
async fn a_process_looks_at_the_intents_from_before_it_and_leaves_later_ones_to_their_writers() {
    let (mut world, _) = World::scripted(vec![profile("alpha")]).await;
    let (before, after) = (world.send(Sent::default()).await, world.send(Sent::default()).await);
    let intend = async |lot: LotId| {
        append(&world.journal, &lot.stream(), vec![intent().into()], Expected::Version(2)).await;
    };
    intend(before).await;
    let mut publisher = Publisher::new(world.feeder.clone(), 0);
    intend(after).await;
    while publisher.step().await.unwrap() == Step::Worked {}
    let want = |now| Want { messages_max: 100, lanes: WantedLanes::All, now };
    let mut unanswered = Vec::new();
    while let Taken::Lease(lease) = world.queue.take(&relay("alpha"), want(start())).await.unwrap() {
        unanswered.extend(lease.jobs.into_iter().filter(|job| job.kind == JobKind::Unanswered));
    }
    assert_eq!(unanswered.iter().map(|job| job.lot).collect::<Vec<_>>(), [before]);
}
