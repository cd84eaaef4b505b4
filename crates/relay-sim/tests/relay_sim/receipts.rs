//! Receipts by push and by pull.

use std::collections::HashSet;

use kite_relay_sim::{ForgeKind, ForgeRequest};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{Alpha, Callback, ORDINARY, SECRET, eventually, flush, pushing, reference};

fn batch(count: usize) -> Vec<(String, &'static str)> {
    (0..count).map(|sequence| (reference(sequence, 1), ORDINARY)).collect()
}

#[tokio::test]
async fn pushes_are_signed_as_standard_webhooks_and_carry_every_result_once() {
    let (alpha, callback) = pushing(json!({})).await;
    alpha.hand_over(&batch(100)).await.unwrap();
    eventually("all are reported", || callback.receipts().len() == 100).await;
    let webhook = Webhook::new(SECRET).unwrap();
    for push in callback.pushes() {
        webhook.verify(&push.body, &push.headers).unwrap();
        assert_eq!(push.headers["content-type"], "application/json");
    }
    let references: HashSet<String> =
        callback.receipts().iter().map(|receipt| receipt["reference"].to_string()).collect();
    assert_eq!(references.len(), 100);
    eventually("all are taken", || alpha.counters().receipts_sent == 100).await;
}

#[tokio::test]
async fn pushes_hold_at_most_the_batch_size() {
    let (alpha, callback) = pushing(json!({ "batch_max": 30 })).await;
    alpha.hand_over(&batch(100)).await.unwrap();
    eventually("all are reported", || callback.receipts().len() == 100).await;
    for push in callback.pushes() {
        let body: Value = serde_json::from_slice(&push.body).unwrap();
        assert!(body["receipts"].as_array().unwrap().len() <= 30);
    }
}

#[tokio::test]
async fn a_push_that_is_not_taken_is_tried_again_under_the_same_id() {
    let (alpha, callback) = pushing(json!({ "retry": { "first_ms": 1, "max_ms": 5 } })).await;
    callback.answer_next_with(&[500, 401, 302]);
    alpha.one(&reference(0, 1), ORDINARY).await;
    eventually("it is taken at last", || alpha.counters().receipts_sent == 1).await;
    let pushes = callback.pushes();
    assert_eq!(pushes.len(), 4);
    assert!(pushes.iter().all(|push| push.id() == pushes[0].id() && push.body == pushes[0].body));
    assert_eq!(alpha.counters().push_failures, 3);
}

#[tokio::test]
async fn a_refused_push_does_not_hold_up_the_next() {
    let (alpha, callback) = pushing(json!({ "retry": { "first_ms": 3_600_000, "max_ms": 3_600_000 } })).await;
    callback.answer_next_with(&[400]);
    alpha.one(&reference(0, 1), ORDINARY).await;
    eventually("the first is refused", || alpha.counters().push_failures == 1).await;
    alpha.one(&reference(1, 1), ORDINARY).await;
    eventually("the second is taken", || alpha.counters().receipts_sent == 1).await;
}

#[tokio::test]
async fn receipts_survive_a_callback_that_is_down() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let alpha = Alpha::start(json!({ "receipts": {
        "callback_url": format!("http://{address}/receipts"), "retry": { "first_ms": 5, "max_ms": 20 } } }))
    .await;
    alpha.hand_over(&batch(50)).await.unwrap();
    eventually("a push fails", || alpha.counters().push_failures > 0).await;
    alpha.one(&reference(50, 1), ORDINARY).await;
    let callback = Callback::on(tokio::net::TcpListener::bind(address).await.unwrap());
    eventually("all are taken", || alpha.counters().receipts_sent == 51).await;
    let references: HashSet<String> =
        callback.receipts().iter().map(|receipt| receipt["reference"].to_string()).collect();
    assert_eq!(references.len(), 51);
}

#[tokio::test]
async fn without_a_callback_receipts_are_kept_until_there_is_one() {
    let alpha = Alpha::start(json!({})).await;
    alpha.one(&reference(0, 1), ORDINARY).await;
    eventually("it is delivered", || alpha.counters().delivered == 1).await;
    let callback = Callback::start().await;
    alpha.sim.set_callback("alpha", &callback.url, SECRET).unwrap();
    eventually("it is taken", || callback.receipts().len() == 1).await;
}

