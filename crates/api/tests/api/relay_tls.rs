//! Authorities and certificates of relays: taken in whole, shown with their end, the key never shown.

use chrono::TimeDelta;
use kite_testkit::certificates::Made;
use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, SECRET, relay_body};

/// A certificate that holds from the year 2020 until the first day of this one, and its key.
fn made(name: &str, until: i32) -> (String, String) {
    let made = Made::self_signed(name, until).unwrap();
    (made.certificate, made.key)
}

/// A relay over HTTPS.
fn body(tls: Value, client_key: Option<&str>) -> Value {
    let mut body = relay_body("alpha");
    body["endpoint"]["base_url"] = json!("https://127.0.0.1:9");
    body["tls"] = tls;
    body["credentials"] = json!({"api_key": "relay-key", "receipt_secret": SECRET});
    if let Some(key) = client_key {
        body["credentials"]["client_key"] = json!(key);
    }
    body
}

fn define(body: &Value) -> Call {
    Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(body)
}

#[tokio::test]
async fn certificates_are_shown_with_their_end_and_the_key_never_comes_out() {
    let api = Api::new().await;
    let ((authority, _), (ours, key)) = (made("Relay Authority", 2040), made("kite", 2028));
    let tls = json!({"ca_pem": authority, "client_certificate_pem": ours});
    let defined = api.ok(define(&body(tls.clone(), Some(&key)))).await.json();
    assert_eq!(defined["credentials_set"], json!(["api_key", "receipt_secret", "client_key"]));
    assert_eq!(defined["tls"]["ca_pem"], authority);
    assert_eq!(
        defined["tls"]["certificates"],
        json!([
            {"field": "tls.ca_pem", "name": "CN=Relay Authority", "not_after": "2040-01-01T00:00:00Z", "standing": "valid"},
            {"field": "tls.client_certificate_pem", "name": "CN=kite", "not_after": "2028-01-01T00:00:00Z", "standing": "valid"},
        ])
    );

    // What is left out of the credentials stays.
    let kept = api.ok(define(&body(tls, None))).await.json();
    assert_eq!(kept["credentials_set"], json!(["api_key", "receipt_secret", "client_key"]));

    let end = "2028-01-01T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    for (at, standing) in [(end - TimeDelta::days(13), "ends_soon"), (end + TimeDelta::days(1), "ended")] {
        api.clock.advance(at - api.lots.journal().now());
        let shown = api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN)).await;
        assert_eq!(shown.json()["tls"]["certificates"][1]["standing"], standing);
        let audit = api.ok(Call::new("GET", "/v1/audit/events?stream=relay-alpha").key(ADMIN)).await;
        for reply in [&shown, &audit] {
            assert!(!reply.text().contains(key.lines().nth(1).unwrap()), "{}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_definition_without_tls_takes_it_away_and_one_never_given_shows_none() {
    let api = Api::new().await;
    let (authority, _) = made("Relay Authority", 2040);
    assert!(api.ok(define(&body(json!({"ca_pem": authority}), None))).await.json()["tls"].is_object());
    let without = api.ok(define(&relay_body("alpha"))).await.json();
    assert!(without.get("tls").is_none(), "{without}");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_field_and_without_its_text() {
    let api = Api::new().await;
    let ((ours, key), (ended, ended_key), (_, other_key)) =
        (made("kite", 2040), made("kite", 2026), made("kite", 2040));
    let own = |certificate: &str| json!({"client_certificate_pem": certificate});
    let ca = |text: &str| json!({"ca_pem": text});
    let table = [
        (ca("no certificate"), None, "tls.ca_pem", "invalid_pem"),
        (ca(&key), None, "tls.ca_pem", "holds_private_key"),
        (ca(&ended), None, "tls.ca_pem", "expired"),
        (own("no certificate"), Some(&key), "tls.client_certificate_pem", "invalid_pem"),
        (own(&ended), Some(&ended_key), "tls.client_certificate_pem", "expired"),
        (own(&ours), None, "credentials.client_key", "missing"),
        (own(&ours), Some(&ours), "credentials.client_key", "invalid_pem"),
        (own(&ours), Some(&other_key), "credentials.client_key", "does_not_fit"),
        (json!({}), Some(&key), "credentials.client_key", "not_used"),
    ];
    for (tls, client_key, field, code) in table {
        let reply = api.send(define(&body(tls, client_key.map(String::as_str)))).await;
        let errors = reply.json()["errors"].clone();
        let found: Vec<_> =
            errors.as_array().unwrap().iter().map(|error| (&error["field"], &error["code"])).collect();
        assert_eq!(
            (reply.status.as_u16(), found),
            (422, vec![(&json!(field), &json!(code))]),
            "{}",
            reply.text()
        );
        for key in [&key, &other_key, &ended_key] {
            assert!(!reply.text().contains(key.lines().nth(1).unwrap()), "{}", reply.text());
        }
    }
    let mut in_the_clear = body(ca(&ours), None);
    in_the_clear["endpoint"]["base_url"] = json!("http://127.0.0.1:9");
    let reply = api.send(define(&in_the_clear)).await;
    assert_eq!(reply.errors(), [(None, "tls.ca_pem".to_owned(), "not_used".to_owned())]);
}
