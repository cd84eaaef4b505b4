//! Hands against a relay that says what it is told to.

use chrono::TimeDelta;
use kite_commands::clock::ManualClock;
use kite_commands::event_store::Expected;
use kite_commands::{Cause, Clock, Step};
use kite_domain::event::Event;
use kite_domain::lot::{AttemptState, Message, MessagesSubmitted, Outcome};
use kite_domain::relay::{BreakerPhase, ReceiptMode, RelayProfile, UnattendedCause};
use kite_domain::sending::MessageClass;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use super::testing::*;
use crate::client::{
    CallFailed, Connector, ConnectorError, MessageAnswer, NotTaken, RateLimit, RelayClient, Standing,
    SubmitAnswer,
};
use crate::settings::RelaySettings;

fn state(message: &Message) -> AttemptState {
    message.attempts.last().unwrap().state
}

fn not_taken(why: NotTaken) -> MessageAnswer {
    MessageAnswer::NotTaken { why, reason: "no".into() }
}

#[tokio::test]
async fn the_intent_is_in_the_log_before_the_call_and_the_response_after_it() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let lot = world.send(Sent { to: numbers(3), ..Sent::default() }).await;
    world.settle().await;
    let alpha = script.relay("alpha");
    assert_eq!(*alpha.intents.lock(), [1]);
    assert_eq!(world.kinds(lot).await, ["messages-submitted", "relay-responded"]);
    assert!(world.messages(lot).await.iter().all(|message| state(message) == AttemptState::Accepted));
    let calls = alpha.calls.lock();
    assert_eq!(calls[0].len(), 3);
    assert_eq!(&*calls[0][1].text, "안녕하세요");
    assert!(calls[0][1].reference.to_string().ends_with("-1-1"));
}

#[tokio::test]
async fn small_lots_share_a_call_and_large_ones_are_cut() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    for _ in 0..40 {
        world.send(Sent::default()).await;
    }
    world.settle().await;
    assert_eq!(script.relay("alpha").calls.lock().iter().map(Vec::len).collect::<Vec<_>>(), [40]);
    let lot = world.send(Sent { to: numbers(250), ..Sent::default() }).await;
    world.settle().await;
    assert_eq!(
        script.relay("alpha").calls.lock().iter().skip(1).map(Vec::len).collect::<Vec<_>>(),
        [100, 100, 50]
    );
    assert!(world.messages(lot).await.iter().all(|message| state(message) == AttemptState::Accepted));
}

#[tokio::test]
async fn a_refusal_and_its_failover_are_one_append_and_the_next_relay_gets_the_message() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    script.relay("alpha").reply_all(refused("3056"));
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    world.settle().await;
    assert_eq!(
        world.kinds(lot).await,
        ["messages-submitted", "relay-responded", "messages-routed", "messages-submitted", "relay-responded"]
    );
    let told = world.journal.read_stream(&lot.stream(), 3).await.unwrap();
    assert_eq!(told[0].recorded.position + 1, told[1].recorded.position, "response and route are one append");
    let messages = world.messages(lot).await;
    assert_eq!(messages[0].attempts.len(), 2);
    assert!(script.relay("beta").calls.lock()[0][0].reference.to_string().ends_with("-0-2"));
}

#[tokio::test]
async fn a_refusal_that_nobody_can_help_ends_the_message() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    script.relay("alpha").reply_all(refused("3032"));
    let lot = world.send(Sent::default()).await;
    world.settle().await;
    assert_eq!(world.messages(lot).await[0].outcome, Some(Outcome::Undelivered));
}

#[tokio::test]
async fn a_lost_answer_is_asked_about_and_not_sent_again_when_the_relay_has_it() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.status_all(Standing::Accepted { relay_reference: Some("r9".into()) });
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    let due = world.settle().await;
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Unknown);
    assert_eq!(due, Some(start() + TimeDelta::seconds(1)), "asked after a second");
    world
        .run_until("the status query settles it", |message| state(message) == AttemptState::Accepted, lot)
        .await;
    assert_eq!((alpha.called(), script.relay("beta").called()), (1, 0));
    assert_eq!(alpha.questions.lock().len(), 1);
}

