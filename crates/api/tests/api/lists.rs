//! What is true of every list, of whichever there are in the document: how a page of it is asked for, and how it is refused.

use serde_json::{Value, json};
use std::collections::BTreeSet;

use crate::pushed_receipts::push;
use crate::support::{ADMIN, Api, Call, Reply, filled, sending};

/// An operation that gives pages.
struct List {
    id: String,
    /// Where it is called, with its variable parts filled in.
    path: String,
    key: String,
    parameters: Vec<Value>,
}

impl List {
    async fn ask(&self, api: &Api, query: &str) -> Reply {
        api.send(Call::new("GET", format!("{}?{query}", self.path)).key(&self.key)).await
    }

    fn parameter(&self, name: &str) -> &Value {
        let found = self.parameters.iter().find(|parameter| parameter["name"] == name);
        found.unwrap_or_else(|| panic!("{} has no parameter {name}", self.id))
    }
}

/// All that the document has: whose answer names a next page.
fn lists(api: &Api, document: &Value, sending: &str) -> Vec<List> {
    let mut lists = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
            let schema = schema.as_str().and_then(|name| document.pointer(name.strip_prefix('#')?));
            if !schema.is_some_and(|schema| schema["properties"]["next"].is_object()) {
                continue;
            }
            assert_eq!(method, "get", "{path}");
            let key = if path.starts_with("/v1/admin") { ADMIN } else { &api.acme };
            lists.push(List {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                path: filled(path, sending),
                key: key.to_owned(),
                parameters: operation["parameters"].as_array().cloned().unwrap_or_default(),
            });
        }
    }
    assert!(lists.len() >= 12, "the document has hardly any lists");
    lists
}

/// A house with two of everything that there are lists of. Answers the sending that has two messages.
async fn house_of_two() -> (Api, Value, String) {
    let api = Api::new().await;
    let mut last = String::new();
    for number in 1..=2 {
        let phone = format!("0101234567{number}");
        for (path, body) in [
            ("/v1/contacts", json!({"name": "홍길동", "phone": phone})),
            ("/v1/groups", json!({"name": format!("모두 {number}")})),
            ("/v1/templates", json!({"name": "인사", "text": "안녕"})),
            ("/v1/opt-outs", json!({"address": phone})),
        ] {
            let written = api.post(path, &body).await;
            assert_eq!(written.status, 201, "{}", written.text());
            api.project().await;
        }
        let accepted = api.post("/v1/sendings", &sending(&["01012345678", "01012345679"])).await.json();
        last = accepted["id"].as_str().unwrap().to_owned();
        let strange = json!({"receipts": [{"reference": phone, "status": "lost in thought"}]});
        let reply = api.send(push("alpha", &format!("msg_{number}"), &strange)).await;
        assert_eq!(reply.status, 422, "{}", reply.text());
    }
    api.project().await;
    let document = api.ok(Call::new("GET", "/openapi.json")).await.json();
    (api, document, last)
}

#[tokio::test]
async fn every_list_says_how_its_pages_are_asked_for() {
    let (api, document, sending) = house_of_two().await;
    for list in lists(&api, &document, &sending) {
        let (cursor, limit) = (list.parameter("cursor"), list.parameter("limit"));
        assert_eq!((&cursor["in"], &cursor["required"]), (&json!("query"), &json!(false)), "{}", list.id);
        assert_eq!((&limit["in"], &limit["required"]), (&json!("query"), &json!(false)), "{}", list.id);
        let schema = json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 50});
        assert_eq!(limit["schema"], schema, "{}", list.id);
    }
}

