//! Workers against simulated carriers over loopback. Time moves as fast as they allow; the network is real.

use chrono::TimeDelta;
use kite_commands::Clock;
use kite_domain::event::Event;
use kite_domain::ids::LotId;
use kite_domain::lot::{AttemptState, Message, Outcome};
use kite_domain::relay::{Endpoint, ReceiptMode, RelayProfile, SmtpSecurity};
use kite_domain::text::MessageType;
use kite_relay_sim::{RelaySim, Scenario};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

use super::testing::*;
use crate::client::NetworkConnector;
use crate::settings::RelaySettings;

async fn simulate(relays: Value) -> RelaySim {
    let scenario = json!({ "seed": 7, "relays": relays });
    RelaySim::start(Scenario::from_json(&scenario.to_string()).unwrap()).await.unwrap()
}

fn http_relay(id: &str, behaviour: Value) -> Value {
    json!({ "id": id, "api_key": format!("{id}-key"), "channels": ["sms", "lms", "email"], "behaviour": behaviour })
}

fn pulling() -> Value {
    json!({ "receipts": { "mode": "pull" } })
}

fn profile_of(sim: &RelaySim, id: &str) -> RelayProfile {
    let endpoint = Endpoint::Http { base_url: sim.base_url(id) };
    RelayProfile { endpoint, receipts: ReceiptMode::Pull, calls_in_flight_max: 2, ..profile(id) }
}

async fn world(profiles: Vec<RelayProfile>) -> World {
    World::new(profiles, Arc::new(NetworkConnector::default()), RelaySettings::default()).await
}

/// Lets time pass until the condition holds for every message.
async fn run(world: &mut World, lot: LotId, what: &str, done: impl Fn(&Message) -> bool) {
    run_until(world, lot, what, |messages, _| messages.iter().all(&done)).await;
}

/// Lets time pass until the condition on the lot's messages and events holds.
async fn run_until(world: &mut World, lot: LotId, what: &str, done: impl Fn(&[Message], &[Event]) -> bool) {
    let all = async {
        loop {
            world.settle().await;
            if done(&world.messages(lot).await, &world.events(lot).await) {
                return;
            }
            world.clock.advance(TimeDelta::milliseconds(200));
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), all).await;
    assert!(in_time.is_ok(), "{what}: {:?}", world.messages(lot).await);
}

fn tells_of_a_duplicate(event: &Event) -> bool {
    matches!(event, Event::RelayResponded(said) if said.unknown.iter().any(|set| set.duplicate_code.is_some()))
}

fn is_delivered(message: &Message) -> bool {
    message.outcome == Some(Outcome::Delivered)
}

fn to(numbers: &[&str]) -> Vec<String> {
    numbers.iter().map(|number| (*number).to_owned()).collect()
}

/// One message to this number is delivered, once, whatever happens on the way.
async fn delivered_once_to(number: &str, change: impl FnOnce(&mut RelayProfile)) -> World {
    let sim = simulate(json!([http_relay("alpha", pulling())])).await;
    let mut profile = profile_of(&sim, "alpha");
    change(&mut profile);
    let mut world = world(vec![profile]).await;
    let lot = world.send(Sent { to: to(&[number]), ..Sent::default() }).await;
    run(&mut world, lot, "delivered", is_delivered).await;
    assert_eq!(sim.ledger().deliveries_by_message().into_values().collect::<Vec<_>>(), [1], "once");
    assert_eq!(world.messages(lot).await[0].attempts.len(), 1, "one attempt");
    sim.shutdown().await;
    world
}

#[tokio::test]
async fn messages_are_handed_over_and_their_receipts_pulled() {
    let sim = simulate(json!([http_relay("alpha", pulling())])).await;
    let mut world = world(vec![profile_of(&sim, "alpha")]).await;
    let lot = world.send(Sent { to: numbers(350), ..Sent::default() }).await;
    run(&mut world, lot, "delivered", is_delivered).await;
    let counters = sim.ledger().counters("alpha").unwrap();
    assert_eq!(sim.ledger().deliveries_by_message().len(), 350, "{counters:?}");
    // Every receipt was acknowledged: none is left.
    let nothing_left = tokio::time::timeout(Duration::from_secs(20), async {
        while sim.flush_receipts(Duration::ZERO).await > 0 {
            world.settle().await;
            world.clock.advance(TimeDelta::seconds(1));
        }
    });
    assert!(nothing_left.await.is_ok());
    sim.shutdown().await;
}

