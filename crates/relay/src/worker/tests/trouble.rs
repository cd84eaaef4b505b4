//! Relays that are slow, silent, suspended or cannot be called.

use kite_commands::event_store::{Batch, BatchMode, EventStore, Metadata, NewEvent, StreamAppend};
use kite_domain::lot::{CONNECTION_LOST, MessagesFinished};
use kite_domain::policy::FailoverTerms;
use kite_domain::sender::SenderKind;
use kite_domain::text::MessageType;

use super::*;

#[tokio::test]
async fn a_rate_limit_pauses_the_relay_and_is_not_held_against_it() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    for _ in 0..20 {
        alpha.reply(|messages| SubmitAnswer {
            retry_after: Some(Duration::from_secs(3)),
            ..SubmitAnswer::all(messages.len(), not_taken(NotTaken::RateLimited))
        });
    }
    let lot = world.send(Sent::default()).await;
    assert_eq!(world.settle().await, Some(start() + TimeDelta::seconds(3)));
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Routed, "certainly not taken");
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(alpha.called(), 21);
    // Fifteen times the three seconds that it asks for; after that four.
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(15 * 3 + 5 * 4));
    let entry = world.directory.snapshot().relays.get(&relay("alpha")).unwrap().clone();
    assert_eq!(entry.breaker, BreakerPhase::Passing);
}

#[tokio::test]
async fn a_probe_that_is_too_many_does_not_hold_up_the_next() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    (0..5).for_each(|_| alpha.reply_all(not_taken(NotTaken::NoConnection)));
    alpha.reply(|messages| SubmitAnswer {
        retry_after: Some(Duration::from_secs(2)),
        ..SubmitAnswer::all(messages.len(), not_taken(NotTaken::RateLimited))
    });
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(alpha.called(), 7);
    let took = world.clock.now() - start();
    assert!(
        took < TimeDelta::seconds(20),
        "the breaker's 5 s and the relay's 2, not a probe given up: {took}"
    );
}

#[tokio::test]
async fn a_rate_that_the_relay_does_not_keep_is_lowered_and_comes_back() {
    let mut terms = profile("alpha");
    terms.rate_parts_per_second = Some(40);
    let (mut world, script) = World::scripted(vec![terms]).await;
    let alpha = script.relay("alpha");
    for _ in 0..3 {
        alpha.reply(|messages| SubmitAnswer {
            retry_after: Some(Duration::from_secs(1)),
            ..SubmitAnswer::all(messages.len(), not_taken(NotTaken::RateLimited))
        });
    }
    let lot = world.send(Sent { class: MessageClass::Ad, to: numbers(900), ..Sent::default() }).await;
    world.run_until("all sent", |message| state(message) == AttemptState::Accepted, lot).await;
    let sizes: Vec<usize> = alpha.calls.lock().iter().map(Vec::len).collect();
    assert_eq!(
        (sizes[0], sizes[1], sizes[3]),
        (8, 5, 2),
        "8 parts at once, 7 tenths of it, and so on: {sizes:?}"
    );
    assert_eq!(sizes.iter().rev().nth(1), Some(&8), "as agreed again: {sizes:?}");
    let took = world.clock.now() - start();
    assert!(took > TimeDelta::seconds(35), "900 parts at 34 a second would be 27 s: {took}");
}

/// How alpha's breaker changed, and why.
async fn changes(world: &World) -> Vec<(BreakerPhase, String)> {
    let told = world.journal.read_stream("relay-alpha", 0).await.unwrap();
    let change = |event| match event {
        Event::RelayBreakerChanged(changed) => Some((changed.to, changed.reason)),
        _ => None,
    };
    told.into_iter().filter_map(|told| change(told.event)).collect()
}