#[tokio::test]
async fn every_list_refuses_what_is_no_page_of_it_in_the_same_words() {
    let (api, document, sending) = house_of_two().await;
    for list in lists(&api, &document, &sending) {
        for (query, code, detail) in [
            ("limit=0", "invalid-parameter", "The parameter limit must be 1 to 200."),
            ("limit=201", "invalid-parameter", "The parameter limit must be 1 to 200."),
            ("limit=9999999", "invalid-parameter", "The parameter limit must be 1 to 200."),
            (
                "limit=many",
                "invalid-parameter",
                "The parameter limit: a whole number within its range is expected.",
            ),
            (
                "cursor=",
                "invalid-parameter",
                "The parameter cursor is empty: give it a value, or leave it out.",
            ),
            ("cursor=nonsense", "invalid-cursor", "The cursor cannot be read."),
            ("cursor=00", "invalid-cursor", "The cursor cannot be read."),
        ] {
            let reply = list.ask(&api, query).await;
            assert_eq!(reply.problem(), (400, code.to_owned()), "{} {query}", list.id);
            assert_eq!(reply.json()["detail"], detail, "{} {query}", list.id);
        }
        let unknown = list.ask(&api, "colour=red").await;
        assert_eq!(unknown.problem(), (400, "invalid-parameter".to_owned()), "{}", list.id);
        let detail = unknown.json()["detail"].as_str().unwrap().to_owned();
        for parameter in list.parameters.iter().filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            assert!(detail.contains(&format!("`{name}`")), "{} does not name {name}: {detail}", list.id);
        }
    }
}

/// Which lists are one and the same, asked for in two places: they take each other's cursors.
fn same_list(id: &str) -> &str {
    match id {
        "admin_search_messages" => "search_messages",
        other => other,
    }
}

#[tokio::test]
async fn every_list_takes_its_own_cursors_and_those_of_no_other() {
    let (api, document, sending) = house_of_two().await;
    let lists = lists(&api, &document, &sending);
    let mut cursors = Vec::new();
    for list in &lists {
        let page = list.ask(&api, "limit=1").await.json();
        let cursor = page["next"].as_str().map(str::to_owned);
        let cursor = cursor.unwrap_or_else(|| panic!("the house has not two of {}: {page}", list.id));
        let next = list.ask(&api, &format!("limit=1&cursor={cursor}")).await.json();
        assert_eq!(next["items"].as_array().map(Vec::len), Some(1), "{}: {next}", list.id);
        assert_ne!(next["items"], page["items"], "{}", list.id);
        cursors.push((list.id.clone(), cursor));
    }
    let mut refused = BTreeSet::new();
    for list in &lists {
        let others = cursors.iter().filter(|(from, _)| same_list(from) != same_list(&list.id));
        for (from, cursor) in others {
            let reply = list.ask(&api, &format!("cursor={cursor}")).await;
            assert_eq!(reply.problem(), (400, "invalid-cursor".to_owned()), "{} of {from}", list.id);
            let detail = "The cursor was not given out by this list.";
            assert_eq!(reply.json()["detail"], detail, "{} of {from}", list.id);
            refused.insert(list.id.clone());
        }
    }
    assert_eq!(refused.len(), lists.len());
}

/// A file begins behind a cursor too, and is refused as a page is: before any of it is written.
#[tokio::test]
async fn what_may_be_a_file_takes_the_same_cursors_and_no_limit() {
    let (api, document, sending) = house_of_two().await;
    let is_file = |list: &List| list.parameters.iter().any(|parameter| parameter["name"] == "format");
    let files: Vec<List> = lists(&api, &document, &sending).into_iter().filter(is_file).collect();
    assert!(files.len() >= 7);
    for list in files {
        let limited = list.ask(&api, "format=ndjson&limit=1").await;
        assert_eq!(limited.problem(), (422, "refused".to_owned()), "{}", list.id);
        let wrong = list.ask(&api, "format=csv&cursor=nonsense").await;
        assert_eq!(wrong.problem(), (400, "invalid-cursor".to_owned()), "{}", list.id);
        let whole = list.ask(&api, "format=ndjson").await.text();
        let page = list.ask(&api, "limit=1").await.json();
        let cursor = page["next"].as_str().unwrap();
        let rest = list.ask(&api, &format!("format=ndjson&cursor={cursor}")).await.text();
        assert_eq!(rest.lines().count() + 1, whole.lines().count(), "{}", list.id);
        assert!(!rest.is_empty() && whole.ends_with(&rest), "{}", list.id);
    }
}
