//! Every exchange of docs/relay-protocol/ is played against the simulator.

use std::path::PathBuf;

use kite_relay_sim::{RelaySim, Scenario};
use serde_json::{Value, json};

fn fixtures() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/relay-protocol");
    let mut fixtures: Vec<(String, Value)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), serde_json::from_str(&text).unwrap())
        })
        .collect();
    fixtures.sort_by(|left, right| left.0.cmp(&right.0));
    fixtures
}

async fn call(base_url: &str, request: &Value) -> reqwest::Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let method: reqwest::Method = request["method"].as_str().unwrap().parse().unwrap();
    let mut builder = client.request(method, format!("{base_url}{}", request["path"].as_str().unwrap()));
    for (name, value) in request["headers"].as_object().unwrap() {
        builder = builder.header(name, value.as_str().unwrap());
    }
    builder.body(request["body"].to_string()).send().await.unwrap()
}

/// Replaces what depends on the clock, after checking its form.
fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                match key.as_str() {
                    "at" => {
                        let text = member.as_str().unwrap();
                        assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
                        chrono::DateTime::parse_from_rfc3339(text).unwrap();
                        *member = json!("a time");
                    }
                    "retry_after_ms" => {
                        assert!(member.as_u64().unwrap() > 0);
                        *member = json!("a pause");
                    }
                    _ => mask(member),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn play(name: &str, fixture: &Value) {
    let scenario = json!({ "seed": 1, "relays": [fixture["relay"]] });
    let sim = RelaySim::start(Scenario::from_json(&scenario.to_string()).unwrap()).await.unwrap();
    let base_url = sim.base_url(fixture["relay"]["id"].as_str().unwrap());
    for request in fixture["before"].as_array().unwrap() {
        call(&base_url, request).await;
    }
    settle(&sim, fixture).await;
    let response = call(&base_url, &fixture["request"]).await;
    let expected = &fixture["response"];
    assert_eq!(u64::from(response.status().as_u16()), expected["status"].as_u64().unwrap(), "{name}");
    for (header, value) in expected["headers"].as_object().unwrap() {
        assert_eq!(
            response.headers().get(header).map(|held| held.to_str().unwrap()),
            value.as_str(),
            "{name}: {header}"
        );
    }
    let bytes = response.bytes().await.unwrap();
    let mut body: Value =
        if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    let mut expected = expected["body"].clone();
    mask(&mut body);
    mask(&mut expected);
    assert_eq!(body, expected, "{name}: {body:#}");
    sim.shutdown().await;
}

/// Waits until the forced results of the calls before are in; ordinary recipients have none for an hour here.
async fn settle(sim: &RelaySim, fixture: &Value) {
    let messages = fixture["before"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|request| request["body"]["messages"].as_array());
    let forced: Vec<&Value> = messages
        .flatten()
        .filter(|message| message["to"].as_str().unwrap().starts_with("010990000"))
        .collect();
    let in_time = || {
        forced.iter().all(|message| {
            let entry = sim.ledger().find("alpha", message["reference"].as_str().unwrap());
            entry.is_none_or(|entry| entry.status != kite_relay_sim::EntryStatus::Accepted)
        })
    };
    super::support::eventually("forced results are in", in_time).await;
}

#[tokio::test]
async fn the_simulator_answers_as_every_fixture_says() {
    let mut played = 0;
    for (name, fixture) in fixtures() {
        if fixture["direction"] == "client_to_relay" {
            play(&name, &fixture).await;
            played += 1;
        }
    }
    assert!(played >= 14, "only {played} fixtures were found");
}

#[test]
fn the_example_scenario_is_one() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../infra/relay-sim/scenario.json");
    let scenario = Scenario::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(scenario.relays.len(), 4);
}

#[test]
fn scenarios_out_of_range_are_refused_with_the_relay_and_the_value() {
    let with = |behaviour: Value| {
        let relay = json!({ "id": "alpha", "api_key": "k", "channels": ["sms"], "behaviour": behaviour });
        format!(
            "{:#}",
            Scenario::from_json(&json!({ "seed": 1, "relays": [relay] }).to_string()).unwrap_err()
        )
    };
    assert!(with(json!({ "refusals": { "1": 0.7, "2": 0.7 } })).contains("\"alpha\": refusals"));
    assert!(with(json!({ "receipts": { "secret": "whsec_§" } })).contains("receipts.secret"));
    assert!(with(json!({ "latency": 1 })).contains("unknown field `latency`"));
    assert!(with(json!({ "receipts": { "batch_max": 501 } })).contains("receipts.batch_max"));
}
