//! Workers against a relay that says what it is told to.

use chrono::TimeDelta;
use kite_commands::clock::ManualClock;
use kite_commands::event_store::Expected;
use kite_commands::manage::NewOptOut;
use kite_commands::manage::Unextended;
use kite_commands::{Cause, Clock, Step, Worker};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::LotId;
use kite_domain::lot::{AttemptState, Message, MessagesSubmitted, Outcome};
use kite_domain::not_understood::{Misread, MisreadReason, SaidHow};
use kite_domain::relay::{BreakerPhase, CodeClassed, ReceiptMode, RelayProfile, UnattendedCause};
use kite_domain::sending::{MessageClass, PauseBy, SendingPaused, SendingResumed};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

mod broker;
mod counters;
mod doubt;
mod refusals;
mod sharing;
mod trouble;

use super::testing::*;
use crate::client::{
    CallFailed, Connector, ConnectorError, MessageAnswer, NotTaken, RateLimit, RelayClient, Standing,
    SubmitAnswer,
};
use crate::settings::RelaySettings;
use crate::team::{Hired, Urgency};

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

async fn tell(world: &World, lot: kite_domain::ids::LotId, event: Event) {
    append(&world.journal, &lot.sending.stream(), vec![event], Expected::Any).await;
    world.lots.forget_sending(lot.sending);
}

#[tokio::test]
async fn nothing_of_a_paused_sending_is_called_nor_spun_on_and_it_goes_out_at_once_when_it_is_resumed() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    let lot = world.send(Sent { to: numbers(250), ..Sent::default() }).await;
    let by = PauseBy::Tenant;
    tell(&world, lot, SendingPaused { sending: lot.sending, by, reason: None }.into()).await;
    let other = world.send(Sent::default()).await;
    assert_eq!(world.settle().await, None, "nothing of it waits in a lane");
    assert_eq!(alpha.called(), 1);
    assert!(world.messages(other).await.iter().all(|message| state(message) == AttemptState::Accepted));
    assert_eq!(world.kinds(lot).await, Vec::<&str>::new());
    tell(&world, lot, SendingResumed { sending: lot.sending, by, reason: None }.into()).await;
    world.settle().await;
    assert!(world.messages(lot).await.iter().all(|message| state(message) == AttemptState::Accepted));
}

/// The sender may have ended between the route and the hand-over.
async fn refused_before_the_call(world: &mut World, script: &Script, lot: LotId, reason: &str) {
    world.settle().await;
    assert_eq!(script.relay("alpha").called(), 0);
    assert_eq!(world.kinds(lot).await, ["messages-finished"]);
    let events = world.journal.read_stream(&lot.stream(), 0).await.unwrap();
    let Event::MessagesFinished(finished) = &events.last().unwrap().event else { panic!("{events:?}") };
    assert_eq!((finished.outcome, finished.reason.as_str()), (Outcome::Refused, reason));
    assert_eq!(finished.messages.len(), 3);
}

#[tokio::test]
async fn a_relay_is_not_called_with_a_sender_that_was_withdrawn_since_the_route_was_made() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let lot = world.send(Sent { to: numbers(3), ..Sent::default() }).await;
    let cause = Cause::new("test", Uuid::from_u128(1));
    world.manage.withdraw_sender(&cause, &tenant(), "0212345678", None).await.unwrap();
    refused_before_the_call(&mut world, &script, lot, "sender_withdrawn").await;
}

#[tokio::test]
async fn a_relay_is_not_called_with_a_sender_whose_approval_is_over() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let sent = Sent { to: numbers(3), lifetime: TimeDelta::days(APPROVED_DAYS + 1), ..Sent::default() };
    let lot = world.send(sent).await;
    world.clock.advance(TimeDelta::days(APPROVED_DAYS));
    refused_before_the_call(&mut world, &script, lot, "sender_expired").await;
}

