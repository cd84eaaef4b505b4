//! Sender identities, as tenants ask for them and the operator answers.

use chrono::Duration;
use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, Reply, approval, sending, with};

const NUMBER: &str = "0287654321";

fn wanted(address: &str) -> Value {
    json!({"address": address, "brand": "카이트", "refusal_number": "080-123-4567", "relays": ["alpha"]})
}

async fn operator(api: &Api, tenant: &str, address: &str, step: &str, body: &Value) -> Reply {
    let path = format!("/v1/admin/tenants/{tenant}/senders/{address}/{step}");
    api.send(Call::new("POST", path).key(ADMIN).json(body)).await
}

async fn waiting(api: &Api) -> Vec<(String, String)> {
    let list = Call::new("GET", "/v1/admin/senders?waiting=true").key(ADMIN);
    let page = api.ok(list).await.json();
    let word = |item: &Value, pointer: &str| item.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| (word(item, "/tenant"), word(item, "/sender/address"))).collect()
}

fn from_number() -> Value {
    with(sending(&["01012345678"]), "from", json!("02-8765-4321"))
}

async fn code(api: &Api) -> String {
    let reply = api.post("/v1/sendings", &from_number()).await;
    assert_eq!(reply.problem(), (422, "request-refused".to_owned()));
    let [(None, field, code)] = &reply.errors()[..] else { panic!("{}", reply.text()) };
    assert_eq!(field, "from");
    code.clone()
}

#[tokio::test]
async fn a_sender_is_asked_for_approved_and_sends_until_its_end() {
    let api = Api::new().await;
    let reply = api.post("/v1/senders", &wanted("02-8765-4321")).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (201, Some("/v1/senders/0287654321")));
    let sender = reply.json();
    assert_eq!((&sender["status"], &sender["approval"]), (&json!("requested"), &Value::Null));
    assert_eq!(sender["request"]["relays"], json!(["alpha"]));
    assert!(sender["request"]["requested_by"].as_str().unwrap().starts_with("key:"));
    assert_eq!(code(&api).await, "sender_requested");
    assert_eq!(waiting(&api).await, [("acme".to_owned(), NUMBER.to_owned())]);

    let approved = api.approve("acme", "02-8765-4321", &approval()).await.json();
    assert_eq!((&approved["status"], &approved["request"]), (&json!("approved"), &Value::Null));
    let shown = api.get("/v1/senders/0287654321").await.json();
    assert_eq!(shown, approved);
    let expected = json!({
        "brand": "카이트", "refusal_number": "0801234567", "relays": ["alpha", "beta"],
        "document": "certificate 1", "expires_at": "2028-01-15T00:00:00Z",
        "approved_at": "2027-01-15T08:00:00Z", "approved_by": "admin",
    });
    assert_eq!(shown["approval"], expected);
    assert_eq!(waiting(&api).await, []);
    assert_eq!(api.post("/v1/sendings", &from_number()).await.status, 202);

    api.clock.advance(Duration::days(365));
    assert_eq!(code(&api).await, "sender_expired");
    let list = |status: &str| {
        let path = format!("/v1/senders?status={status}");
        let api = &api;
        async move { api.get(&path).await.json()["items"].as_array().unwrap().len() }
    };
    assert_eq!((list("expired").await, list("approved").await), (2, 0));
}

