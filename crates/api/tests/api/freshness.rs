//! Who has written finds what was written, although the read models are a moment behind the log.

use kite_api::ApiConfig;
use kite_commands::accept::AcceptLimits;
use serde_json::{Value, json};

use crate::support::{ADMIN, Api, Call, filled, sending};

/// A house where a read waits for as long as any test could take.
async fn patient() -> Api {
    Api::with(ApiConfig { read_wait_ms: 60_000, ..ApiConfig::default() }, AcceptLimits::default()).await
}

#[tokio::test]
async fn what_was_just_written_is_found_where_the_answer_says() {
    let api = patient().await;
    let contact = json!({"name": "홍길동", "phone": "01012345678"});
    for (path, body) in [
        ("/v1/sendings", sending(&["01012345678"])),
        ("/v1/opt-outs", json!({"address": "01012345678"})),
        ("/v1/contacts", contact),
        ("/v1/groups", json!({"name": "모두"})),
    ] {
        let written = while_projecting(&api, api.post(path, &body)).await;
        let location = written.header("location").unwrap_or_else(|| panic!("{}", written.text())).to_owned();
        let (found, ()) = tokio::join!(api.get(&location), api.project());
        assert_eq!(found.status, 200, "{location}: {}", found.text());
    }
    let id = api.post("/v1/sendings", &sending(&["01012345678"])).await.json()["id"].clone();
    let message = format!("/v1/messages/{}-0", id.as_str().unwrap());
    let (found, ()) = tokio::join!(api.get(&message), api.project());
    assert_eq!(found.status, 200, "{}", found.text());
}

#[tokio::test]
async fn a_policy_that_was_just_defined_is_the_one_that_is_shown() {
    let api = patient().await;
    let policy = Call::new("PUT", "/v1/policies/sms").key(&api.acme).json(&json!({"objective": "price"}));
    let version = api.ok(policy).await.json()["version"].clone();
    let (shown, ()) = tokio::join!(api.get("/v1/policies/sms"), api.project());
    assert_eq!((&shown.json()["version"], &shown.json()["objective"]), (&version, &json!("price")));
}

/// What comes of it while the read models follow the log. A refusal is answered once they know whom it binds.
async fn while_projecting<T>(api: &Api, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = api.project() => tokio::task::yield_now().await,
        }
    }
}

/// The answer to a read that begins right after a write, while the read models are still behind.
async fn read_at_once(api: &Api, call: Call) -> String {
    let (found, ()) = tokio::join!(api.send(call), api.project());
    assert_eq!(found.status, 200, "{}", found.text());
    found.text()
}