#[tokio::test]
async fn calls_without_an_answer_trip_the_breaker_and_what_waits_goes_elsewhere() {
    let mut alone = profile("alpha");
    alone.batch_max = 1;
    let (mut world, script) = World::scripted(vec![alone, profile("beta")]).await;
    let alpha = script.relay("alpha");
    for _ in 0..5 {
        alpha.reply_all(not_taken(NotTaken::NoConnection));
    }
    let lot = world.send(Sent { to: numbers(8), fallbacks: &["beta"], ..Sent::default() }).await;
    world.run_until("beta takes them", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(alpha.called(), 5);
    let entry = world.directory.snapshot().relays.get(&relay("alpha")).unwrap().clone();
    assert_eq!(entry.breaker, BreakerPhase::Tripped);
    assert!(world.messages(lot).await.iter().all(|message| message.attempts.len() == 2));
    // Nobody else can carry this one: it waits for the probe, and is one.
    let waiting = world.send(Sent { to: numbers(30), ..Sent::default() }).await;
    world.run_until("alpha is back", |message| state(message) == AttemptState::Accepted, waiting).await;
    assert!(alpha.calls.lock().iter().all(|call| call.len() == 1));
    let phases = changes(&world).await;
    assert_eq!(
        phases.iter().map(|(to, _)| *to).collect::<Vec<_>>(),
        [BreakerPhase::Tripped, BreakerPhase::Probing, BreakerPhase::Passing]
    );
    assert_eq!(phases[0].1, "5 calls in a row without an answer; no messages for 5 s");
}

#[tokio::test]
async fn a_suspended_relay_is_not_called() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let cause = Cause::new("test", Uuid::from_u128(1));
    world.manage.suspend_relay(&cause, &relay("alpha"), "contract".to_owned()).await.unwrap();
    let moved = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    let stays = world.send(Sent::default()).await;
    world.settle().await;
    assert_eq!(state(&world.messages(moved).await[0]), AttemptState::Accepted);
    assert_eq!(state(&world.messages(stays).await[0]), AttemptState::Routed);
    assert_eq!((script.relay("alpha").called(), script.relay("beta").called()), (0, 1));
    world.manage.resume_relay(&cause, &relay("alpha")).await.unwrap();
    world.run_until("it goes out", |message| state(message) == AttemptState::Accepted, stays).await;
}

/// Gives no client for a relay whose key no header can carry.
struct Choosy(Arc<Script>);

impl Connector for Choosy {
    fn client(&self, profile: &RelayProfile) -> Result<Arc<dyn RelayClient>, ConnectorError> {
        match profile.unusable().into_iter().next() {
            Some(fault) => Err(ConnectorError { relay: profile.relay.clone(), source: fault.into() }),
            None => self.0.client(profile),
        }
    }
}

async fn rehire(world: &mut World) {
    world.workers = world.relays.reconcile().await;
    world.settle().await;
}

#[tokio::test]
async fn a_relay_that_cannot_be_called_as_it_was_once_defined_gives_away_what_waits_for_it() {
    let script = Arc::new(Script::default());
    let mut unusable = profile("alpha");
    unusable.credentials.api_key = Some("k\n".to_owned());
    let profiles = vec![unusable, profile("beta")];
    let mut world = World::new(profiles, Arc::new(Choosy(script.clone())), RelaySettings::default()).await;
    let moved = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    let stays = world.send(Sent::default()).await;
    world.settle().await;
    let entry = |world: &World| world.directory.snapshot().relays.get(&relay("alpha")).cloned().unwrap();
    let left = entry(&world).unattended.expect("it is said");
    assert_eq!(left.cause, UnattendedCause::Unusable);
    assert!(left.reason.contains("credentials.api_key"), "{}", left.reason);
    assert_eq!(state(&world.messages(moved).await[0]), AttemptState::Accepted);
    let told = world.events(moved).await;
    let reason = told.iter().find_map(|event| match event {
        Event::MessagesRouted(routed) => Some(routed.routes[0].reason.clone()),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("next relay after relay_fault (relay_unattended)"));
    assert_eq!(state(&world.messages(stays).await[0]), AttemptState::Routed, "nobody else can");
    let cause = Cause::new("test", Uuid::from_u128(1));
    world.manage.define_relay(&cause, profile("alpha")).await.unwrap();
    rehire(&mut world).await;
    assert_eq!(entry(&world).unattended, None);
    world.run_until("it goes out", |message| state(message) == AttemptState::Accepted, stays).await;
    assert_eq!((script.relay("alpha").called(), script.relay("beta").called()), (1, 1));
}

#[tokio::test]
async fn a_relay_whose_workers_end_again_and_again_is_given_nothing_and_the_others_go_on() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    for _ in 0..6 {
        script.relay("alpha").reply(|_| panic!("no such case"));
    }
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    script.relay("alpha").status_all(Standing::NotFound);
    world
        .run_until("it is delivered all the same", |message| state(message) == AttemptState::Accepted, lot)
        .await;
    let waiting = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    world.run_until("so is another", |message| state(message) == AttemptState::Accepted, waiting).await;
}

