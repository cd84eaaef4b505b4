//! Texts that are stored as they come have a length, and the document says which.

use kite_commands::accept::AcceptLimits;
use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, sending, with};

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_with_its_field() {
    let api = Api::new().await;
    let later = with(sending(&["01012345678"]), "scheduled_at", json!("2027-01-20T00:00:00Z"));
    let scheduled = api.post("/v1/sendings", &later).await;
    let cancel = format!("{}/cancel", scheduled.header("location").unwrap());
    let events = api.events().await;
    for (path, key, field, most, body) in [
        (cancel.as_str(), &*api.acme, "reason", 500, json!({})),
        ("/v1/admin/relays/alpha/suspend", ADMIN, "reason", 500, json!({})),
        ("/v1/admin/tenants", ADMIN, "name", 100, json!({"tenant": "new"})),
        ("/v1/admin/tenants/acme/keys", ADMIN, "label", 100, json!({})),
        ("/v1/senders", &*api.acme, "brand", 100, json!({"address": "0287654321", "relays": ["alpha"]})),
        ("/v1/templates", &*api.acme, "subject", 500, json!({"name": "인사", "text": "안녕"})),
        ("/v1/sendings", &*api.acme, "client_reference", 200, sending(&["01012345678"])),
    ] {
        let call =
            |text: String| Call::new("POST", path).key(key).json(&with(body.clone(), field, json!(text)));
        let reply = api.send(call("가".repeat(most + 1))).await;
        assert_eq!(
            (reply.status.as_u16(), reply.errors()),
            (422, vec![(None, field.to_owned(), "too_long".to_owned())])
        );
        assert_eq!(api.events().await, events, "{path}");
    }
    let reply = api.send(Call::new("POST", cancel).key(&api.acme)).await;
    assert_eq!(reply.status, 200, "a cancellation needs no body: {}", reply.text());
}

#[tokio::test]
async fn a_body_that_may_be_left_out_is_still_checked_when_it_is_there() {
    let api = Api::new().await;
    let accepted = api.post("/v1/sendings", &sending(&["01012345678"])).await;
    let path = format!("{}/cancel", accepted.header("location").unwrap());
    let post = || Call::new("POST", path.clone()).key(&api.acme);
    assert_eq!(api.send(post().bytes("text/plain", b"because".to_vec())).await.status, 415);
    assert_eq!(api.send(post().json(&json!({"why": "x"}))).await.problem(), (422, "invalid-body".to_owned()));
    assert_eq!(api.send(post().bytes("text/plain", Vec::new())).await.status, 200);
}

#[tokio::test]
async fn the_document_names_the_bounds_of_acceptance() {
    let api = Api::new().await;
    let document = api.ok(Call::new("GET", "/openapi.json")).await.json();
    let limits = AcceptLimits::default();
    let field = |schema: &str, name: &str| -> Value {
        document["components"]["schemas"][schema]["properties"][name].clone()
    };
    for (schema, name) in [("SendingBody", "client_reference"), ("RecipientBody", "reference")] {
        assert_eq!(field(schema, name)["maxLength"], limits.reference_characters_max, "{schema}.{name}");
    }
    assert_eq!(limits.custom_bytes_max, 4_096);
    assert!(field("SendingBody", "custom")["description"].as_str().unwrap().contains("4,096"));
}
