//! The documents that are made from the program: current, complete, and served.

use kite_api::problem::Code;
use kite_api::{counters_markdown, openapi_json, problems_markdown};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{Api, Call};

/// The committed file must be what the program makes; `UPDATE_GENERATED=1` writes it.
fn check_committed(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "docs/{name} is not current: run UPDATE_GENERATED=1 cargo test -p kite-api");
}

#[test]
fn the_committed_openapi_document_is_current() {
    check_committed("openapi.json", &openapi_json());
}

#[test]
fn the_committed_problem_list_is_current() {
    check_committed("problems.md", &problems_markdown());
}

#[test]
fn the_committed_list_of_counters_is_current() {
    check_committed("counters.md", &counters_markdown());
}

#[test]
fn the_openapi_document_is_complete() {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            assert!(ids.insert(id.to_owned()), "{id} is used twice");
            assert!(
                operation["summary"].as_str().is_some_and(|summary| summary.len() > 10),
                "{id} has no summary"
            );
            assert!(
                tags.contains(operation["tags"][0].as_str().unwrap()),
                "{id} has a tag that is not described"
            );
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{id} does not say what it answers"
            );
            assert!(!responses.contains_key("default"), "{id}: every status is named, or none is checked");
            let is_secured = !operation["security"].as_array().unwrap().contains(&serde_json::json!({}));
            assert_eq!(responses.contains_key("401"), is_secured || id == "push_receipts", "{id}");
        }
    }
    let ready = &document["paths"]["/readyz"]["get"]["security"];
    assert_eq!(ready, &serde_json::json!([{}, {"admin_key": []}]), "no key, or one that shows more");
    assert!(ids.len() > 50, "{}", ids.len());
    references(&document, &mut |name| {
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not described");
    });
}

fn references(value: &Value, seen: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                seen(name.rsplit('/').next().unwrap());
            }
            map.values().for_each(|value| references(value, seen));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, seen)),
        _ => {}
    }
}

#[tokio::test]
async fn every_problem_has_a_page_and_is_listed() {
    let api = Api::new().await;
    let list = api.ok(Call::new("GET", "/problems")).await;
    assert!(list.header("content-type").unwrap().starts_with("text/html"));
    for code in Code::ALL.iter().map(|code| code.kind().code) {
        assert!(list.text().contains(&format!("href=\"/problems/{code}\"")), "{code}");
        let page = api.ok(Call::new("GET", format!("/problems/{code}"))).await;
        assert!(page.text().contains(code), "{code}");
    }
    let unknown = api.send(Call::new("GET", "/problems/moon")).await;
    assert_eq!(unknown.problem(), (404, "not-found".to_owned()));
}

#[tokio::test]
async fn the_documentation_is_served_and_asks_for_nothing_from_outside() {
    let api = Api::new().await;
    let page = api.ok(Call::new("GET", "/docs")).await;
    let text = page.text();
    assert!(text.contains("/v1/sendings") && text.contains("curl -sS -X POST"));
    assert!(text.contains("\n# optional: -H 'Idempotency-Key: …'"));
    assert!(!text.contains("\\\n  -H 'Idempotency-Key"), "what may be left out is no part of the command");
    assert!(!text.contains("<script") && !text.contains("<link") && !text.contains("@import"));
    let served = api.ok(Call::new("GET", "/openapi.json")).await;
    assert_eq!(served.text(), openapi_json());
}