#[tokio::test]
async fn forged_pushes_fail_verification_and_a_replay_is_the_same_push() {
    let (alpha, callback) = pushing(json!({})).await;
    alpha.one(&reference(0, 1), ORDINARY).await;
    eventually("it is taken", || alpha.counters().receipts_sent == 1).await;
    let forge = |kind| ForgeRequest { kind, receipts: Vec::new(), raw: Vec::new() };
    let webhook = Webhook::new(SECRET).unwrap();
    let verified = |callback: &Callback| {
        let push = callback.pushes().pop().unwrap();
        webhook.verify(&push.body, &push.headers).is_ok()
    };
    assert_eq!(alpha.sim.forge("alpha", forge(ForgeKind::Replay)).await.unwrap(), 204);
    let pushes = callback.pushes();
    assert_eq!((pushes[0].id(), &pushes[0].body), (pushes[1].id(), &pushes[1].body));
    alpha.sim.forge("alpha", forge(ForgeKind::BadSignature)).await.unwrap();
    assert!(!verified(&callback));
    alpha.sim.forge("alpha", forge(ForgeKind::OldTimestamp)).await.unwrap();
    assert!(!verified(&callback));
    let request = json!({ "kind": "genuine", "receipts": [{ "reference": "x-0-1", "delivered": false, "code": "3043" }] });
    let (status, answer) = alpha.admin(reqwest::Method::POST, "/relays/alpha/forge", Some(request)).await;
    assert_eq!((status, answer), (200, json!({ "callback_status": 204 })));
    assert!(verified(&callback));
    assert_eq!(callback.receipts_of("x-0-1")[0]["status"], "undelivered");
}

async fn pull(alpha: &Alpha, limit: usize) -> (String, Vec<Value>) {
    let (status, body) = alpha.post("/v1/receipts/pull", &json!({ "limit": limit })).await.unwrap();
    assert_eq!(status, 200);
    (body["lease"].as_str().unwrap().to_owned(), body["receipts"].as_array().unwrap().clone())
}

#[tokio::test]
async fn pulled_receipts_are_out_on_lease_until_acknowledged() {
    let alpha = Alpha::start(json!({ "receipts": { "mode": "pull" } })).await;
    alpha.hand_over(&batch(10)).await.unwrap();
    eventually("all are delivered", || alpha.counters().delivered == 10).await;
    let (first, receipts) = pull(&alpha, 6).await;
    assert_eq!(receipts.len(), 6);
    let (second, rest) = pull(&alpha, 100).await;
    assert_eq!(rest.len(), 4);
    assert!(pull(&alpha, 100).await.1.is_empty(), "all are out");
    for lease in [&first, &second, &first] {
        assert_eq!(alpha.post("/v1/receipts/acknowledge", &json!({ "lease": lease })).await.unwrap().0, 204);
    }
    assert_eq!(alpha.counters().receipts_sent, 10);
    flush(&alpha).await;
}

#[tokio::test]
async fn an_expired_lease_is_handed_out_again() {
    let alpha = Alpha::start(json!({ "receipts": { "mode": "pull", "lease_ms": 0 } })).await;
    alpha.hand_over(&batch(3)).await.unwrap();
    eventually("all are delivered", || alpha.counters().delivered == 3).await;
    let (first, receipts) = pull(&alpha, 100).await;
    let (second, again) = pull(&alpha, 100).await;
    assert_ne!(first, second);
    assert_eq!(receipts, again);
    alpha.post("/v1/receipts/acknowledge", &json!({ "lease": first })).await.unwrap();
    assert_eq!(alpha.counters().receipts_sent, 0, "an old lease ends nothing");
    alpha.post("/v1/receipts/acknowledge", &json!({ "lease": second })).await.unwrap();
    assert_eq!(alpha.counters().receipts_sent, 3);
}

#[tokio::test]
async fn shares_of_receipt_faults_show() {
    let (alpha, callback) = pushing(json!({ "never": 0.3, "twice": 0.3, "foreign": 0.3 })).await;
    let recipients: Vec<String> = (0..100).map(|n| format!("010123{n:05}")).collect();
    let messages: Vec<(String, &str)> =
        recipients.iter().enumerate().map(|(n, to)| (reference(n, 1), to.as_str())).collect();
    alpha.hand_over(&messages).await.unwrap();
    flush(&alpha).await;
    let known = |receipt: &Value| receipt["reference"].as_str().unwrap().starts_with(crate::support::SENDING);
    let (ours, foreign): (Vec<Value>, Vec<Value>) = callback.receipts().into_iter().partition(known);
    let reported: HashSet<String> = ours.iter().map(|receipt| receipt["reference"].to_string()).collect();
    assert!((50..=90).contains(&reported.len()), "about 70 are reported, not {}", reported.len());
    assert!(
        (8..=40).contains(&(ours.len() - reported.len())),
        "about 21 come twice, not {}",
        ours.len() - reported.len()
    );
    assert!((8..=40).contains(&foreign.len()), "about 21 foreign, not {}", foreign.len());
}

#[tokio::test]
async fn held_back_receipts_overtake_each_other_and_keep_their_time() {
    let (alpha, callback) =
        pushing(json!({ "out_of_order": { "share": 0.5, "ms": 200 }, "flush_ms": 1 })).await;
    let recipients: Vec<String> = (0..40).map(|n| format!("010123{n:05}")).collect();
    for (sequence, to) in recipients.iter().enumerate() {
        alpha.one(&reference(sequence, 1), to).await;
    }
    eventually("all are reported", || callback.receipts().len() == 40).await;
    let times: Vec<String> = callback.receipts().iter().map(|receipt| receipt["at"].to_string()).collect();
    assert!(!times.is_sorted(), "some came out of order");
}
