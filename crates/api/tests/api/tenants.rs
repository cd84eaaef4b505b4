//! What an operator sets for a tenant and does with its sendings, and what the tenant sees of it.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, Reply, sending, with};

async fn allow(api: &Api, limits: Value) -> Value {
    api.ok(Call::new("PUT", "/v1/admin/tenants/acme/limits").key(ADMIN).json(&limits)).await.json()
}

async fn sent(api: &Api) -> String {
    let reply = api.post("/v1/sendings", &sending(&["01012345678"])).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_owned()
}

async fn operate(api: &Api, sending: &str, verb: &str) -> Reply {
    let path = format!("/v1/admin/tenants/acme/sendings/{sending}/{verb}");
    api.send(Call::new("POST", path).key(ADMIN).json(&json!({"reason": "complaints"}))).await
}

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn limits_are_shown_with_what_is_in_use() {
    let api = Api::new().await;
    sent(&api).await;
    api.post("/v1/contacts", &json!({"phone": "01012345678"})).await;
    api.project().await;
    let shown = allow(&api, json!({"open_messages_max": 10, "contacts_max": 1})).await;
    assert_eq!(shown["limits_set"], json!({"open_messages_max": 10, "contacts_max": 1}));
    assert_eq!(
        (&shown["limits"]["open_messages_max"], &shown["limits"]["requests_per_second"]),
        (&json!(10), &json!(5_000))
    );
    let known = api.ok(Call::new("GET", "/v1/admin/tenants/acme").key(ADMIN)).await.json();
    let in_use = json!({"open_messages": 1, "open_passwords": 0, "scheduled_messages": 0, "contacts": 1});
    assert_eq!(known["in_use"], in_use);
    let unset = allow(&api, json!({})).await;
    assert_eq!(unset["limits_set"], json!({}));
    let nobody = api.send(Call::new("GET", "/v1/admin/tenants/nobody").key(ADMIN)).await;
    assert_eq!(nobody.problem(), problem(404, "not-found"));
    let wrong = Call::new("PUT", "/v1/admin/tenants/acme/limits").key(ADMIN);
    let wrong = api.send(wrong.json(&json!({"requests_per_second": 0}))).await;
    assert_eq!(wrong.errors(), [(None, "requests_per_second".to_owned(), "out_of_range".to_owned())]);
}

#[tokio::test]
async fn a_tenant_at_its_limit_is_told_so_and_nobody_else_is() {
    let api = Api::new().await;
    allow(&api, json!({"open_messages_max": 2})).await;
    sent(&api).await;
    let full = api.post("/v1/sendings", &sending(&["01012345678"])).await;
    assert_eq!(full.problem(), problem(429, "limit-reached"));
    assert_eq!(full.header("retry-after"), Some("5"));
    let password = with(sending(&["01012345678"]), "class", json!("otp"));
    assert_eq!(
        api.post("/v1/sendings", &password).await.status,
        202,
        "its passwords have a share of their own"
    );
    let never = api.post("/v1/sendings", &sending(&["01012345678", "01012345679"])).await;
    assert_eq!(never.problem(), problem(422, "request-refused"));
}

#[tokio::test]
async fn a_tenant_that_comes_too_fast_is_told_when_to_come_again() {
    let api = Api::new().await;
    allow(&api, json!({"requests_per_second": 1})).await;
    assert_eq!(api.get("/v1/sendings").await.status, 200);
    let fast = api.get("/v1/sendings").await;
    assert_eq!(fast.problem(), problem(429, "too-many-requests"));
    assert_eq!(fast.header("retry-after"), Some("1"));
    let password = with(sending(&["01012345678"]), "class", json!("otp"));
    assert_eq!(api.post("/v1/sendings", &password).await.status, 202);
    let rival = api.send(Call::new("GET", "/v1/sendings").key(&api.rival)).await;
    assert_eq!(rival.status, 200);
    api.clock.advance(TimeDelta::seconds(1));
    assert_eq!(api.get("/v1/sendings").await.status, 200);
}

