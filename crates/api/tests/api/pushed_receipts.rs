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
    let submitted = MessagesSubmitted {
        relay,
        attempt: 1,
        messages,
        receipt_by: start() + Duration::days(1),
        answer_by: None,
        holder: None,
    };
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
    let refused = api.send(push("alpha", "msg_1", &body)).await;
    assert_eq!(refused.problem(), (422, "receipts-not-understood".to_owned()));
    let error = |row, field: &str, code: &str| (Some(row), field.to_owned(), code.to_owned());
    let expected =
        [error(0, "status", "unknown_word"), error(2, "at", "wrong_type"), error(4, "reference", "too_long")];
    assert_eq!(refused.errors(), expected);
    api.project().await;
    let message = api.get(&format!("/v1/messages/{id}")).await.json();
    assert_eq!(message["status"], json!("delivered"));
    let audit = api.ok(Call::new("GET", "/v1/audit/events?type=receipts-parked").key(ADMIN)).await.json();
    let parked = audit["items"].to_string();
    assert!(parked.contains("not-a-reference-of-ours"), "{parked}");
    for left_out in ["unknown-status", "no-time", "xxx"] {
        assert!(!parked.contains(left_out), "{left_out}: {parked}");
    }
    // The relay may repeat it for ever.
    let events = api.events().await;
    for _ in 0..3 {
        assert_eq!(api.send(push("alpha", "msg_1", &body)).await.problem().0, 422);
    }
    assert_eq!(api.events().await, events, "the same words are kept once, and the good receipts are no news");
    // Corrected under the same name, it is another call, and nothing of it is lost.
    let corrected = receipt("corrected-at-last");
    assert_eq!(api.ok(push("alpha", "msg_1", &corrected)).await.status, 204);
    let audit = api.ok(Call::new("GET", "/v1/audit/events?type=receipts-parked").key(ADMIN)).await.json();
    assert!(audit["items"].to_string().contains("corrected-at-last"));
    // Under another name the stranger among them is parked anew, and nothing else.
    assert_eq!(api.send(push("alpha", "msg_2", &body)).await.problem().0, 422);
    assert_eq!(not_understood(&api, "").await["items"].as_array().unwrap().len(), 3);
}

/// What alpha said and was not understood, as the operator sees it.
async fn not_understood(api: &Api, query: &str) -> Value {
    api.project().await;
    api.ok(Call::new("GET", format!("/v1/admin/relays/alpha/not-understood{query}")).key(ADMIN)).await.json()
}

#[tokio::test]
async fn what_is_not_understood_is_kept_as_it_came_and_listed_at_the_relay() {
    let api = Api::new().await;
    assert_eq!(not_understood(&api, "").await["items"], json!([]));
    let first = r#"{"reference" : "a", "status":"lost \u0000", "at":"2027-01-15T08:00:05Z"}"#;
    let second = r#"{"reference":"b","status":"delivered","code":"4000","at":"2027-01-15T08:00:05"}"#;
    let body = format!(r#"{{"receipts": [{first},{second}]}}"#);
    let call = push_bytes("alpha", "msg_1", body.into_bytes(), SECRET, start().timestamp());
    assert_eq!(api.send(call).await.problem().0, 422);
    let no_json = push_bytes("alpha", "msg_2", b"{\"receipts\":[".to_vec(), SECRET, start().timestamp());
    assert_eq!(api.send(no_json).await.problem(), (400, "malformed-json".to_owned()));

    let listed = not_understood(&api, "").await;
    let short = |item: &Value| {
        let word = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        (item["row"].as_u64(), word("field"), word("reason"), word("raw"), word("how"))
    };
    let listed: Vec<_> = listed["items"].as_array().unwrap().iter().map(short).collect();
    let said = |row, field: &str, reason: &str, raw: &str| {
        (row, field.to_owned(), reason.to_owned(), raw.to_owned(), "pushed".to_owned())
    };
    let expected = [
        said(None, "", "no_json", "{\"receipts\":["),
        said(Some(1), "at", "no_time", second),
        said(Some(0), "status", "unknown_word", first),
    ];
    assert_eq!(listed, expected);
    let page = not_understood(&api, "?limit=2").await;
    let rest = not_understood(&api, &format!("?limit=2&cursor={}", page["next"].as_str().unwrap())).await;
    assert_eq!((page["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (2, 1));
    assert_eq!(short(&rest["items"][0]), expected[2]);
    assert!(rest.get("next").is_none());

    let relay = api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN)).await.json();
    assert_eq!(relay["not_understood"]["kept"], 3);
    let other = api.ok(Call::new("GET", "/v1/admin/relays/beta").key(ADMIN)).await.json();
    assert!(other.get("not_understood").is_none());
    let tenant = api.get("/v1/admin/relays/alpha/not-understood").await;
    assert_eq!(tenant.problem().0, 403, "it may speak of anybody");
    let moon = Call::new("GET", "/v1/admin/relays/moon/not-understood").key(ADMIN);
    assert_eq!(api.send(moon).await.problem().0, 404);
}

#[tokio::test]
async fn what_there_is_no_room_for_is_not_answered_as_if_it_were_kept() {
    let api = Api::new().await;
    let many = |from: usize| -> Vec<Value> { (from..from + 500).map(|number| json!(number)).collect() };
    for (call, from) in [("msg_1", 0), ("msg_2", 500)] {
        let pushed = push("alpha", call, &json!({"receipts": many(from)}));
        assert_eq!(api.send(pushed).await.problem().0, 422);
    }
    let id = handed_over(&api).await;
    let good = receipt(&format!("{id}-1"))["receipts"][0].clone();
    let body = json!({"receipts": [good, "one too many"]});
    for _ in 0..2 {
        let refused = api.send(push("alpha", "msg_3", &body)).await;
        assert_eq!(refused.problem(), (503, "unavailable".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("60"));
    }
    api.project().await;
    let message = api.get(&format!("/v1/messages/{id}")).await.json();
    assert_eq!(message["status"], json!("delivered"), "what is understood is recorded all the same");
    let no_json = push_bytes("alpha", "msg_4", b"{".to_vec(), SECRET, start().timestamp());
    assert_eq!(api.send(no_json).await.problem(), (503, "unavailable".to_owned()));
    let relay = api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN)).await.json();
    let count = &relay["not_understood"];
    assert_eq!((&count["kept"], &count["full_until"]), (&json!(1_000), &json!("2027-01-16T00:00:00Z")));

    api.clock.advance(Duration::days(1));
    let at = (start() + Duration::days(1)).timestamp();
    assert_eq!(api.send(push_signed("alpha", "msg_3", &body, SECRET, at)).await.problem().0, 422);
    let relay = api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN)).await.json();
    assert!(relay["not_understood"].get("full_until").is_none(), "{relay}");
}