/// A relay that is silent until then: calls and questions.
fn silent_until(script: &Script, clock: &Arc<ManualClock>, until_s: i64) {
    let until = start() + TimeDelta::seconds(until_s);
    let alpha = script.relay("alpha");
    for _ in 0..200 {
        let clock = clock.clone();
        alpha.statuses.lock().push_back(Box::new(move |asked| match clock.now() < until {
            true => Err(CallFailed {
                reason: "no answer".into(),
                retry_after: None,
                is_rate_limit: RateLimit::No,
            }),
            false => Ok(vec![Standing::Accepted { relay_reference: None }; asked.len()]),
        }));
    }
}

#[tokio::test]
async fn a_relay_that_was_down_for_37_seconds_is_asked_soon_about_what_is_worth_something() {
    for (class, answered_s) in [(MessageClass::Otp, 41), (MessageClass::Notice, 66), (MessageClass::Ad, 336)]
    {
        let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
        script.relay("alpha").reply_all(lost());
        silent_until(&script, &world.clock, 37);
        let lot = world.send(Sent { class, ..Sent::default() }).await;
        world.run_until("answered", |message| state(message) == AttemptState::Accepted, lot).await;
        assert_eq!(world.clock.now(), start() + TimeDelta::seconds(answered_s), "{class:?}");
    }
}

#[tokio::test]
async fn a_relay_that_answers_again_is_asked_at_once_about_everything() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    script.relay("alpha").reply_all(lost());
    silent_until(&script, &world.clock, 37);
    let ad = world.send(Sent { class: MessageClass::Ad, ..Sent::default() }).await;
    world.run_until("asked three times", |_| world_is_at(&script, 3), ad).await;
    world.clock.set(start() + TimeDelta::seconds(50));
    let events = world.events(ad).await.len();
    let notice = world.send(Sent::default()).await;
    world.settle().await;
    assert_eq!(state(&world.messages(notice).await[0]), AttemptState::Accepted);
    assert_eq!(state(&world.messages(ad).await[0]), AttemptState::Accepted, "not five minutes later");
    assert_eq!(world.events(ad).await.len(), events + 1, "one answer, and no word of an early question");
}

fn world_is_at(script: &Script, questions: usize) -> bool {
    script.relay("alpha").questions.lock().len() >= questions
}