#[tokio::test]
async fn contacts_past_the_limit_are_refused_by_row_and_those_that_are_there_are_not() {
    let api = Api::new().await;
    assert_eq!(api.post("/v1/contacts", &json!({"phone": "01012345678"})).await.status, 201);
    allow(&api, json!({"contacts_max": 2})).await;
    api.project().await;
    let file = "name,phone\nA,01012345678\nB,01011112222\nC,01033334444\n".as_bytes().to_vec();
    let import = Call::new("POST", "/v1/contacts/import").key(&api.acme).bytes("text/csv", file);
    let report = api.ok(import).await.json();
    assert_eq!((&report["imported"], &report["refused"]), (&json!(2), &json!(1)), "{report}");
    assert_eq!(
        (&report["errors"][0]["row"], &report["errors"][0]["code"]),
        (&json!(4), &json!("contacts_limit"))
    );
    api.project().await;
    let more = api.post("/v1/contacts", &json!({"phone": "01055556666"})).await;
    assert_eq!(more.errors(), [(None, "row".to_owned(), "contacts_limit".to_owned())]);
    let known = api.post("/v1/contacts", &json!({"phone": "01011112222", "name": "B2"})).await;
    assert_eq!(known.status, 201, "it is the same contact: {}", known.text());
}

#[tokio::test]
async fn a_paused_sending_says_so_and_goes_on_when_it_is_resumed() {
    let api = Api::new().await;
    let id = sent(&api).await;
    let paused = api.post(&format!("/v1/sendings/{id}/pause"), &json!({"reason": "wrong price"})).await;
    assert_eq!((paused.status.as_u16(), &paused.json()["is_paused"]), (200, &json!(true)));
    api.project().await;
    let shown = api.get(&format!("/v1/sendings/{id}")).await.json();
    assert_eq!((&shown["state"], &shown["paused"]["by"]), (&json!("paused"), &json!("tenant")));
    assert_eq!(shown["paused"]["reason"], "wrong price");
    let listed = api.get("/v1/sendings?state=paused").await.json();
    assert_eq!(listed["items"][0]["id"], json!(id));
    assert_eq!(api.post(&format!("/v1/sendings/{id}/pause"), &json!({})).await.status, 200);
    let resumed = api.post(&format!("/v1/sendings/{id}/resume"), &json!({})).await;
    assert_eq!(resumed.json(), json!({"is_paused": false}));
    api.project().await;
    assert_eq!(api.get("/v1/sendings?state=paused").await.json()["items"], json!([]));
}

#[tokio::test]
async fn an_operator_pauses_resumes_and_cancels_what_a_tenant_sends() {
    let api = Api::new().await;
    let id = sent(&api).await;
    assert_eq!(operate(&api, &id, "pause").await.json()["paused"]["by"], "operator");
    let refused = api.post(&format!("/v1/sendings/{id}/resume"), &json!({})).await;
    assert_eq!(refused.problem(), problem(409, "paused-by-operator"));
    api.project().await;
    let listed =
        api.ok(Call::new("GET", "/v1/admin/sendings?tenant=acme&state=paused").key(ADMIN)).await.json();
    assert_eq!(
        (&listed["items"][0]["tenant"], &listed["items"][0]["sending"]["id"]),
        (&json!("acme"), &json!(id))
    );
    let others = api.ok(Call::new("GET", "/v1/admin/sendings?tenant=rival").key(ADMIN)).await.json();
    assert_eq!(others["items"], json!([]));
    let audit = api.ok(Call::new("GET", "/v1/audit/events?type=sending-paused").key(ADMIN)).await.json();
    assert_eq!(
        (&audit["items"][0]["actor"], &audit["items"][0]["data"]["reason"]),
        (&json!("admin"), &json!("complaints"))
    );
    assert_eq!(operate(&api, &id, "resume").await.json()["is_paused"], false);
    assert_eq!(operate(&api, &id, "cancel").await.json()["cancelled"], 1);
    assert_eq!(operate(&api, &id, "pause").await.problem(), problem(409, "not-possible-now"));
    let wrong = Call::new("POST", format!("/v1/admin/tenants/rival/sendings/{id}/pause")).key(ADMIN);
    assert_eq!(api.send(wrong.json(&json!({"reason": "x"}))).await.problem(), problem(404, "not-found"));
    let tenant = Call::new("GET", "/v1/admin/sendings").key(&api.acme);
    assert_eq!(api.send(tenant).await.problem(), problem(403, "not-permitted"));
}

#[tokio::test]
async fn all_sendings_are_listed_a_page_at_a_time() {
    let api = Api::new().await;
    for _ in 0..3 {
        sent(&api).await;
    }
    api.project().await;
    let first = api.ok(Call::new("GET", "/v1/admin/sendings?limit=2").key(ADMIN)).await.json();
    let next = first["next"].as_str().unwrap();
    let path = format!("/v1/admin/sendings?limit=2&cursor={next}");
    let rest = api.ok(Call::new("GET", path).key(ADMIN)).await.json();
    assert_eq!((first["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (2, 1));
    assert!(rest.get("next").is_none());
}