#[tokio::test]
async fn what_the_relay_never_saw_is_handed_over_again_under_the_same_reference() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    let calls = alpha.calls.lock().clone();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0][0].reference, calls[1][0].reference);
    assert_eq!(*alpha.intents.lock(), [1, 2], "the repeat has an intent of its own");
    assert_eq!(world.messages(lot).await[0].attempts.len(), 1);
}

#[tokio::test]
async fn a_repeat_that_is_refused_as_a_duplicate_is_asked_about() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.status_all(Standing::NotFound);
    alpha.reply_all(refused("1026"));
    alpha.status_all(Standing::Accepted { relay_reference: Some("r9".into()) });
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    world.run_until("the second question", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(6), "one second, then five");
    assert_eq!((alpha.called(), alpha.questions.lock().len(), script.relay("beta").called()), (2, 2, 0));
}

#[tokio::test]
async fn a_relay_that_knows_a_duplicate_and_not_the_message_is_left_alone() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    (0..9).for_each(|_| alpha.reply_all(refused("1026")));
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    while let Some(due) = world.settle().await {
        world.clock.set(due);
    }
    assert_eq!(
        state(&world.messages(lot).await[0]),
        AttemptState::Unknown,
        "until its receipt or its deadline"
    );
    assert_eq!((alpha.called(), alpha.questions.lock().len(), script.relay("beta").called()), (3, 3, 0));
}

#[tokio::test]
async fn a_relay_that_may_deliver_twice_is_believed_only_after_a_while() {
    let mut terms = profile("alpha");
    terms.deduplicates = false;
    let (mut world, script) = World::scripted(vec![terms]).await;
    script.relay("alpha").reply_all(lost());
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    assert!(world.clock.now() >= start() + TimeDelta::seconds(36), "not before the third question");
    assert_eq!(script.relay("alpha").questions.lock().len(), 3);
    assert_eq!(script.relay("alpha").called(), 2);
}

#[tokio::test]
async fn a_pause_that_the_relay_asks_for_is_not_time_in_which_it_was_asked() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.reply(|messages| SubmitAnswer {
        retry_after: Some(Duration::from_secs(60)),
        ..SubmitAnswer::all(messages.len(), not_taken(NotTaken::RateLimited))
    });
    let lot = world.send(Sent::default()).await;
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!((alpha.called(), alpha.questions.lock().len()), (3, 2));
    let is_as_new = |event: &Event| matches!(event, Event::RelayResponded(said) if said.deferred.is_some());
    assert!(!world.events(lot).await.iter().any(is_as_new), "two questions are not enough");
}

#[tokio::test]
async fn a_refused_repeat_is_believed_when_nothing_can_come_in_any_more() {
    for answers_status in [true, false] {
        let mut terms = profile("alpha");
        terms.answers_status = answers_status;
        let (mut world, script) = World::scripted(vec![terms, profile("beta")]).await;
        let alpha = script.relay("alpha");
        alpha.reply_all(lost());
        (0..9).for_each(|_| alpha.reply_all(refused("3053")));
        if answers_status {
            alpha.status_all(Standing::NotFound);
            (0..9).for_each(|_| alpha.status_all(Standing::Refused { code: "3053".into() }));
        }
        let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
        world.run_until("accepted elsewhere", |message| state(message) == AttemptState::Accepted, lot).await;
        assert_eq!(world.clock.now(), start() + TimeDelta::seconds(36), "one second, five, thirty");
        let beta = script.relay("beta");
        let asked = alpha.questions.lock().len();
        let expected = if answers_status { (2, 3, 1) } else { (4, 0, 1) };
        assert_eq!((alpha.called(), asked, beta.called()), expected);
        let said = |event: &Event| match event {
            Event::RelayResponded(said) => said.unknown.as_ref().map(|set| set.refusal.clone()),
            _ => None,
        };
        let refusals: Vec<_> = world.events(lot).await.iter().filter_map(said).collect();
        assert_eq!(
            refusals[1].as_ref().map(|refusal| refusal.code.as_str()),
            Some("3053"),
            "the log says it"
        );
    }
}

