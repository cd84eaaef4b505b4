//! Texts that are stored as they come have a length, and the document says which.

use kite_commands::accept::AcceptLimits;
use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, relay_body, sending, with};

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

const ZERO: &str = "character_not_allowed";

#[tokio::test]
async fn a_zero_is_refused_with_its_field_wherever_a_text_comes_in() {
    let api = Api::new().await;
    let events = api.events().await;
    let bad = "a\u{0}b";
    let relay = with(relay_body("delta"), "name", json!(bad));
    for (method, path, key, field, body) in [
        ("POST", "/v1/admin/tenants", ADMIN, "name", json!({"tenant": "new", "name": bad})),
        ("PUT", "/v1/admin/relays/delta", ADMIN, "name", relay),
        ("POST", "/v1/admin/relays/alpha/suspend", ADMIN, "reason", json!({ "reason": bad })),
        ("POST", "/v1/templates", &*api.acme, "subject", json!({"name": "n", "text": "t", "subject": bad})),
        ("POST", "/v1/groups", &*api.acme, "name", json!({ "name": bad })),
        (
            "POST",
            "/v1/contacts",
            &*api.acme,
            "fields.a",
            json!({"phone": "01012345678", "fields": {"a": bad}}),
        ),
        ("POST", "/v1/sendings", &*api.acme, "custom.in[1]", {
            with(sending(&["01012345678"]), "custom", json!({"in": ["x", bad]}))
        }),
        ("POST", "/v1/sendings", &*api.acme, "client_reference", {
            with(sending(&["01012345678"]), "client_reference", json!(bad))
        }),
    ] {
        let reply = api.send(Call::new(method, path).key(key).json(&body)).await;
        let expected = (422, vec![(None, field.to_owned(), ZERO.to_owned())]);
        assert_eq!((reply.status.as_u16(), reply.errors()), expected, "{path}: {}", reply.text());
    }
    let csv = "phone,name\n01012345678,a\u{0}b\n".as_bytes().to_vec();
    let reply =
        api.send(Call::new("POST", "/v1/contacts/import").key(&api.acme).bytes("text/csv", csv)).await;
    assert!(reply.text().contains(ZERO) && reply.text().contains("\"row\":2"), "{}", reply.text());
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn a_zero_in_a_row_costs_that_row() {
    let api = Api::new().await;
    let rows = json!([
        {"to": "01012345678"}, {"to": "01012345679", "reference": "a\u{0}"},
        {"to": "01012345670", "variables": {"name": "\u{0}"}}, {"to": "0101234567\u{0}1"}
    ]);
    let reply = api.post("/v1/sendings", &with(sending(&[]), "recipients", rows)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let refused = &reply.json()["refused"];
    let told: Vec<_> =
        refused.as_array().unwrap().iter().map(|row| (&row["row"], &row["field"], &row["code"])).collect();
    let expected = json!([[1, "reference", ZERO], [2, "variables", ZERO], [3, "to", ZERO]]);
    assert_eq!(json!(told), expected);
}

#[tokio::test]
async fn amounts_of_a_relay_have_bounds() {
    let api = Api::new().await;
    let good = relay_body("delta");
    for (field, value) in [
        ("price_milliwon", json!(i64::MAX)),
        ("price_milliwon", json!(100_000_001)),
        ("price_milliwon", json!(-1)),
        ("receipt_deadline_seconds", json!(0)),
        ("receipt_deadline_seconds", json!(u32::MAX)),
    ] {
        let mut body = good.clone();
        body["channels"]["sms"][field] = value;
        let reply = api.send(Call::new("PUT", "/v1/admin/relays/delta").key(ADMIN).json(&body)).await;
        let expected = vec![(None, format!("channels.sms.{field}"), "out_of_range".to_owned())];
        assert_eq!((reply.status.as_u16(), reply.errors()), (422, expected), "{}", reply.text());
    }
    let mut body = good;
    body["channels"]["sms"]["price_milliwon"] = json!(100_000_000);
    api.ok(Call::new("PUT", "/v1/admin/relays/delta").key(ADMIN).json(&body)).await;
}

#[tokio::test]
async fn the_work_of_a_request_is_bounded_by_its_variables() {
    let api = Api::new().await;
    let text = |count: usize| (0..count).map(|number| format!("#{{v{number}}}")).collect::<String>();
    let variables: Value = (0..101).map(|number| (format!("v{number}"), json!("x"))).collect();
    let recipients = json!([{"to": "01012345678", "variables": variables}, {"to": "01012345679"}]);
    let many_places = with(sending(&["01012345678"]), "text", json!("#{a}".repeat(201)));
    for path in ["/v1/sendings", "/v1/sendings/preview"] {
        for (body, field, code) in [
            (with(sending(&["01012345678"]), "text", json!(text(14_000))), "text", "too_many_variables"),
            (many_places.clone(), "text", "too_many_placeholders"),
            (
                with(sending(&["01012345678"]), "variables", variables.clone()),
                "variables",
                "too_many_variables",
            ),
            (
                with(sending(&[]), "groups", json!(vec!["0197c0de000070008000000000000003"; 101])),
                "groups",
                "too_many",
            ),
        ] {
            let reply = api.post(path, &body).await;
            let expected = vec![(None, field.to_owned(), code.to_owned())];
            assert_eq!((reply.status.as_u16(), reply.errors()), (422, expected), "{path}: {}", reply.text());
        }
        let reply = api.post(path, &with(sending(&[]), "recipients", recipients.clone())).await;
        assert!(reply.status.is_success(), "{}", reply.text());
        assert_eq!(reply.json()["refused"][0]["code"], "too_many_variables");
    }
    let template = json!({"name": "n", "text": text(101)});
    let reply = api.post("/v1/templates", &template).await;
    assert_eq!(reply.errors(), vec![(None, "text".to_owned(), "too_many_variables".to_owned())]);
}

#[tokio::test]
async fn a_long_value_is_not_filled_in_for_ever() {
    let api = Api::new().await;
    let to: Vec<String> = (0..700).map(|number| format!("010{:08}", 10_000_000 + number)).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let long = with(sending(&to), "text", json!("#{a}".repeat(100)));
    let long = with(long, "variables", json!({"a": "x".repeat(4_000)}));
    let reply = api.post("/v1/sendings/preview", &long).await;
    let refused = reply.json()["refused"].as_array().cloned().unwrap_or_default();
    let code = |row: usize| refused[row]["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!((refused.len(), code(699)), (700, "values_too_large".to_owned()), "{}", code(0));
    assert_ne!(code(0), "values_too_large");
}

#[tokio::test]
async fn failing_over_has_bounds_in_a_policy_and_in_a_sending() {
    let api = Api::new().await;
    for failover in
        [json!({"attempts_max": 0}), json!({"attempts_max": 21}), json!({"wait_seconds": u32::MAX})]
    {
        let policy = json!({"objective": "price", "failover": failover});
        let reply = api.send(Call::new("PUT", "/v1/policies/sms").key(&api.acme).json(&policy)).await;
        assert_eq!((reply.status.as_u16(), &*reply.errors()[0].2), (422, "out_of_range"));
        let reply = api.post("/v1/sendings", &with(sending(&["01012345678"]), "failover", failover)).await;
        assert_eq!((reply.status.as_u16(), &*reply.errors()[0].2), (422, "out_of_range"));
    }
}
