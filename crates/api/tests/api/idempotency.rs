//! Law 6: the same key and body give the same sending, for ever; the same key with another body is refused.

use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::support::{ADMIN, Api, Call, sending, with};

fn call(api: &Api, key: &str, body: &Value) -> Call {
    Call::new("POST", "/v1/sendings").key(&api.acme).header("idempotency-key", key).json(body)
}

#[tokio::test]
async fn a_repeat_gets_the_same_sending_and_writes_nothing() {
    let api = Api::new().await;
    let body = sending(&["01012345678", "01012345679"]);
    let first = api.ok(call(&api, "order-17", &body)).await;
    assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (202, None));
    let events = api.events().await;
    let again = api.ok(call(&api, "order-17", &body)).await;
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (202, Some("true")));
    for field in ["id", "accepted", "links", "refused_count"] {
        assert_eq!(again.json()[field], first.json()[field], "{field}");
    }
    assert_eq!(again.header("location"), first.header("location"));
    assert!(first.header("kite-position").is_some());
    assert_eq!(again.header("kite-position"), first.header("kite-position"));
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn another_body_under_the_same_key_is_refused() {
    let api = Api::new().await;
    api.ok(call(&api, "order-17", &sending(&["01012345678"]))).await;
    let events = api.events().await;
    let other = api.send(call(&api, "order-17", &sending(&["01012345679"]))).await;
    assert_eq!(other.problem(), (422, "idempotency-key-reused".to_owned()));
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn the_same_key_of_another_tenant_is_another_key() {
    let api = Api::new().await;
    let body = sending(&["01012345678"]);
    let own = api.ok(call(&api, "order-17", &body)).await.json();
    let theirs = api
        .ok(Call::new("POST", "/v1/sendings")
            .key(&api.rival)
            .header("idempotency-key", "order-17")
            .json(&body))
        .await;
    assert_ne!(own["id"], theirs.json()["id"]);
}

#[tokio::test]
async fn many_at_once_become_one_sending() {
    let api = Api::new().await;
    let body = sending(&["01012345678"]);
    let replies = futures::future::join_all((0..16).map(|_| api.send(call(&api, "order-18", &body)))).await;
    let ids: BTreeSet<String> = replies
        .iter()
        .filter(|reply| reply.status == 202)
        .map(|reply| reply.json()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1);
    for reply in replies.iter().filter(|reply| reply.status != 202) {
        assert_eq!(reply.problem(), (409, "idempotency-in-progress".to_owned()));
        assert!(reply.header("retry-after").is_some());
    }
    let last = api.ok(call(&api, "order-18", &body)).await;
    assert!(ids.contains(last.json()["id"].as_str().unwrap()));
    api.project().await;
    assert_eq!(api.get("/v1/sendings").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_repeat_is_answered_although_its_group_is_gone() {
    let api = Api::new().await;
    let group =
        api.ok(Call::new("POST", "/v1/groups").key(&api.acme).json(&json!({"name": "모두"}))).await.json();
    api.project().await;
    let import = Call::new("POST", format!("/v1/contacts/import?group={}", group["id"].as_str().unwrap()))
        .key(&api.acme);
    api.ok(import.bytes("text/csv", b"name,phone\nA,01012345678\n".to_vec())).await;
    api.project().await;
    let body = with(sending(&[]), "groups", json!([group["id"]]));
    let first = api.ok(call(&api, "order-19", &body)).await;
    api.ok(Call::new("DELETE", format!("/v1/groups/{}", group["id"].as_str().unwrap())).key(&api.acme)).await;
    api.project().await;
    let again = api.ok(call(&api, "order-19", &body)).await;
    assert_eq!(again.json()["id"], first.json()["id"]);
    let new = api.send(call(&api, "order-20", &body)).await;
    assert_eq!(new.problem(), (422, "request-refused".to_owned()));
    assert_eq!(new.errors(), [(None, "groups[0]".to_owned(), "group_not_found".to_owned())]);
}

#[tokio::test]
async fn a_repeat_is_answered_although_its_contact_is_another_or_gone() {
    let api = Api::new().await;
    let contact = api.post("/v1/contacts", &json!({"phone": "01012345678"})).await.json()["id"].clone();
    api.project().await;
    let path = format!("/v1/contacts/{}", contact.as_str().unwrap());
    let body = with(sending(&[]), "recipients", json!([{"contact": contact}]));
    let first = api.ok(call(&api, "order-21", &body)).await;
    let changed = Call::new("PUT", path.clone()).key(&api.acme).json(&json!({"email": "kim@example.com"}));
    api.ok(changed).await;
    // The address book has not caught up, and that is nothing to a repeat.
    let again = api.ok(call(&api, "order-21", &body)).await;
    assert_eq!(again.json()["id"], first.json()["id"]);
    api.project().await;
    api.ok(Call::new("DELETE", path).key(&api.acme)).await;
    api.project().await;
    let again = api.ok(call(&api, "order-21", &body)).await;
    assert_eq!(
        (&again.json()["id"], again.header("idempotent-replayed")),
        (&first.json()["id"], Some("true"))
    );
    let new = api.send(call(&api, "order-22", &body)).await;
    assert_eq!(new.errors(), [(Some(0), "contact".to_owned(), "contact_not_found".to_owned())]);
}

#[tokio::test]
async fn another_body_under_the_key_is_refused_whatever_it_names() {
    let api = Api::new().await;
    api.ok(call(&api, "order-23", &sending(&["01012345678"]))).await;
    let events = api.events().await;
    for other in [
        with(sending(&[]), "groups", json!(["0197c0de000070008000000000000003"])),
        with(sending(&[]), "recipients", json!([{"contact": "0197c0de000070008000000000000003"}])),
        with(sending(&["01012345678"]), "custom", json!("no object")),
        sending(&[]),
    ] {
        let reply = api.send(call(&api, "order-23", &other)).await;
        assert_eq!(reply.problem(), (422, "idempotency-key-reused".to_owned()), "{other}");
    }
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn a_request_that_could_not_be_looked_up_does_not_use_up_its_key() {
    let api = Api::new().await;
    let body = with(sending(&[]), "groups", json!(["0197c0de000070008000000000000003"]));
    let events = api.events().await;
    for _ in 0..2 {
        let reply = api.send(call(&api, "order-24", &body)).await;
        assert_eq!(reply.errors(), [(None, "groups[0]".to_owned(), "group_not_found".to_owned())]);
    }
    assert_eq!(api.events().await, events);
    api.ok(call(&api, "order-24", &sending(&["01012345678"]))).await;
}

#[tokio::test]
async fn a_repeat_is_answered_where_nothing_new_is_taken() {
    let api = Api::new().await;
    let body = sending(&["01012345678"]);
    let first = api.ok(call(&api, "order-25", &body)).await;
    *api.disk.0.lock().unwrap() = Some("99 bytes are free".to_owned());
    let again = api.ok(call(&api, "order-25", &body)).await;
    assert_eq!(again.json()["id"], first.json()["id"]);
    let new = api.send(call(&api, "order-26", &body)).await;
    assert_eq!(new.problem(), (503, "no-room".to_owned()));
    *api.disk.0.lock().unwrap() = None;
    let limits = Call::new("PUT", "/v1/admin/tenants/acme/limits").key(ADMIN);
    api.ok(limits.json(&json!({"requests_per_second": 1, "open_messages_max": 1}))).await;
    assert_eq!(api.get("/v1/sendings").await.status, 200, "the one request of this second");
    let new = api.send(call(&api, "order-26", &body)).await;
    assert_eq!(new.problem(), (429, "too-many-requests".to_owned()));
    api.clock.advance(chrono::TimeDelta::seconds(1));
    assert_eq!(api.get("/v1/sendings").await.status, 200);
    let again = api.ok(call(&api, "order-25", &body)).await;
    assert_eq!(again.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn a_key_that_is_no_key_is_refused() {
    let api = Api::new().await;
    let reply = api.send(call(&api, &"k".repeat(256), &sending(&["01012345678"]))).await;
    assert_eq!(reply.problem(), (400, "invalid-idempotency-key".to_owned()));
}
