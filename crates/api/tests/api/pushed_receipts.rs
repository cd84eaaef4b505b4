//! Receipts that relays push: genuine, forged, replayed, for nobody.

use chrono::Duration;
use kite_domain::event::Event;
use kite_domain::ids::MessageId;
use kite_domain::lot::{MessagesRouted, MessagesSubmitted, RouteSet};
use kite_domain::relay::BillingMoment;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{ADMIN, Api, Call, SECRET, sending, start};

pub(crate) fn push(relay: &str, call: &str, body: &Value) -> Call {
    push_signed(relay, call, body, SECRET, start().timestamp())
}

fn push_signed(relay: &str, call: &str, body: &Value, secret: &str, timestamp: i64) -> Call {
    push_bytes(relay, call, body.to_string().into_bytes(), secret, timestamp)
}

fn push_bytes(relay: &str, call: &str, bytes: Vec<u8>, secret: &str, timestamp: i64) -> Call {
    let signature = Webhook::new(secret).unwrap().sign(call, timestamp, &bytes).unwrap();
    Call::new("POST", format!("/v1/relays/{relay}/receipts"))
        .header("webhook-id", call)
        .header("webhook-timestamp", timestamp.to_string())
        .header("webhook-signature", signature)
        .bytes("application/json", bytes)
}

pub(crate) fn receipt(reference: &str) -> Value {
    json!({"receipts": [{
        "reference": reference, "relay_reference": "R1", "status": "delivered", "code": "4000",
        "at": "2027-01-15T08:00:05Z", "a field of the relay": 1,
    }]})
}

/// A message that is with relay alpha.
async fn handed_over(api: &Api) -> MessageId {
    let accepted = api.post("/v1/sendings", &sending(&["01012345678"])).await.json();
    let id: MessageId = format!("{}-0", accepted["id"].as_str().unwrap()).parse().unwrap();
    let relay = RelayId::from_trusted("alpha");
    let messages: kite_domain::seq_set::SeqSet = [0].into_iter().collect();
    let route = RouteSet {
        relay: relay.clone(),
        channel: MessageType::Sms,
        attempt: 1,
        messages: messages.clone(),
        fallbacks: Vec::new(),
        price_milliwon: 9_000,
        bills: BillingMoment::Delivered,
        reason: "a test".to_owned(),
    };
    let submitted =
        MessagesSubmitted { relay, attempt: 1, messages, receipt_by: start() + Duration::days(1) };
    let events =
        vec![Event::from(MessagesRouted { routes: vec![route], splits: Vec::new() }), Event::from(submitted)];
    let changed = api.lots.change(&[id.lot()], &"test".into(), |_, _, _| (events.clone(), ())).await;
    changed.into_iter().next().unwrap().unwrap();
    id
}

#[tokio::test]
async fn a_genuine_receipt_is_recorded_before_it_is_answered() {
    let api = Api::new().await;
    let id = handed_over(&api).await;
    let reply = api.ok(push("alpha", "msg_1", &receipt(&format!("{id}-1")))).await;
    assert_eq!(reply.status, 204);
    api.project().await;
    let message = api.get(&format!("/v1/messages/{id}")).await.json();
    assert_eq!((&message["status"], &message["attempts"][0]["code"]), (&json!("delivered"), &json!("4000")));
    let events = api.get(&format!("/v1/messages/{id}/events")).await.json();
    let kinds: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert!(kinds.contains(&json!("receipts-recorded")), "{kinds:?}");
}