#[tokio::test]
async fn a_tripped_relay_is_looked_at_sooner_while_a_password_waits() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let down = || MessageAnswer::NotTaken { why: NotTaken::NoConnection, reason: "refused".into() };
    for _ in 0..400 {
        script.relay("alpha").reply_all(down());
    }
    let ad = world.send(Sent { class: MessageClass::Ad, ..Sent::default() }).await;
    let probes_in = |world: &World, seconds: i64| world.clock.now() + TimeDelta::seconds(seconds);
    // Long enough for pauses of five minutes.
    let mut end = probes_in(&world, 1_200);
    while world.clock.now() < end {
        let next = world.settle().await;
        let now = world.clock.now();
        world.clock.set(next.unwrap_or(end).clamp(now + TimeDelta::milliseconds(1), end));
    }
    let before = script.relay("alpha").called();
    assert!(before < 20, "{before} calls for an advertisement");
    let password = world
        .send(Sent { class: MessageClass::Otp, lifetime: TimeDelta::seconds(1_800), ..Sent::default() })
        .await;
    end = probes_in(&world, 61);
    while world.clock.now() < end {
        let next = world.settle().await;
        let now = world.clock.now();
        world.clock.set(next.unwrap_or(end).clamp(now + TimeDelta::milliseconds(1), end));
    }
    let probes = script.relay("alpha").called() - before;
    assert!((11..=14).contains(&probes), "{probes} probes in a minute");
    script.relay("alpha").replies.lock().clear();
    world.clock.advance(TimeDelta::seconds(5));
    world.run_until("it goes out", |message| state(message) == AttemptState::Accepted, password).await;
    world.run_until("so does the other", |message| state(message) == AttemptState::Accepted, ad).await;
    assert!(world.clock.now() <= end + TimeDelta::seconds(6), "as soon as the relay is back");
}