#[tokio::test]
async fn the_refusal_of_a_repeat_counts_in_the_end_although_there_may_be_no_other() {
    let mut terms = profile("alpha");
    terms.answers_status = false;
    let (mut world, script) = World::scripted(vec![terms, profile("beta")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.reply_all(refused("3053"));
    let lifetime = TimeDelta::seconds(3);
    let lot = world.send(Sent { fallbacks: &["beta"], lifetime, ..Sent::default() }).await;
    world.run_until("it is over", |message| message.outcome.is_some(), lot).await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(36), "when nothing can come in any more");
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Refused);
    assert_eq!(
        (alpha.called(), script.relay("beta").called()),
        (2, 0),
        "its lifetime ended after the repeat"
    );
}

#[tokio::test]
async fn questions_go_on_after_a_restart_where_they_were() {
    let mut terms = profile("alpha");
    terms.deduplicates = false;
    let (mut world, script) = World::scripted(vec![terms.clone()]).await;
    script.relay("alpha").reply_all(lost());
    let lot = world.send(Sent::default()).await;
    for _ in 0..2 {
        let due = world.settle().await.unwrap();
        world.clock.set(due);
    }
    world.settle().await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(6), "asked twice");
    let settings = RelaySettings::default();
    let mut world = World::resume(world.clock, world.store, vec![terms], script.clone(), settings).await;
    world.feeder.feed(lot).await.unwrap();
    world.run_until("accepted in the end", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(world.clock.now(), start() + TimeDelta::seconds(36), "the third question is the last");
    assert_eq!(script.relay("alpha").questions.lock().len(), 3);
}

#[tokio::test]
async fn what_the_relay_never_had_ends_with_its_lifetime_and_not_with_the_wait_for_a_receipt() {
    for deduplicates in [true, false] {
        let mut terms = profile("alpha");
        terms.deduplicates = deduplicates;
        let (mut world, script) = World::scripted(vec![terms]).await;
        let alpha = script.relay("alpha");
        alpha.reply_all(lost());
        let lot = world.send(Sent { lifetime: TimeDelta::milliseconds(500), ..Sent::default() }).await;
        let is_over = |message: &Message| message.outcome == Some(Outcome::Expired);
        world.run_until("the relay is believed not to have it", is_over, lot).await;
        assert!(
            world.clock.now() < start() + TimeDelta::minutes(1),
            "the receipt would be waited for for days"
        );
        assert_eq!(alpha.called(), 1, "not handed over after its lifetime");
        let given_up = |event: &Event| match event {
            Event::RelayResponded(said) => said.unknown.as_ref().is_some_and(|set| set.inquire_at.is_none()),
            _ => false,
        };
        assert!(!world.events(lot).await.iter().any(given_up), "what is asked about is not given up");
    }
}

#[tokio::test]
async fn a_relay_that_can_neither_be_asked_nor_drops_repeats_is_left_to_its_receipts() {
    let mut terms = profile("alpha");
    (terms.deduplicates, terms.answers_status) = (false, false);
    let (mut world, script) = World::scripted(vec![terms, profile("beta")]).await;
    script.relay("alpha").reply_all(lost());
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    assert_eq!(world.settle().await, None);
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Unknown);
    assert_eq!((script.relay("alpha").called(), script.relay("beta").called()), (1, 0));
}