#[tokio::test]
async fn a_bad_receipt_does_not_keep_the_good_ones_of_its_call_out() {
    let api = Api::new().await;
    let id = handed_over(&api).await;
    let with = |reference: &str, field: &str, value: Value| {
        let mut one = receipt(reference)["receipts"][0].clone();
        one[field] = value;
        one
    };
    let good = receipt(&format!("{id}-1"))["receipts"][0].clone();
    let parked = receipt("not-a-reference-of-ours")["receipts"][0].clone();
    let bad = [
        with("unknown-status", "status", json!("lost in thought")),
        with("no-time", "at", Value::Null),
        with("long", "reference", json!("x".repeat(65))),
    ];
    let [first, second, third] = bad;
    let body = json!({"receipts": [first, good, second, parked, third]});
    assert_eq!(api.ok(push("alpha", "msg_1", &body)).await.status, 204);
    api.project().await;
    let message = api.get(&format!("/v1/messages/{id}")).await.json();
    assert_eq!(message["status"], json!("delivered"));
    let audit = api.ok(Call::new("GET", "/v1/audit/events?type=receipts-parked").key(ADMIN)).await.json();
    let parked = audit["items"].to_string();
    assert!(parked.contains("not-a-reference-of-ours"), "{parked}");
    for left_out in ["unknown-status", "no-time", "xxx"] {
        assert!(!parked.contains(left_out), "{left_out}: {parked}");
    }
    let events = api.events().await;
    assert_eq!(api.ok(push("alpha", "msg_1", &body)).await.status, 204);
    assert_eq!(api.events().await, events, "the call is not asked for again");
}

#[tokio::test]
async fn a_replayed_call_is_answered_and_does_nothing() {
    let api = Api::new().await;
    let body = receipt("not-a-reference-of-ours");
    api.ok(push("alpha", "msg_1", &body)).await;
    let events = api.events().await;
    for _ in 0..3 {
        assert_eq!(api.ok(push("alpha", "msg_1", &body)).await.status, 204);
    }
    assert_eq!(api.events().await, events);
    let parked = api.ok(Call::new("GET", "/v1/audit/events?type=receipts-parked").key(ADMIN)).await.json();
    assert_eq!(parked["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_same_receipt_in_another_call_changes_nothing() {
    let api = Api::new().await;
    let id = handed_over(&api).await;
    let body = receipt(&format!("{id}-1"));
    api.ok(push("alpha", "msg_1", &body)).await;
    let events = api.events().await;
    assert_eq!(api.ok(push("alpha", "msg_2", &body)).await.status, 204);
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn forged_and_stale_calls_are_401_and_record_nothing() {
    let api = Api::new().await;
    let id = handed_over(&api).await;
    let body = receipt(&format!("{id}-1"));
    let events = api.events().await;
    let now = start().timestamp();
    let other_secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let unsigned = Call::new("POST", "/v1/relays/alpha/receipts").json(&body);
    let calls = [
        unsigned,
        push_signed("alpha", "msg_1", &body, other_secret, now),
        push_signed("alpha", "msg_1", &body, SECRET, now - 301),
        push_signed("alpha", "msg_1", &body, SECRET, now + 301),
    ];
    for call in calls {
        assert_eq!(api.send(call).await.problem(), (401, "signature-invalid".to_owned()));
    }
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn an_unknown_relay_is_404_and_a_bad_body_a_problem() {
    let api = Api::new().await;
    assert_eq!(api.send(push("moon", "msg_1", &receipt("x"))).await.problem(), (404, "not-found".to_owned()));
    let no_list = api.send(push("alpha", "msg_1", &json!({"receipts": {"reference": "x"}}))).await;
    assert_eq!(no_list.problem(), (422, "invalid-body".to_owned()));
    assert_eq!(no_list.errors()[0].1, "receipts");
    let no_json = push_bytes("alpha", "msg_1", b"{\"receipts\":[".to_vec(), SECRET, start().timestamp());
    assert_eq!(api.send(no_json).await.problem(), (400, "malformed-json".to_owned()));
    let one = receipt("x")["receipts"][0].clone();
    let many = api.send(push("alpha", "msg_2", &json!({"receipts": vec![one; 5_001]}))).await;
    assert_eq!(many.problem(), (413, "body-too-large".to_owned()));
}