#[tokio::test]
async fn while_a_sending_is_paused_a_relay_is_asked_about_a_lost_answer_and_not_called_again() {
    let profile = RelayProfile { answers_status: true, deduplicates: true, ..profile("alpha") };
    let (mut world, script) = World::scripted(vec![profile]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    alpha.status_all(Standing::NotFound);
    let lot = world.send(Sent::default()).await;
    world.settle().await;
    let by = PauseBy::Operator;
    tell(&world, lot, SendingPaused { sending: lot.sending, by, reason: None }.into()).await;
    world.run_until("never had it", |message| state(message) == AttemptState::Routed, lot).await;
    assert_eq!(alpha.called(), 1);
    alpha.reply_all(accepted());
    tell(&world, lot, SendingResumed { sending: lot.sending, by, reason: None }.into()).await;
    world.run_until("resumed", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!(alpha.called(), 2);
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
    script.relay("alpha").reply_all(refused("3012"));
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
async fn what_a_relay_answers_and_nobody_understands_is_kept() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let alpha = script.relay("alpha");
    alpha.reply_all(lost());
    let raw = r#"{"reference":"x","status":"perhaps"}"#.to_owned();
    let reason = MisreadReason::UnknownWord;
    let misread = Misread { row: Some(0), field: Some("status".into()), reason, raw: raw.clone() };
    alpha.misread.lock().push((SaidHow::Responded, misread));
    world.send(Sent::default()).await;
    world.settle().await;
    let stream = kite_domain::not_understood::stream(&relay("alpha"), start());
    let told = world.journal.read_stream(&stream, 0).await.unwrap();
    let Event::RelayNotUnderstood(kept) = &told[0].event else { panic!("another event") };
    assert_eq!((told.len(), kept.how, &kept.personal.raw), (1, SaidHow::Responded, &raw));
}

#[tokio::test]
async fn an_operators_class_decides_about_the_next_answer() {
    let (mut world, script) = World::scripted(vec![profile("alpha"), profile("beta")]).await;
    let classed = CodeClassed {
        relay: relay("alpha"),
        code: "9876".into(),
        class: FailureClass::RelayFault,
        billable: false,
        text: None,
    };
    world.manage.class_code(&Cause::new("admin", Uuid::nil()), classed).await.unwrap();
    script.relay("alpha").reply_all(refused("9876"));
    let lot = world.send(Sent { fallbacks: &["beta"], ..Sent::default() }).await;
    world.settle().await;
    assert_eq!(world.messages(lot).await[0].attempts.len(), 2, "the next relay");
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
async fn an_advertisement_that_was_accepted_does_not_go_to_whom_a_refusal_has_bound_since() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let to = numbers(3);
    let ad = world.send(Sent { class: MessageClass::Ad, to: to.clone(), ..Sent::default() }).await;
    let notice = world.send(Sent { to: to.clone(), ..Sent::default() }).await;
    let cause = Cause::new("test", Uuid::nil());
    for address in [to[0].as_str(), "Kim@example.com"] {
        let refusal = NewOptOut::of(address, "080");
        world.manage.record_opt_out(&cause, &tenant(), refusal).await.unwrap();
    }
    let by_phone =
        Unextended { tenant: tenant(), address: "kim@example.com".into(), other: to[1].as_str().into() };
    world.manage.extend_opt_outs(&cause, vec![by_phone]).await.unwrap();
    world.settle().await;
    let outcomes: Vec<_> = world.messages(ad).await.iter().map(|message| message.outcome).collect();
    assert_eq!(outcomes, [Some(Outcome::Refused), Some(Outcome::Refused), None]);
    let taken: usize = script.relay("alpha").calls.lock().iter().map(Vec::len).sum();
    assert_eq!(taken, 4, "one advertisement, and the notices");
    assert!(world.messages(notice).await.iter().all(|message| state(message) == AttemptState::Accepted));
}

#[tokio::test]
async fn an_intent_without_a_response_is_found_after_a_restart() {
    let (mut world, _) = World::scripted(vec![profile("alpha")]).await;
    let lot = world.send(Sent { to: numbers(2), ..Sent::default() }).await;
    append(&world.journal, &lot.stream(), vec![intent().into()], Expected::Version(2)).await;
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
async fn a_worker_that_dies_in_the_middle_loses_nothing() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let lot = world.send(Sent::default()).await;
    let alpha = script.relay("alpha");
    alpha.reply(|_| panic!("whoever called dies"));
    let mut worker = world.workers.remove(0).worker;
    world.publisher.step().await.unwrap();
    let back_at = start() + TimeDelta::seconds(1);
    assert_eq!(worker.step().await.unwrap(), Step::Idle(Some(back_at)), "it takes nobody with it");
    assert_eq!(state(&world.messages(lot).await[0]), AttemptState::Submitted);
    // Another worker takes its place.
    let profile = kite_domain::relay::RelayProfile { calls_in_flight_max: 2, ..profile("alpha") };
    world.manage.define_relay(&Cause::new("test", Uuid::from_u128(1)), profile).await.unwrap();
    world.workers = world.relays.reconcile().await;
    assert_eq!(world.workers.len(), 4, "two workers, the steward and who keeps the shares");
    alpha.status_all(Standing::Accepted { relay_reference: None });
    world.run_until("asked about", |message| state(message) == AttemptState::Accepted, lot).await;
    assert_eq!((alpha.called(), alpha.questions.lock().len()), (1, 1));
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

/// Steps only those who are kept for passwords.
async fn step_the_kept(world: &mut World) {
    while world.publisher.step().await.unwrap() == Step::Worked {}
    for kept in world.workers.iter_mut().filter(|hired| is_kept(hired)) {
        while kept.worker.step().await.unwrap() == Step::Worked {}
    }
}

fn is_kept(hired: &Hired) -> bool {
    hired.urgency == Urgency::Urgent && hired.worker.name().starts_with("worker:")
}

#[tokio::test]
async fn some_of_several_calls_are_kept_free_for_passwords() {
    for (calls_in_flight_max, kept) in [(1, 0), (2, 1), (4, 1), (12, 3)] {
        let terms = RelayProfile { calls_in_flight_max, ..profile("alpha") };
        let (mut world, script) = World::scripted(vec![terms]).await;
        let alpha = script.relay("alpha");
        assert_eq!(
            world.workers.iter().filter(|hired| is_kept(hired)).count(),
            kept,
            "{calls_in_flight_max}"
        );
        if kept == 0 {
            continue;
        }
        let campaign =
            world.send(Sent { class: MessageClass::Ad, to: numbers(300), ..Sent::default() }).await;
        let notice = world.send(Sent::default()).await;
        step_the_kept(&mut world).await;
        assert_eq!(alpha.called(), 0, "they leave everything else to the others");
        let password = world.send(Sent { class: MessageClass::Otp, ..Sent::default() }).await;
        step_the_kept(&mut world).await;
        assert_eq!(alpha.called(), 1);
        assert_eq!(alpha.calls.lock()[0][0].reference.message.sending, password.sending);
        for others in [campaign, notice] {
            world.run_until("sent", |message| state(message) == AttemptState::Accepted, others).await;
        }
    }
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
async fn what_was_not_tried_has_nothing_of_what_was_said_to_others() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    script.relay("alpha").reply(|_| SubmitAnswer {
        messages: vec![
            MessageAnswer::RefusedForNow {
                code: "4.7.1".into(),
                general_code: None,
                text: None,
                retry_after: None,
            },
            MessageAnswer::NotTaken { why: NotTaken::OutOfService, reason: "421 4.3.2 closing".into() },
            MessageAnswer::NotTried,
        ],
        retry_after: None,
    });
    let lot = world.send(Sent { to: numbers(3), ..Sent::default() }).await;
    world.settle().await;
    let mut told: Vec<(u32, String)> = Vec::new();
    for event in world.events(lot).await {
        let Event::RelayResponded(said) = event else { continue };
        if let Some(set) = said.deferred {
            told.extend(set.messages.iter().map(|seq| (seq, set.reason.clone())));
        }
        for set in said.refused_for_now {
            told.extend(set.messages.iter().map(|seq| (seq, set.code.to_string())));
        }
    }
    told.sort();
    let expected = [
        (0, "4.7.1".to_owned()),
        (1, "421 4.3.2 closing".to_owned()),
        (2, "not tried: the relay is out of service".to_owned()),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn recipients_that_are_put_off_say_nothing_against_the_relay() {
    let (mut world, script) = World::scripted(vec![profile("alpha")]).await;
    let put_off = MessageAnswer::RefusedForNow {
        code: "3053".into(),
        general_code: None,
        text: None,
        retry_after: None,
    };
    (0..300).for_each(|_| script.relay("alpha").reply_all(put_off.clone()));
    let lot = world.send(Sent { to: numbers(300), ..Sent::default() }).await;
    world.settle().await;
    assert!(world.messages(lot).await.iter().all(|message| state(message) == AttemptState::Routed));
    let snapshot = world.directory.snapshot();
    let breaker = snapshot.relays.get(&relay("alpha")).map(|entry| entry.breaker);
    assert_eq!(breaker, Some(BreakerPhase::Passing));
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
    let worker = &mut world.workers[0].worker;
    assert_eq!(worker.step().await.unwrap(), Step::Idle(None));
}
