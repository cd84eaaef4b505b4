//! The log as it is shown.

use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, sending};

fn kinds(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_message_shows_its_events_and_nobody_elses() {
    let api = Api::new().await;
    let accepted = api.post("/v1/sendings", &sending(&["01012345678", "01012345679"])).await.json();
    let id = accepted["id"].as_str().unwrap();
    let events = api.get(&format!("/v1/messages/{id}-1/events")).await.json();
    assert_eq!(kinds(&events), ["lot-accepted", "sending-accepted"]);
    let lot = &events["items"][0];
    assert_eq!(
        (&lot["is_excerpt"], &lot["tenant"], &lot["correlation"]),
        (&json!(true), &json!("acme"), &events["items"][1]["correlation"])
    );
    assert_eq!(lot["data"]["personal"]["recipients"], json!([{"to": "01012345679"}]));
    assert!(lot["actor"].as_str().unwrap().starts_with("key:"));
    let same = api.get(&format!("/v1/audit/events?message={id}-1")).await.json();
    assert_eq!(same["items"], events["items"]);
    assert_eq!(
        api.get(&format!("/v1/messages/{id}-2/events")).await.problem(),
        (404, "not-found".to_owned())
    );
}

#[tokio::test]
async fn events_are_found_by_stream_correlation_type_and_time() {
    let api = Api::new().await;
    let accepted = api.post("/v1/sendings", &sending(&["01012345678"])).await.json();
    let id = accepted["id"].as_str().unwrap();
    let by_stream = api.get("/v1/audit/events?stream=policy-acme-sms").await.json();
    assert_eq!(kinds(&by_stream), ["policy-defined"]);
    let by_correlation = api.get(&format!("/v1/audit/events?correlation={id}")).await.json();
    assert_eq!(kinds(&by_correlation), ["lot-accepted", "sending-accepted"]);
    api.clock.advance(chrono::Duration::hours(1));
    api.post("/v1/contacts", &json!({"phone": "01012345678"})).await;
    let later = api.get("/v1/audit/events?from=2027-01-15T08:30:00Z").await.json();
    assert_eq!(kinds(&later), ["contacts-saved"]);
    let earlier = api.get("/v1/audit/events?until=2027-01-15T08:30:00Z&type=sender-approved").await.json();
    assert_eq!(kinds(&earlier), ["sender-approved"]);
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap() {
    let api = Api::new().await;
    for count in 0..7 {
        api.post("/v1/contacts", &json!({"phone": format!("0101234567{count}")})).await;
    }
    let all = api.ok(Call::new("GET", "/v1/audit/events?limit=200").key(ADMIN)).await.json();
    let mut collected = Vec::new();
    let mut path = "/v1/audit/events?limit=3".to_owned();
    loop {
        let page = api.ok(Call::new("GET", path.clone()).key(ADMIN)).await.json();
        collected.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/audit/events?limit=3&cursor={next}");
    }
    assert_eq!(json!(collected), all["items"]);
    assert!(collected.len() > 10);
}

#[tokio::test]
async fn the_pages_behind_the_first_hold_only_a_tenants_own_events_too() {
    let api = Api::new().await;
    for number in 0..4 {
        for key in [&api.acme, &api.rival] {
            let body = json!({"phone": format!("0101234567{number}")});
            api.ok(Call::new("POST", "/v1/contacts").key(key).json(&body)).await;
        }
    }
    let (mut cursor, mut found) = (String::new(), 0);
    loop {
        let page = api.get(&format!("/v1/audit/events?type=contacts-saved&limit=1{cursor}")).await.json();
        for event in page["items"].as_array().unwrap() {
            assert_eq!(event["tenant"], "acme");
            found += 1;
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, 4);
}

#[tokio::test]
async fn a_tenant_sees_its_own_events_and_the_operator_all() {
    let api = Api::new().await;
    let own = api.get("/v1/audit/events?limit=200").await.json();
    assert!(own["items"].as_array().unwrap().iter().all(|event| event["tenant"] == "acme"));
    for stream in ["relay-alpha", "policy-rival-sms"] {
        assert_eq!(
            api.get(&format!("/v1/audit/events?stream={stream}")).await.json()["items"],
            json!([]),
            "{stream}"
        );
        let all =
            api.ok(Call::new("GET", format!("/v1/audit/events?stream={stream}")).key(ADMIN)).await.json();
        assert_eq!(all["items"].as_array().unwrap().len(), 1, "{stream}");
    }
}