#[tokio::test]
async fn a_status_query_may_bring_the_result_itself() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.statuses.lock().push_back(Box::new(|asked| {
        let over = |reference: &kite_domain::ids::AttemptReference| {
            Standing::Over(kite_domain::receipt::RawReceipt {
                reference: reference.to_string().into(),
                relay_reference: Some("r1".into()),
                status: kite_domain::receipt::ReceiptStatus::Delivered,
                code: "4000".into(),
                at: start(),
            })
        };
        Ok(asked.iter().map(over).collect())
    }));
    let lot = world.send(Sent::default()).await;
    world.run_until("delivered", |message| message.outcome == Some(Outcome::Delivered), lot).await;
    assert_eq!(alpha.called(), 1);
}

#[tokio::test]
async fn an_intent_without_a_response_is_found_after_a_restart() {
    let (mut world, _) = World::scripted(vec![profile("alpha")]).await;
    let lot = world.send(Sent { to: numbers(2), ..Sent::default() }).await;
    let intent = MessagesSubmitted {
        relay: relay("alpha"),
        attempt: 1,
        messages: [0].into_iter().collect(),
        receipt_by: start() + TimeDelta::hours(1),
    };
    append(&world.journal, &lot.stream(), vec![intent.into()], Expected::Version(2)).await;
    // Another process comes up and finds one message without an answer and one that was never handed over.
    let script = Arc::new(Script::default());
    let settings = RelaySettings::default();
    script.relay("alpha").status_all(Standing::Accepted { relay_reference: None });
    let mut world =
        World::resume(world.clock, world.store, vec![profile("alpha")], script.clone(), settings).await;
    for _ in 0..3 {
        world.feeder.feed(lot).await.unwrap();
    }
    world.run_until("both are accepted", |message| state(message) == AttemptState::Accepted, lot).await;
    let alpha = script.relay("alpha");
    assert_eq!(
        alpha.calls.lock().iter().map(Vec::len).collect::<Vec<_>>(),
        [1],
        "only the one never handed over"
    );
    assert_eq!(alpha.questions.lock().len(), 1);
}

#[tokio::test]
async fn a_hand_that_dies_in_the_middle_loses_nothing() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let lot = world.send(Sent::default()).await;
    let alpha = script.relay("alpha");
    alpha.reply(|_| panic!("whoever called dies"));
    let mut hand = world.hands.remove(0).worker;
    use kite_commands::Worker;
    world.publisher.step().await.unwrap();
    let back_at = start() + TimeDelta::seconds(1);
    assert_eq!(hand.step().await.unwrap(), Step::Idle(Some(back_at)), "it takes nobody with it");
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Submitted);
    // Another hand takes its place.
    let profile = kite_domain::relay::RelayProfile { calls_in_flight_max: 2, ..profile("alpha") };
    world.manage.define_relay(&Cause::new("test", Uuid::from_u128(1)), profile).await.unwrap();
    world.hands = world.relays.reconcile().await.0;
    assert_eq!(world.hands.len(), 3, "two hands and the steward");
    alpha.status_all(Standing::Accepted { relay_reference: None });
    world.run_until("asked about", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!((alpha.called(), alpha.questions.lock().len()), (1, 1));
}

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
    let told = world.journal.read_stream("relay-alpha", 0).await.unwrap();
    let phases: Vec<_> = told
        .iter()
        .filter_map(|told| match &told.event {
            Event::RelayBreakerChanged(changed) => Some((changed.to, changed.reason.clone())),
            _ => None,
        })
        .collect();
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
        match profile.unusable().first() {
            Some(fault) => {
                Err(ConnectorError { relay: profile.relay.to_string(), reason: fault.to_string() })
            }
            None => self.0.client(profile),
        }
    }
}

