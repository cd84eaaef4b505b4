//! Credentials of relays: they stay where they were given for, and go when they are taken away.

use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, SECRET, relay_body};

fn define(body: &Value) -> Call {
    Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(body)
}

/// At this address, with these credentials.
fn at(base_url: &str, credentials: Value) -> Value {
    let mut body = relay_body("alpha");
    body["endpoint"]["base_url"] = json!(base_url);
    body["credentials"] = credentials;
    body
}

#[tokio::test]
async fn a_stored_key_is_not_sent_to_an_address_that_somebody_puts_in_the_place_of_the_relay_s() {
    let api = Api::new().await;
    let ours = json!({"api_key": "relay-key", "receipt_secret": SECRET});
    api.ok(define(&at("https://relay.example/a", ours))).await;

    let both = ["credentials.api_key", "credentials.receipt_secret"];
    for elsewhere in ["https://other.example/a", "http://relay.example/a", "https://relay.example:8443/a"] {
        let reply = api.send(define(&at(elsewhere, json!({})))).await;
        let again = both.map(|field| (None, field.to_owned(), "give_again".to_owned()));
        assert_eq!((reply.status.as_u16(), reply.errors()), (422, again.to_vec()), "{}", reply.text());
        assert!(!reply.text().contains("relay-key"), "{}", reply.text());
    }
    let reply = api.send(define(&at("https://other.example", json!({"api_key": "new"})))).await;
    assert_eq!(reply.errors(), [(None, both[1].to_owned(), "give_again".to_owned())]);

    // The relay is where it was, and at the same address everything stays.
    let shown = api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN)).await.json();
    assert_eq!(shown["endpoint"]["base_url"], "https://relay.example/a");
    let kept = api.ok(define(&at("https://relay.example/b", json!({})))).await.json();
    assert_eq!(kept["credentials_set"], json!(["api_key", "receipt_secret"]));
    let moved = json!({"api_key": "new", "receipt_secret": SECRET});
    api.ok(define(&at("https://other.example", moved))).await;
}

#[tokio::test]
async fn null_takes_a_credential_away_and_what_is_left_out_stays() {
    let api = Api::new().await;
    let ours = json!({"api_key": "relay-key", "receipt_secret": SECRET});
    api.ok(define(&at("https://relay.example", ours))).await;
    let without = api.ok(define(&at("https://relay.example", json!({"api_key": null})))).await.json();
    assert_eq!(without["credentials_set"], json!(["receipt_secret"]));
    let reply = api.send(define(&at("https://relay.example", json!({"receipt_secret": null})))).await;
    assert_eq!(reply.errors(), [(None, "credentials.receipt_secret".to_owned(), "missing".to_owned())]);
    let mut elsewhere = at("https://other.example", json!({"receipt_secret": null}));
    elsewhere["receipts"] = json!("pull");
    assert_eq!(api.ok(define(&elsewhere)).await.json()["credentials_set"], json!([]));
}