/// Its memory of a refusal is the answer to every repeat: that must cost the others nothing.
#[tokio::test]
async fn a_tripped_relay_is_asked_by_turns_about_those_that_are_in_doubt() {
    let mut terms = profile("alpha");
    terms.answers_status = false;
    let (mut world, script) = World::scripted(vec![terms, profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    (0..4).for_each(|_| alpha.reply_all(not_taken(NotTaken::NoConnection)));
    (0..60).for_each(|_| alpha.reply_all(refused("3053")));
    let lot = world.send(Sent { to: numbers(4), fallbacks: &["beta"], ..Sent::default() }).await;
    world.settle().await;
    for _ in 0..4 {
        world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
        world.settle().await;
    }
    assert_eq!(alpha.called(), 5, "and tripped");
    world.run_until("accepted elsewhere", |message| state(message) == AttemptState::Accepted, lot).await;
    let calls = alpha.calls.lock();
    let repeated = &calls[5..];
    let mut times = std::collections::BTreeMap::new();
    for message in repeated.iter().flatten() {
        *times.entry(message.reference.to_string()).or_insert(0) += 1;
    }
    assert_eq!(times.len(), 4, "all of them: {times:?}");
    let (least, most) = (times.values().min().unwrap(), times.values().max().unwrap());
    assert!(most - least <= 1, "by turns: {times:?}");
}

#[tokio::test]
async fn a_relay_that_answers_repeats_from_memory_does_not_stay_tripped_for_that() {
    let mut terms = profile("alpha");
    terms.answers_status = false;
    let (mut world, script) = World::scripted(vec![terms]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    (0..4).for_each(|_| alpha.reply_all(not_taken(NotTaken::NoConnection)));
    let doubt = world.send(Sent { to: numbers(4), ..Sent::default() }).await;
    for _ in 0..60 {
        alpha.reply(move |messages| {
            let is_repeat = messages[0].reference.message.sending == doubt.sending;
            SubmitAnswer::all(messages.len(), if is_repeat { refused("3053") } else { accepted() })
        });
    }
    world.settle().await;
    for _ in 0..4 {
        world.send(Sent::default()).await;
        world.settle().await;
    }
    assert_eq!(changes(&world).await.len(), 1, "tripped");
    world.run_until("refused in the end", |message| state(message) == AttemptState::Refused, doubt).await;
    let trips = changes(&world).await.into_iter().filter(|(to, _)| *to == BreakerPhase::Tripped).count();
    assert_eq!(trips, 1, "a repeat that is refused is an answer");
    let took = world.clock.now() - start();
    assert!(took < TimeDelta::seconds(60), "it waited for no probes: {took}");
}

/// Two processes work for the relay, each with its own connection to it.
#[tokio::test]
async fn what_one_process_trips_another_does_not_call() {
    let (mut one, of_one) = World::scripted(vec![profile("alpha")]).await;
    let of_other = Arc::new(Script::default());
    let (clock, store, terms) = (one.clock.clone(), one.store.clone(), vec![profile("alpha")]);
    let settings = RelaySettings::default();
    let mut other = World::resume(clock, store, terms, of_other.clone(), settings).await;
    one.directory.catch_up(&one.journal).await.unwrap();
    (0..5).for_each(|_| of_one.relay("alpha").reply_all(not_taken(NotTaken::NoConnection)));
    for _ in 0..5 {
        one.send(Sent::default()).await;
        one.settle().await;
    }
    assert_eq!(of_one.relay("alpha").called(), 5);
    other.directory.catch_up(&other.journal).await.unwrap();
    other.settle().await;
    assert_eq!(of_other.relay("alpha").called(), 0, "it has heard nothing from the relay itself");
    assert_eq!(changes(&other).await.len(), 1);
    one.clock.advance(TimeDelta::seconds(5));
    other.settle().await;
    assert_ne!(of_other.relay("alpha").called(), 0, "it is as good a probe as any");
    one.directory.catch_up(&one.journal).await.unwrap();
    one.settle().await;
    let phases: Vec<_> = changes(&one).await.into_iter().map(|(to, _)| to).collect();
    assert_eq!(phases, [BreakerPhase::Tripped, BreakerPhase::Probing], "once, by whoever comes first");
}

/// What was decided before an append that took long may not be done after it any more.
#[tokio::test]
async fn a_relay_is_not_called_once_the_time_of_the_intent_is_over() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    for (seconds, calls) in [(6, 0), (4, 1)] {
        let lot = world.send(Sent::default()).await;
        world.stalling.next_takes(seconds);
        let due = world.settle().await;
        assert_eq!(alpha.called(), calls, "after {seconds} s");
        if calls == 0 {
            assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Routed, "as if nothing had been");
            assert_eq!(
                due,
                Some(world.clock.now() + TimeDelta::seconds(1)),
                "a log that is slow is left alone"
            );
            world.run_until("accepted", |message| state(message) == AttemptState::Accepted, lot).await;
            assert_eq!(alpha.called(), 1);
            alpha.calls.lock().clear();
        }
    }
}

#[tokio::test]
async fn a_probe_that_is_put_off_has_worked_and_one_whose_connection_ended_says_nothing() {
    for (code, is_back) in [("3053", true), (CONNECTION_LOST, false)] {
        let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
        let alpha = script.relay("alpha");
        (0..5).for_each(|_| alpha.reply_all(not_taken(NotTaken::NoConnection)));
        let put_off = MessageAnswer::RefusedForNow {
            code: code.into(),
            general_code: None,
            text: None,
            retry_after: None,
        };
        (0..500).for_each(|_| alpha.reply_all(put_off.clone()));
        world.send(Sent { to: numbers(50), ..Sent::default() }).await;
        for _ in 0..300 {
            world.settle().await;
            world.clock.advance(TimeDelta::seconds(1));
        }
        let phases: Vec<_> = changes(&world).await.into_iter().map(|(to, _)| to).collect();
        assert!(phases.starts_with(&[BreakerPhase::Tripped, BreakerPhase::Probing]), "{code}: {phases:?}");
        assert_eq!(phases.contains(&BreakerPhase::Passing), is_back, "{code}: {phases:?}");
    }
}

#[tokio::test]
async fn the_first_probe_is_one_message_of_however_many_lots() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    let mut lots = Vec::new();
    for _ in 0..4 {
        lots.push(world.send(Sent::default()).await);
    }
    while changes(&world).await.is_empty() {
        alpha.reply_all(not_taken(NotTaken::NoConnection));
        let due = world.settle().await.unwrap();
        world.clock.set(due);
    }
    let before = alpha.called();
    for lot in lots {
        world.run_until("accepted", |message| state(message) == AttemptState::Accepted, lot).await;
    }
    let sizes: Vec<usize> = alpha.calls.lock().iter().skip(before).map(Vec::len).collect();
    assert_eq!(sizes[0], 1, "{sizes:?}");
}