async fn rehire(world: &mut World) {
    world.hands = world.relays.reconcile().await.0;
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

#[tokio::test]
async fn an_advertisement_waits_for_the_morning() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let evening = start() + TimeDelta::hours(11); // 22:00 in Seoul
    world.clock.set(evening);
    let ad = world.send(Sent { class: MessageClass::Ad, to: numbers(50), ..Sent::default() }).await;
    let notice = world.send(Sent::default()).await;
    world.settle().await;
    assert_eq!(state(&world.messages(notice).await[0]), AttemptState::Accepted);
    assert_eq!(world.kinds(ad).await, ["messages-held"]);
    let opens = start() + TimeDelta::hours(21); // 08:00
    world.run_until("sent in the morning", |message| state(message) == AttemptState::Accepted, ad).await;
    assert!(world.clock.now() >= opens && world.clock.now() < opens + TimeDelta::minutes(10));
    assert!(script.relay("alpha").called() > 10, "spread, not all at once");
}

#[tokio::test]
async fn the_pace_is_kept_in_parts_and_a_password_passes_a_campaign() {
    let mut terms = profile("alpha");
    terms.rate_parts_per_second = Some(40);
    let (mut world, script) = World::scripted(vec![terms]).await;
    let campaign =
        world.send(Sent { class: MessageClass::Ad, to: numbers(100), parts: 2, ..Sent::default() }).await;
    world.settle().await;
    let otp = world.send(Sent { class: MessageClass::Otp, ..Sent::default() }).await;
    world.settle().await;
    assert_eq!(state(&world.messages(otp).await[0]), AttemptState::Accepted, "at once");
    assert!(world.messages(campaign).await.iter().any(|message| state(message) == AttemptState::Routed));
    world.run_until("all sent", |message| state(message) == AttemptState::Accepted, campaign).await;
    let took = world.clock.now() - start();
    assert!(took >= TimeDelta::milliseconds(5_500), "200 parts at 34 a second: {took}");
    assert!(took <= TimeDelta::milliseconds(6_500), "200 parts at 34 a second: {took}");
    assert!(script.relay("alpha").calls.lock().iter().all(|call| call.len() <= 4), "8 parts at once");
}

#[tokio::test]
async fn acceptance_is_final_where_there_are_no_receipts() {
    let mut terms = profile("alpha");
    terms.receipts = ReceiptMode::None;
    let (mut world, _) = World::scripted(vec![terms]).await;
    let lot = world.send(Sent::default()).await;
    world.settle().await;
    assert_eq!(world.messages(lot).await[0].outcome, Some(Outcome::Delivered));
}

#[tokio::test]
async fn a_mixed_answer_is_taken_message_by_message() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    script.relay("alpha").reply(|_| SubmitAnswer {
        messages: vec![accepted(), refused("3032"), lost(), not_taken(NotTaken::NoConnection)],
        retry_after: None,
    });
    let lot = world.send(Sent { to: numbers(4), ..Sent::default() }).await;
    world.settle().await;
    let states: Vec<_> = world.messages(lot).await.iter().map(state).collect();
    use AttemptState::{Accepted, Refused, Routed, Unknown};
    assert_eq!(states, [Accepted, Refused, Unknown, Routed]);
    world.run_until("all of it ends", |message| matches!(state(message), Accepted | Refused), lot).await;
}

#[tokio::test]
async fn a_stale_job_does_nothing() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let lot = world.send(Sent::default()).await;
    world.settle().await;
    let job = crate::queue::Job {
        waits: Default::default(),
        lot,
        tenant: tenant(),
        class: MessageClass::Notice,
        relay: relay("alpha"),
        attempt: 1,
        kind: crate::queue::JobKind::Submit,
        messages: [0].into_iter().collect(),
        not_before_ms: 0,
        cause: None,
    };
    use crate::queue::JobKind::{Inquire, Submit, Unanswered};
    for kind in [Submit, Inquire, Unanswered] {
        world.queue.put(crate::queue::Job { kind, ..job.clone() }).await.unwrap();
        world.settle().await;
    }
    assert_eq!(script.relay("alpha").called(), 1);
    assert_eq!(world.kinds(lot).await, ["messages-submitted", "relay-responded"]);
    let hand = &mut world.hands[0].worker;
    assert_eq!(hand.step().await.unwrap(), Step::Idle(None));
}