#[tokio::test]
async fn without_a_genuine_signature_nothing_is_kept() {
    let api = Api::new().await;
    let events = api.events().await;
    let other_secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let now = start().timestamp();
    let body = b"{\"receipts\":[7]}".to_vec();
    for (secret, at) in [(other_secret, now), (SECRET, now - 301)] {
        let call = push_bytes("alpha", "msg_1", body.clone(), secret, at);
        assert_eq!(api.send(call).await.problem().0, 401);
    }
    assert_eq!(api.events().await, events);
    assert_eq!(not_understood(&api, "").await["items"], json!([]));
}

/// A receipt of message `id` that says it failed, with a code.
fn failed(id: MessageId, code: &str) -> Value {
    json!({"receipts": [{
        "reference": format!("{id}-1"), "status": "undelivered", "code": code, "at": "2027-01-15T08:00:05Z",
    }]})
}

#[tokio::test]
async fn codes_that_nobody_knows_are_counted_at_the_relay_until_an_operator_classes_them() {
    let api = Api::new().await;
    for (call, code) in [("msg_1", "9876"), ("msg_2", "9876"), ("msg_3", "3031"), ("msg_4", "1234")] {
        let id = handed_over(&api).await;
        api.ok(push("alpha", call, &failed(id, code))).await;
        api.project().await;
        let message = api.get(&format!("/v1/messages/{id}")).await.json();
        assert_eq!(
            (&message["status"], &message["failure_class"]),
            (&json!("undelivered"), &json!("unclassified"))
        );
    }
    let relay = || api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN));
    let unknown = relay().await.json()["codes_unknown"].clone();
    let short = |list: &Value| -> Vec<(String, u64)> {
        let one = |item: &Value| (item["code"].as_str().unwrap().to_owned(), item["times"].as_u64().unwrap());
        list.as_array().unwrap().iter().map(one).collect()
    };
    // 3031 is in the dictionary, which gives no reason for it.
    assert_eq!(short(&unknown), [("9876".to_owned(), 2), ("1234".to_owned(), 1)]);
    assert!(unknown[0]["newest_at"].is_string());

    let code = |method: &'static str, code: &str| {
        Call::new(method, format!("/v1/admin/relays/alpha/codes/{code}")).key(ADMIN)
    };
    let body = json!({"class": "handset_permanent", "text": "roaming"});
    let classed = api.ok(code("PUT", "9876").json(&body)).await;
    assert_eq!(
        classed.json(),
        json!({"code": "9876", "class": "handset_permanent", "billable": false, "text": "roaming"})
    );
    let view = relay().await.json();
    assert_eq!(short(&view["codes_unknown"]), [("1234".to_owned(), 1)]);
    assert_eq!(view["codes_classed"][0], classed.json());

    let id = handed_over(&api).await;
    api.ok(push("alpha", "msg_5", &failed(id, "9876"))).await;
    api.project().await;
    let message = api.get(&format!("/v1/messages/{id}")).await.json();
    assert_eq!(
        (&message["failure_class"], &message["attempts"][0]["code_text"]["ko"]),
        (&json!("handset_permanent"), &json!("roaming"))
    );

    assert_eq!(api.ok(code("DELETE", "9876")).await.status, 204);
    assert_eq!(api.send(code("DELETE", "9876")).await.problem(), (404, "not-found".to_owned()));
    assert_eq!(short(&relay().await.json()["codes_unknown"]).len(), 2);
    let audit = api.ok(Call::new("GET", "/v1/audit/events?type=relay-code-classed").key(ADMIN)).await.json();
    assert_eq!(audit["items"][0]["actor"], "admin");
}

#[tokio::test]
async fn a_code_that_no_relay_can_give_is_not_classed() {
    let api = Api::new().await;
    let put = |relay: &str, code: &str, body: &Value| {
        Call::new("PUT", format!("/v1/admin/relays/{relay}/codes/{code}")).key(ADMIN).json(body)
    };
    let good = json!({"class": "content"});
    assert_eq!(api.send(put("moon", "1", &good)).await.problem(), (404, "not-found".to_owned()));
    for code in ["%20", "%201", "a%00b", &"9".repeat(65)] {
        assert_eq!(api.send(put("alpha", code, &good)).await.problem().0, 422, "{code}");
    }
    for body in
        [json!({"class": "delivered"}), json!({"class": "content", "text": "x".repeat(201)}), json!({})]
    {
        assert_eq!(api.send(put("alpha", "1", &body)).await.problem().0, 422, "{body}");
    }
    // What a dictionary holds may be classed anew, too, and it says what it was.
    let known = api.ok(put("alpha", "3043", &good)).await.json();
    assert_eq!(known["dictionary_class"], "handset_temporary");
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