/// Somebody else writes to the lot between the look at it and the intent.
#[tokio::test]
async fn what_is_decided_again_is_not_charged_again() {
    let mut terms = profile("alpha");
    // Eight of them go at once.
    terms.rate_parts_per_second = Some(40);
    let (mut world, script) = World::scripted(vec![terms]).await;
    let lot = world.send(Sent { to: numbers(8), ..Sent::default() }).await;
    assert_eq!(world.messages(lot).await.len(), 8, "it is known as it was");
    let finished = MessagesFinished {
        messages: [0].into_iter().collect(),
        outcome: Outcome::Cancelled,
        reason: "test".into(),
        class: None,
    };
    append(&world.journal, &lot.stream(), vec![finished.into()], Expected::Version(2)).await;
    world.settle().await;
    let sizes: Vec<usize> = script.relay("alpha").calls.lock().iter().map(Vec::len).collect();
    assert_eq!(sizes, [7]);
}

#[tokio::test]
async fn a_receipt_is_waited_for_as_long_as_the_sending_says_or_else_its_channel() {
    for (wait_s, offers, expected_s) in [(None, true, 3_600), (Some(60), true, 60), (None, false, 259_200)] {
        let mut terms = profile("alpha");
        if !offers {
            terms.channels.remove(&MessageType::Sms);
        }
        let (mut world, _) = World::scripted(vec![terms]).await;
        let failover = FailoverTerms { wait_s, ..FailoverTerms::default() };
        let lot = world.send(Sent { failover, ..Sent::default() }).await;
        world.settle().await;
        let events = world.events(lot).await;
        let Some(Event::MessagesSubmitted(intent)) = events.first() else { panic!("{events:?}") };
        assert_eq!(intent.receipt_by, start() + TimeDelta::seconds(expected_s));
    }
}

#[tokio::test]
async fn what_cannot_be_moved_away_from_a_relay_is_tried_again_after_a_second() {
    let (mut world, _) = World::scripted(vec![profile("alpha")]).await;
    let cause = Cause::new("test", Uuid::from_u128(1));
    world.manage.suspend_relay(&cause, &relay("alpha"), "maintenance".to_owned()).await.unwrap();
    let lot = world.send(Sent::default()).await;
    // A newer program has written something to it that this one does not understand.
    let id = world.journal.next_id();
    let data = b"{}".to_vec().into();
    let events = vec![NewEvent { id, kind: "of-tomorrow".into(), schema_version: 1, data }];
    let metadata = Metadata {
        time: start(),
        tenant: None,
        correlation: id,
        causation: None,
        actor: "test".into(),
        traceparent: None,
    };
    let append = StreamAppend { stream: lot.stream(), expected: Expected::Any, metadata, events };
    world.store.append(Batch::new(BatchMode::Independent, vec![append])).await;
    assert_eq!(world.settle().await, Some(start() + TimeDelta::seconds(1)));
}

#[tokio::test]
async fn what_may_go_to_another_relay_only_waits_until_that_one_takes_it() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    // Since then its sender is registered with beta alone, and beta takes nothing.
    let at_beta = approved("0212345678", SenderKind::Phone, &[relay("beta")]);
    let stream = kite_domain::sender::stream("0212345678");
    append(&world.journal, stream.as_str(), vec![at_beta.into()], Expected::Any).await;
    let cause = Cause::new("test", Uuid::from_u128(1));
    world.manage.suspend_relay(&cause, &relay("beta"), "maintenance".to_owned()).await.unwrap();
    assert_eq!(world.settle().await, Some(start() + TimeDelta::seconds(5)), "it is looked at again");
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Routed);
    world.manage.resume_relay(&cause, &relay("beta")).await.unwrap();
    world.run_until("beta takes it", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!((script.relay("alpha").called(), script.relay("beta").called()), (0, 1));
}