#[tokio::test]
async fn a_refusal_has_a_reason_and_a_withdrawal_ends_what_was_approved() {
    let api = Api::new().await;
    api.post("/v1/senders", &wanted(NUMBER)).await;
    let path = format!("/v1/admin/tenants/acme/senders/{NUMBER}/refuse");
    let blank = api.send(Call::new("POST", path).key(ADMIN).json(&json!({"reason": " "}))).await;
    assert_eq!(blank.errors(), [(None, "reason".to_owned(), "empty".to_owned())], "{}", blank.text());
    let no = json!({"reason": "the certificate names another company"});
    let refused = operator(&api, "acme", NUMBER, "refuse", &no).await.json();
    assert_eq!(refused["status"], "refused");
    assert_eq!((&refused["ended"]["reason"], &refused["ended"]["by"]), (&no["reason"], &json!("admin")));
    assert_eq!(code(&api).await, "sender_refused");
    for step in ["approve", "refuse"] {
        let body = if step == "approve" { approval() } else { no.clone() };
        let again = operator(&api, "acme", NUMBER, step, &body).await;
        assert_eq!(again.problem(), (409, "not-possible-now".to_owned()), "{step}");
    }
    api.post("/v1/senders", &wanted(NUMBER)).await;
    api.approve("acme", NUMBER, &approval()).await;
    let withdrawn = operator(&api, "acme", NUMBER, "withdraw", &no).await.json();
    assert_eq!(
        (&withdrawn["status"], &withdrawn["ended"]["status"]),
        (&json!("withdrawn"), &json!("withdrawn"))
    );
    assert_eq!(code(&api).await, "sender_withdrawn");
    api.post("/v1/senders", &wanted(NUMBER)).await;
    api.approve("acme", NUMBER, &approval()).await;
    let own = || Call::new("DELETE", format!("/v1/senders/{NUMBER}")).key(&api.acme);
    assert_eq!(api.send(own()).await.status, 204);
    assert_eq!(code(&api).await, "sender_withdrawn");
    let events = api.events().await;
    assert_eq!(api.send(own()).await.status, 204, "it is so already");
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn an_address_is_not_approved_for_two_tenants_without_a_word() {
    let api = Api::new().await;
    for (one, other) in [(NUMBER, "02-8765-4321"), ("News@Acme.example", "news@acme.EXAMPLE")] {
        api.post("/v1/senders", &wanted(one)).await;
        api.ok(Call::new("POST", "/v1/senders").key(&api.rival).json(&wanted(other))).await;
        api.approve("acme", one, &approval()).await;
        let taken = operator(&api, "rival", other, "approve", &approval()).await;
        assert_eq!(taken.problem(), (409, "not-possible-now".to_owned()));
        assert_eq!(taken.errors(), [(None, "shared".to_owned(), "address_taken".to_owned())]);
        assert!(taken.json()["detail"].as_str().unwrap().contains("acme"), "{}", taken.text());
        let shared = with(approval(), "shared", json!(true));
        assert_eq!(operator(&api, "rival", other, "approve", &shared).await.status, 200);
    }
}

#[tokio::test]
async fn every_step_of_a_sender_is_in_the_audit_with_its_actor() {
    let api = Api::new().await;
    api.post("/v1/senders", &wanted(NUMBER)).await;
    api.approve("acme", NUMBER, &approval()).await;
    api.post("/v1/senders", &wanted(NUMBER)).await;
    operator(&api, "acme", NUMBER, "refuse", &json!({"reason": "no"})).await;
    api.ok(Call::new("DELETE", format!("/v1/senders/{NUMBER}")).key(&api.acme)).await;
    let page = api.get(&format!("/v1/audit/events?stream=identity-{NUMBER}")).await.json();
    let steps: Vec<(&str, &str)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["actor"].as_str().unwrap()))
        .map(|(kind, actor)| (kind, if actor.starts_with("key:") { "key" } else { actor }))
        .collect();
    let expected = [
        ("sender-requested", "key"),
        ("sender-approved", "admin"),
        ("sender-requested", "key"),
        ("sender-refused", "admin"),
        ("sender-withdrawn", "key"),
    ];
    assert_eq!(steps, expected);
    let theirs = Call::new("GET", format!("/v1/audit/events?stream=identity-{NUMBER}")).key(&api.rival);
    assert_eq!(api.ok(theirs).await.json()["items"], json!([]), "another tenant sees nothing of it");
}

#[tokio::test]
async fn an_approval_that_cannot_be_is_refused_with_its_field() {
    let api = Api::new().await;
    api.post("/v1/senders", &wanted(NUMBER)).await;
    let events = api.events().await;
    for (field, value, named, code) in [
        ("document", json!(" "), "document", "empty"),
        ("document", json!("가".repeat(201)), "document", "too_long"),
        ("expires_at", json!("2027-01-15T08:00:00Z"), "expires_at", "out_of_range"),
        ("expires_at", json!("2047-01-15T08:00:00Z"), "expires_at", "out_of_range"),
        ("relays", json!([]), "relays", "empty"),
        ("relays", json!(["alpha", "alpha"]), "relays[1]", "relay_repeated"),
        ("relays", json!(["alpha", "gamma"]), "relays[1]", "unknown_relay"),
    ] {
        let reply = operator(&api, "acme", NUMBER, "approve", &with(approval(), field, value)).await;
        assert_eq!(reply.problem(), (422, "refused".to_owned()), "{field}");
        assert_eq!(reply.errors(), [(None, named.to_owned(), code.to_owned())]);
    }
    for (tenant, address) in [("acme", "0211112222"), ("nobody", NUMBER), ("rival", NUMBER)] {
        let reply = operator(&api, tenant, address, "approve", &approval()).await;
        assert_eq!(reply.problem(), (404, "not-found".to_owned()), "{tenant} {address}");
    }
    let as_tenant = format!("/v1/admin/tenants/acme/senders/{NUMBER}/approve");
    assert_eq!(api.post(&as_tenant, &approval()).await.problem(), (403, "not-permitted".to_owned()));
    assert_eq!(api.events().await, events, "nothing was written");
}

#[tokio::test]
async fn the_operator_goes_through_all_senders_page_by_page() {
    let api = Api::new().await;
    for last in 0..5 {
        api.post("/v1/senders", &wanted(&format!("028765432{last}"))).await;
    }
    let rival = Call::new("POST", "/v1/senders").key(&api.rival).json(&wanted(NUMBER));
    api.ok(rival).await;
    let mut seen = Vec::new();
    let mut path = "/v1/admin/senders?status=requested&limit=2".to_owned();
    loop {
        let page = api.ok(Call::new("GET", path).key(ADMIN)).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|item| {
            (
                item["sender"]["address"].as_str().unwrap().to_owned(),
                item["tenant"].as_str().unwrap().to_owned(),
            )
        }));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/admin/senders?status=requested&limit=2&cursor={next}");
    }
    let mut expected: Vec<(String, String)> =
        (0..5).map(|last| (format!("028765432{last}"), "acme".to_owned())).collect();
    expected.insert(2, (NUMBER.to_owned(), "rival".to_owned()));
    assert_eq!(seen, expected);
    let of_rival = api.ok(Call::new("GET", "/v1/admin/senders?tenant=rival").key(ADMIN)).await.json();
    assert_eq!(of_rival["items"].as_array().unwrap().len(), 2);
    let one = Call::new("GET", format!("/v1/admin/tenants/rival/senders/{NUMBER}")).key(ADMIN);
    assert_eq!(api.ok(one).await.json()["sender"]["status"], "requested");
}
