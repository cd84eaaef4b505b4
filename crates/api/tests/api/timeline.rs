//! A message with everything that happened to it, in words.

use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::MessageId;
use kite_domain::lot::{
    MessagesFinished, MessagesRouted, MessagesSubmitted, Outcome, ReceiptSet, ReceiptsRecorded, RefusedSet,
    RelayResponded, RouteSet, UnknownSet,
};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BillingMoment;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use serde_json::{Value, json};

use crate::support::{Api, sending, with};

fn alpha() -> RelayId {
    RelayId::from_trusted("alpha")
}

fn first() -> SeqSet {
    [0].into_iter().collect()
}

/// The first message was handed over to alpha.
fn handed_over() -> Vec<Event> {
    let route = RouteSet {
        relay: alpha(),
        channel: MessageType::Sms,
        attempt: 1,
        messages: first(),
        fallbacks: Vec::new(),
        price_milliwon: 9_000,
        bills: BillingMoment::Delivered,
        reason: "a test".to_owned(),
    };
    let receipt_by = "2027-02-01T00:00:00Z".parse().unwrap();
    vec![
        MessagesRouted { routes: vec![route], splits: Vec::new() }.into(),
        MessagesSubmitted {
            relay: alpha(),
            attempt: 1,
            messages: first(),
            receipt_by,
            answer_by: None,
            holder: None,
        }
        .into(),
    ]
}

fn answer(refused: Vec<RefusedSet>, unknown: Option<UnknownSet>) -> Event {
    RelayResponded {
        relay: alpha(),
        attempt: 1,
        call_ms: Some(9),
        accepted: None,
        refused,
        unknown,
        deferred: None,
        refused_for_now: Vec::new(),
    }
    .into()
}

/// Accepts a sending, lets these events happen to its first message, and shows that.
async fn message_after(api: &Api, body: &Value, events: Vec<Event>) -> Value {
    let accepted = api.post("/v1/sendings", body).await.json();
    let id: MessageId = format!("{}-0", accepted["id"].as_str().unwrap()).parse().unwrap();
    let changed = api.lots.change(&[id.lot()], &"test".into(), |_, _, _| (events.clone(), ())).await;
    changed.into_iter().next().unwrap().unwrap();
    api.project().await;
    api.get(&format!("/v1/messages/{id}")).await.json()
}

#[tokio::test]
async fn codes_are_told_in_korean_and_english() {
    let api = Api::new().await;
    let refused = RefusedSet {
        messages: first(),
        code: "3056".into(),
        class: FailureClass::RelayFault,
        text: Some("no route".to_owned()),
    };
    let finished = MessagesFinished {
        messages: first(),
        outcome: Outcome::Undelivered,
        reason: "3056".into(),
        class: Some(FailureClass::RelayFault),
    };
    let mut events = handed_over();
    events.extend([answer(vec![refused], None), finished.into()]);
    let message = message_after(&api, &sending(&["01012345678"]), events).await;
    let text = &message["attempts"][0]["code_text"];
    assert!(
        text["ko"].as_str().is_some_and(|text| text.contains(|one| ('가'..='힣').contains(&one))),
        "{message}"
    );
    assert!(text["en"].as_str().is_some_and(|text| text.is_ascii() && text.len() > 5), "{message}");
    assert_eq!((&message["reason"], &message["reason_text"]), (&json!("3056"), text));
    let listed = api.get("/v1/messages?to=01012345678").await.json();
    assert_eq!(&listed["items"][0]["attempts"][0]["code_text"], text, "lists tell it too");
}

#[tokio::test]
async fn a_reason_of_kites_own_is_told_too_and_a_code_that_nobody_knows_says_so() {
    let api = Api::new().await;
    let cancelled = MessagesFinished {
        messages: first(),
        outcome: Outcome::Cancelled,
        reason: "cancelled".into(),
        class: None,
    };
    let message = message_after(&api, &sending(&["01012345678"]), vec![cancelled.into()]).await;
    assert_eq!(message["reason_text"]["ko"], "발송 취소됨");
    let unheard = RefusedSet {
        messages: first(),
        code: "no-such-code".into(),
        class: FailureClass::Unclassified,
        text: None,
    };
    let mut events = handed_over();
    events.push(answer(vec![unheard], None));
    let message = message_after(&api, &sending(&["01012345679"]), events).await;
    let text = message["attempts"][0]["code_text"]["en"].as_str().unwrap();
    assert!(text.contains("does not hold"), "{text}");
}

#[tokio::test]
async fn a_lost_answer_stays_visible_after_the_receipt() {
    let api = Api::new().await;
    let lost = UnknownSet {
        messages: first(),
        reason: "connection reset".to_owned(),
        inquire_at: None,
        round: 0,
        duplicate_code: None,
        refusal: None,
        receipt_by: None,
    };
    let delivered = ReceiptSet {
        attempt: 1,
        status: ReceiptStatus::Delivered,
        code: "4000".into(),
        class: None,
        billable_failure: false,
        messages: first(),
        at_ms: vec![1_800_000_000_000],
    };
    let mut events = handed_over();
    events.extend([
        answer(Vec::new(), Some(lost)),
        ReceiptsRecorded { relay: alpha(), sets: vec![delivered] }.into(),
    ]);
    let message = message_after(&api, &sending(&["01012345678"]), events).await;
    let attempt = &message["attempts"][0];
    assert_eq!((&message["status"], &attempt["state"]), (&json!("delivered"), &json!("delivered")));
    assert_eq!(attempt["unknown_reason"], "connection reset");
    assert!(attempt["unknown_since"].is_string(), "{message}");
}

#[tokio::test]
async fn a_message_shows_what_it_says_and_in_whose_name() {
    let api = Api::new().await;
    let body = with(sending(&[]), "text", json!("#{name}님, #{what}"));
    let body = with(body, "variables", json!({"what": "반갑습니다", "name": "고객"}));
    let rows = json!([{"to": "01012345678", "variables": {"name": "홍길동"}}, {"to": "01012345679"}]);
    let message = message_after(&api, &with(body, "recipients", rows), handed_over()).await;
    assert_eq!((&message["from"], &message["text"]), (&json!("0212345678"), &json!("홍길동님, 반갑습니다")));
    assert!(message["subject"].is_null(), "{message}");
    let id = message["id"].as_str().unwrap().replace("-0", "-1");
    assert_eq!(api.get(&format!("/v1/messages/{id}")).await.json()["text"], "고객님, 반갑습니다");
}