#[tokio::test]
async fn a_list_holds_what_its_reader_has_just_written() {
    let api = patient().await;
    let list = |path: &str| Call::new("GET", path).key(&api.acme);
    let sender = json!({"address": "0287654321", "relays": ["alpha"]});
    for (path, body, shown) in [
        ("/v1/contacts", json!({"name": "홍길동", "phone": "01012345678"}), "01012345678"),
        ("/v1/groups", json!({"name": "모두"}), "모두"),
        ("/v1/senders", sender, "0287654321"),
        ("/v1/opt-outs", json!({"address": "01087654321"}), "01087654321"),
        ("/v1/templates", json!({"name": "인사", "text": "안녕"}), "인사"),
    ] {
        // A group of this name is looked for among those that were saved before.
        let written = while_projecting(&api, api.post(path, &body)).await;
        assert_eq!(written.status, 201, "{}", written.text());
        let text = read_at_once(&api, list(path)).await;
        assert!(text.contains(shown), "{path}: {text}");
    }
    let policy = Call::new("PUT", "/v1/policies/lms").key(&api.acme).json(&json!({"objective": "price"}));
    api.ok(policy).await;
    let text = read_at_once(&api, list("/v1/policies")).await;
    assert!(text.contains("\"lms\""), "{text}");
    let id = api.post("/v1/sendings", &sending(&["01012345678"])).await.json()["id"].clone();
    let id = id.as_str().unwrap();
    for path in ["/v1/sendings", "/v1/messages?to=01012345678", "/v1/statistics?group_by=class"] {
        let text = read_at_once(&api, list(path)).await;
        assert!(text.contains(id) || text.contains("\"messages\":1"), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_change_is_seen_by_who_has_just_made_it() {
    let api = patient().await;
    let id = api.post("/v1/sendings", &sending(&["01012345678"])).await.json()["id"].clone();
    let path = format!("/v1/sendings/{}", id.as_str().unwrap());
    api.project().await;
    assert_eq!(api.post(&format!("{path}/pause"), &json!({})).await.status, 200);
    let text = read_at_once(&api, Call::new("GET", path.clone()).key(&api.acme)).await;
    assert!(text.contains("\"paused\""), "{text}");
    let admin = format!("/v1/admin/tenants/acme{}", path.trim_start_matches("/v1"));
    api.ok(Call::new("POST", format!("{admin}/cancel")).key(ADMIN).json(&json!({"reason": "test"}))).await;
    let text = read_at_once(&api, Call::new("GET", "/v1/admin/sendings").key(ADMIN)).await;
    assert!(text.contains("cancelled_at"), "the operator sees what it did: {text}");
}

#[tokio::test]
async fn who_wrote_is_not_kept_from_an_older_list_for_long_and_who_did_not_is_not_kept_at_all() {
    let api = Api::new().await;
    api.post("/v1/contacts", &json!({"phone": "01012345678"})).await;
    // The read models stand still.
    let listed = api.get("/v1/contacts").await;
    assert_eq!((listed.status.as_u16(), &listed.json()["items"]), (200, &json!([])));
    let api = patient().await;
    api.post("/v1/contacts", &json!({"phone": "01012345678"})).await;
    let other = api.send(Call::new("GET", "/v1/contacts").key(&api.rival)).await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn what_may_only_not_be_seen_yet_is_not_called_absent() {
    let api = Api::new().await;
    let written = api.post("/v1/sendings", &sending(&["01012345678"])).await;
    let location = written.header("location").unwrap().to_owned();
    assert_eq!(api.get(&location).await.problem(), (503, "not-caught-up".to_owned()));
    let stranger = api.send(Call::new("GET", location.clone()).key(&api.rival)).await;
    assert_eq!(stranger.problem(), (404, "not-found".to_owned()), "it has written nothing to wait for");
    api.project().await;
    let absent = api.get("/v1/sendings/0197c0de0000700080000000000000ff").await;
    assert_eq!(absent.problem(), (404, "not-found".to_owned()));
}

#[tokio::test]
async fn the_headers_of_positions_are_described_where_they_are_used() {
    let api = Api::new().await;
    let document = api.ok(Call::new("GET", "/openapi.json")).await.json();
    let id = api.post("/v1/sendings", &sending(&["01012345678"])).await.json()["id"].clone();
    api.post("/v1/contacts", &json!({"phone": "01012345678"})).await;
    api.project().await;
    let (mut reads, mut writes) = (0, 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            writes += responses.values().filter(|one| one["headers"]["kite-position"].is_object()).count();
            let is_open = operation["security"].as_array().unwrap().contains(&json!({}));
            if method != "get" || is_open {
                continue;
            }
            let is_admin = path.starts_with("/v1/admin");
            let key = if is_admin { ADMIN } else { &api.acme };
            let filled = filled(path, id.as_str().unwrap());
            let query = match operation["operationId"].as_str().unwrap() {
                "search_messages" => "?to=01012345678",
                "get_recommendation" => "?channel=sms&objective=price",
                _ => "",
            };
            let call = Call::new("GET", format!("{filled}{query}")).key(key);
            let reply = api.send(call.header("kite-min-position", "soon")).await;
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let is_described = parameters.iter().any(|one: &Value| one["name"] == "kite-min-position");
            let is_read = reply.status == 400 && reply.text().contains("kite-min-position");
            assert_eq!(is_read, is_described, "{path}: {}", reply.text());
            reads += usize::from(is_described);
        }
    }
    assert_eq!(reads, 37, "every read takes it");
    assert!(writes >= 20, "{writes}");
}