#[tokio::test]
async fn a_lost_answer_is_found_out_by_a_status_query() {
    delivered_once_to("01099000050", |profile| profile.deduplicates = false).await;
}

#[tokio::test]
async fn a_lost_answer_is_healed_by_a_repeat_where_repeats_are_dropped() {
    delivered_once_to("01099000050", |profile| profile.answers_status = false).await;
}

#[tokio::test]
async fn a_slow_answer_is_as_good_as_none_and_found_out() {
    delivered_once_to("01099000051", |profile| profile.answer_timeout_ms = 150).await;
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_relay_took_anything_is_unknown_too() {
    let world = delivered_once_to("01099000052", |_| {}).await;
    assert!(world.clock.now() >= start() + TimeDelta::seconds(1), "asked before it was repeated");
}

#[tokio::test]
async fn a_duplicate_whose_first_answer_was_lost_is_not_taken_for_accepted() {
    for answers_status in [true, false] {
        let sim = simulate(json!([http_relay("alpha", pulling())])).await;
        let mut world = world(vec![RelayProfile { answers_status, ..profile_of(&sim, "alpha") }]).await;
        // One call, whose answer is lost; the relay refuses the second message as a duplicate, at every call.
        let lot = world.send(Sent { to: to(&["01099000050", "01099000016"]), ..Sent::default() }).await;
        run_until(&mut world, lot, "delivered, and refused at a second call", |messages, events| {
            let second_is_told = messages[1].outcome.is_some() || events.iter().any(tells_of_a_duplicate);
            is_delivered(&messages[0]) && second_is_told
        })
        .await;
        let duplicate = &world.messages(lot).await[1];
        let (expected, state) = match answers_status {
            true => (Some(Outcome::Undelivered), AttemptState::Refused),
            false => (None, AttemptState::Unknown),
        };
        assert_eq!(duplicate.attempts[0].state, state, "it was refused, and only a question tells");
        assert_eq!((duplicate.outcome, duplicate.attempts.len()), (expected, 1));
        sim.shutdown().await;
    }
}

#[tokio::test]
async fn out_of_service_is_for_later() {
    let world = delivered_once_to("01099000053", |_| {}).await;
    assert!(world.clock.now() >= start() + TimeDelta::seconds(1), "Retry-After");
}

#[tokio::test]
async fn an_answer_that_never_comes_is_known_from_the_relay() {
    delivered_once_to("01099000054", |_| {}).await;
}

#[tokio::test]
async fn a_rate_that_is_too_high_costs_time_and_nothing_else() {
    let behaviour = json!({ "rate_parts_per_second": 200, "receipts": { "mode": "pull" } });
    let sim = simulate(json!([http_relay("alpha", behaviour)])).await;
    let mut world = world(vec![profile_of(&sim, "alpha")]).await;
    let lot = world.send(Sent { to: numbers(400), ..Sent::default() }).await;
    run(&mut world, lot, "delivered", is_delivered).await;
    let deliveries = sim.ledger().deliveries_by_message();
    assert!(deliveries.len() == 400 && deliveries.values().all(|count| *count == 1));
    sim.shutdown().await;
}

#[tokio::test]
async fn a_refusal_moves_the_message_to_the_next_relay() {
    let sim = simulate(json!([http_relay("alpha", pulling()), http_relay("beta", pulling())])).await;
    let mut world = world(vec![profile_of(&sim, "alpha"), profile_of(&sim, "beta")]).await;
    let numbers = to(&["01099000070", "01099000071", "01099000011", "01099000000"]);
    let lot = world.send(Sent { to: numbers, fallbacks: &["beta"], ..Sent::default() }).await;
    run(&mut world, lot, "all end", |message| message.outcome.is_some()).await;
    let ends: Vec<_> = world
        .messages(lot)
        .await
        .iter()
        .map(|message| (message.outcome.unwrap(), message.attempts.len()))
        .collect();
    use Outcome::{Delivered, Undelivered};
    assert_eq!(ends, [(Delivered, 2), (Delivered, 2), (Undelivered, 1), (Delivered, 1)]);
    sim.shutdown().await;
}

#[tokio::test]
async fn a_relay_that_takes_smaller_batches_than_defined_gets_smaller_ones() {
    let mut small = http_relay("alpha", pulling());
    small["batch_max"] = json!(3);
    let sim = simulate(json!([small])).await;
    let mut profile = profile_of(&sim, "alpha");
    profile.answers_status = false;
    let mut world = world(vec![profile]).await;
    let lot = world.send(Sent { to: numbers(20), ..Sent::default() }).await;
    run(&mut world, lot, "delivered", is_delivered).await;
    sim.shutdown().await;
}

#[tokio::test]
async fn a_wrong_key_loses_nothing() {
    let sim = simulate(json!([http_relay("alpha", pulling())])).await;
    let mut wrong = profile_of(&sim, "alpha");
    wrong.credentials.api_key = Some("not this one".to_owned());
    let mut world = world(vec![wrong]).await;
    let lot = world.send(Sent::default()).await;
    world.settle().await;
    let message = world.messages(lot).await.remove(0);
    assert_eq!(message.attempts[0].state, AttemptState::Routed);
    let cause = kite_commands::Cause::new("test", uuid::Uuid::from_u128(1));
    world.manage.define_relay(&cause, profile_of(&sim, "alpha")).await.unwrap();
    world.workers = world.relays.reconcile().await;
    run(&mut world, lot, "delivered with the right key", is_delivered).await;
    sim.shutdown().await;
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_certainly_not_given_anything() {
    let sim = simulate(json!([http_relay("beta", pulling())])).await;
    let mut world = world(vec![profile("alpha"), profile_of(&sim, "beta")]).await;
    let lot = world.send(Sent { to: numbers(3), fallbacks: &["beta"], ..Sent::default() }).await;
    run(&mut world, lot, "delivered by the other", is_delivered).await;
    assert!(
        world.messages(lot).await.iter().all(|message| message.attempts[0].state == AttemptState::Routed)
    );
    sim.shutdown().await;
}

/// A simulated mail server, and workers that work for it.
async fn mail_world() -> (RelaySim, World) {
    let mail = json!({ "id": "mail", "kind": "smtp", "api_key": "secret", "channels": ["email"],
        "smtp_listen": "127.0.0.1:0" });
    let sim = simulate(json!([mail])).await;
    let address = sim.smtp_address("mail").unwrap();
    let endpoint = Endpoint::Smtp {
        host: address.ip().to_string(),
        port: address.port(),
        security: SmtpSecurity::Plain,
    };
    let mut profile = profile("mail");
    (profile.deduplicates, profile.answers_status, profile.codes) = (false, false, "smtp".into());
    (profile.receipts, profile.endpoint) = (ReceiptMode::None, endpoint);
    profile.credentials.api_key = Some("secret".to_owned());
    profile.credentials.user = Some("kite".to_owned());
    let world = world(vec![profile]).await;
    (sim, world)
}

/// Greylisting (a mailbox's own server says "not now" to strangers) is a matter of that recipient.
#[tokio::test]
async fn a_greylisted_recipient_is_tried_again_and_the_others_go_at_once() {
    let (sim, mut world) = mail_world().await;
    let mut recipients = to(&["never-now@example.com", "greylisted@example.com"]);
    recipients.extend((0..20).map(|number| format!("r{number}@example.com")));
    let sent = Sent { to: recipients, relay: "mail", channel: MessageType::Email, ..Sent::default() };
    let lot = world.send(sent).await;
    run_until(&mut world, lot, "twenty are delivered", |messages, _| messages[2..].iter().all(is_delivered))
        .await;
    assert!(world.clock.now() < start() + TimeDelta::seconds(30), "and nobody waits for the two");
    let two = world.messages(lot).await;
    assert!(two[..2].iter().all(|message| message.attempts[0].state == AttemptState::Routed));
    let notes: Vec<Event> = world.events(lot).await;
    let is_clean = |event: &Event| match event {
        Event::RelayResponded(said) => {
            said.refused_for_now.iter().all(|set| set.messages.iter().all(|seq| seq < 2))
                && said.deferred.is_none()
        }
        _ => true,
    };
    assert!(notes.iter().all(is_clean), "only the two have a code in their timeline: {notes:?}");
    run_until(&mut world, lot, "greylisted once", |messages, _| is_delivered(&messages[1])).await;
    assert!(world.clock.now() >= start() + TimeDelta::minutes(1), "after a minute, not at once");
    assert_eq!(world.messages(lot).await[1].attempts.len(), 1, "at the same relay, as the same attempt");
    assert!(sim.ledger().deliveries_by_message().values().all(|count| *count <= 1));
    sim.shutdown().await;
}

#[tokio::test]
async fn mail_goes_over_smtp() {
    let (sim, mut world) = mail_world().await;
    let recipients =
        to(&["hong@example.com", "refused+550@example.com", "answer-lost@example.com", "kim@example.com"]);
    let sent = Sent { to: recipients, relay: "mail", channel: MessageType::Email, ..Sent::default() };
    let lot = world.send(sent).await;
    let is_over =
        |message: &Message| message.outcome.is_some() || message.attempts[0].state == AttemptState::Unknown;
    run(&mut world, lot, "all are tried", is_over).await;
    let states: Vec<_> = world.messages(lot).await.iter().map(|message| message.attempts[0].state).collect();
    use AttemptState::{Delivered, Refused, Unknown};
    assert_eq!(states, [Delivered, Refused, Unknown, Delivered]);
    // A mail server cannot be asked and sends repeats again: the unknown one is never repeated.
    world.clock.advance(TimeDelta::hours(2));
    world.settle().await;
    assert!(sim.ledger().deliveries_by_message().values().all(|count| *count <= 1));
    sim.shutdown().await;
}

/// What stood in the headers `traceparent` of calls, by the address that was called.
type Heard = Arc<parking_lot::Mutex<Vec<(String, Option<String>)>>>;

/// A relay that takes its time to understand HTTP: what it hears before an answer is all that is of interest. It answers nothing
/// that can be understood, so whoever calls asks again.
async fn listening_relay() -> (std::net::SocketAddr, Heard) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let hears = heard.clone();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut lines = BufReader::new(socket).lines();
            let mut head = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.is_empty() {
                    break;
                }
                head.push(line);
            }
            let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { continue };
            let header = head.iter().find_map(|line| line.strip_prefix("traceparent: "));
            hears.lock().push((path.to_owned(), header.map(str::to_owned)));
            let mut socket = lines.into_inner();
            let answer = "HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_relay_is_told_the_trace_of_what_it_is_handed_and_asked_about() {
    let (address, heard) = listening_relay().await;
    let endpoint = Endpoint::Http { base_url: format!("http://{address}") };
    let profile = RelayProfile { endpoint, deduplicates: false, calls_in_flight_max: 2, ..profile("alpha") };
    let mut world = world(vec![profile]).await;
    let trace = kite_commands::trace::begin(&[b"a customer's"]);
    world.send(Sent { traceparent: Some(trace), ..Sent::default() }).await;
    let both = async {
        loop {
            world.settle().await;
            let heard = heard.lock().clone();
            if heard.iter().any(|(path, _)| path == "/v1/messages/status") {
                return heard;
            }
            world.clock.advance(TimeDelta::milliseconds(200));
            tokio::task::yield_now().await;
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    let mut spans = std::collections::BTreeSet::from([trace.span_id()]);
    for path in ["/v1/messages/batch", "/v1/messages/status"] {
        let (_, header) = heard.iter().find(|(called, _)| called == path).unwrap();
        let told = kite_commands::TraceParent::parse(header.as_deref().unwrap()).unwrap();
        assert_eq!(told.trace_id(), trace.trace_id(), "{path}");
        assert!(spans.insert(told.span_id()), "every call is another place in it");
    }
}
