//! What belongs to another tenant is answered exactly like what does not exist: for every endpoint that takes an id, as
//! the OpenAPI document lists them.

use serde_json::{Value, json};

use crate::support::{Api, Call, approval, sending, with};

const ABSENT: &str = "0197c0de0000700080000000000000ff";

/// Things of acme, by the name of the parameter that takes their id.
struct Things(Vec<(&'static str, String, String)>);

impl Things {
    async fn of(api: &Api) -> Self {
        let made = |reply: Value| reply["id"].as_str().unwrap().to_owned();
        let contact = made(api.post("/v1/contacts", &json!({"phone": "01012345678"})).await.json());
        api.project().await;
        let group = made(api.post("/v1/groups", &json!({"name": "모두"})).await.json());
        let template = made(api.post("/v1/templates", &json!({"name": "인사", "text": "안녕"})).await.json());
        let sending = made(api.post("/v1/sendings", &sending(&["01012345678"])).await.json());
        let sender = json!({"address": "0287654321", "relays": ["alpha"]});
        assert_eq!(api.post("/v1/senders", &sender).await.status, 201);
        api.approve("acme", "0287654321", &approval()).await;
        let mail = json!({"address": "news@acme.example", "relays": ["alpha"]});
        assert_eq!(api.post("/v1/senders", &mail).await.status, 201);
        api.approve("acme", "news@acme.example", &approval()).await;
        api.project().await;
        let absent = || ABSENT.to_owned();
        Self(vec![
            ("contact", contact, absent()),
            ("group", group, absent()),
            ("template", template, absent()),
            ("message", format!("{sending}-0"), format!("{ABSENT}-0")),
            ("sending", sending, absent()),
            ("address", "0287654321".to_owned(), "0287654322".to_owned()),
        ])
    }

    fn get(&self, name: &str) -> Option<(&str, &str)> {
        let found = self.0.iter().find(|(known, _, _)| *known == name)?;
        Some((&found.1, &found.2))
    }
}

/// A body that would be accepted if the thing were the caller's.
fn body_for(operation: &str) -> Option<Value> {
    Some(match operation {
        "update_contact" => json!({"phone": "01099999999"}),
        "rename_group" => json!({"name": "남의 것"}),
        "change_members" => json!({"add": [], "remove": []}),
        "update_template" => json!({"name": "남의 것", "text": "안녕"}),
        "cancel_sending" | "pause_sending" | "resume_sending" => json!({}),
        _ => return None,
    })
}

#[tokio::test]
async fn every_endpoint_with_an_id_hides_what_is_anothers() {
    let api = Api::new().await;
    let things = Things::of(&api).await;
    api.ok(Call::new("POST", "/v1/opt-outs").key(&api.acme).json(&json!({"address": "0287654321"}))).await;
    api.project().await;
    let document = api.ok(Call::new("GET", "/openapi.json")).await.json();
    let events = api.events().await;
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(name) = path.split('{').nth(1).and_then(|rest| rest.split('}').next()) else { continue };
        // Endpoints of the operator, of relays, and of channels, which everybody has.
        if path.starts_with("/v1/admin") || ["relay", "channel", "code"].contains(&name) {
            continue;
        }
        let (own, absent) = things.get(name).unwrap_or_else(|| panic!("{path}: add a thing for {name}"));
        for (method, operation) in methods.as_object().unwrap() {
            let method: &'static str = method.to_uppercase().leak();
            let id = operation["operationId"].as_str().unwrap();
            let ask = |value: &str| {
                let call = Call::new(method, path.replace(&format!("{{{name}}}"), value)).key(&api.rival);
                api.send(match body_for(id) {
                    Some(body) => call.json(&body),
                    None => call,
                })
            };
            let (theirs, nobodys) = (ask(own).await, ask(absent).await);
            assert_eq!(theirs.problem(), (404, "not-found".to_owned()), "{id}");
            assert_eq!(theirs.bytes, nobodys.bytes, "{id}");
            checked += 1;
        }
    }
    assert!(checked >= 15, "{checked} operations take an id");
    assert_eq!(api.events().await, events, "nothing was written");
}

#[tokio::test]
async fn the_owner_finds_what_is_hidden_from_others() {
    let api = Api::new().await;
    let things = Things::of(&api).await;
    for (name, list) in [
        ("contact", "contacts"),
        ("group", "groups"),
        ("template", "templates"),
        ("message", "messages"),
        ("sending", "sendings"),
        ("address", "senders"),
    ] {
        let (own, _) = things.get(name).unwrap();
        assert_eq!(api.get(&format!("/v1/{list}/{own}")).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn ids_of_another_tenant_in_a_body_or_query_are_refused() {
    let api = Api::new().await;
    let things = Things::of(&api).await;
    let id = |name: &str| json!(things.get(name).unwrap().0);
    let events = api.events().await;
    let post = |path: &str, body: Value| api.send(Call::new("POST", path).key(&api.rival).json(&body));
    let mut by_template = sending(&["01012345678"]);
    by_template.as_object_mut().unwrap().remove("text");
    by_template["template"] = id("template");
    assert_eq!(post("/v1/sendings", by_template).await.problem(), (422, "request-refused".to_owned()));
    let to_group = post("/v1/sendings", with(sending(&[]), "groups", json!([id("group")]))).await;
    assert_eq!(to_group.errors(), [(None, "groups[0]".to_owned(), "group_not_found".to_owned())]);
    let to_contact =
        post("/v1/sendings", with(sending(&[]), "recipients", json!([{"contact": id("contact")}]))).await;
    assert_eq!(to_contact.errors(), [(Some(0), "contact".to_owned(), "contact_not_found".to_owned())]);
    let from_sender =
        post("/v1/sendings", with(sending(&["01012345678"]), "from", json!("0287654321"))).await;
    assert_eq!(from_sender.problem(), (422, "request-refused".to_owned()));
    assert_eq!(from_sender.errors(), [(None, "from".to_owned(), "sender_not_requested".to_owned())]);
    let from_mail =
        post("/v1/sendings", with(sending(&["kim@example.com"]), "from_email", json!("news@acme.example")));
    let from_mail = from_mail.await;
    assert_eq!(from_mail.errors(), [(None, "from_email".to_owned(), "sender_not_requested".to_owned())]);
    let import = Call::new("POST", format!("/v1/contacts/import?group={}", id("group").as_str().unwrap()));
    let import = api.send(import.key(&api.rival).bytes("text/csv", b"phone\n01012345678\n".to_vec())).await;
    assert_eq!(import.problem(), (404, "not-found".to_owned()));
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn lists_hold_only_what_is_ones_own() {
    let api = Api::new().await;
    Things::of(&api).await;
    for list in ["contacts", "groups", "templates", "sendings", "opt-outs"] {
        let page = api.ok(Call::new("GET", format!("/v1/{list}")).key(&api.rival)).await.json();
        assert_eq!(page["items"], json!([]), "{list}");
    }
    let found = api.ok(Call::new("GET", "/v1/messages?to=01012345678").key(&api.rival)).await.json();
    assert_eq!(found["items"], json!([]));
    let senders = api.ok(Call::new("GET", "/v1/senders").key(&api.rival)).await.json();
    assert_eq!(senders["items"].as_array().unwrap().len(), 1);
    let export = api.ok(Call::new("GET", "/v1/contacts/export").key(&api.rival)).await;
    assert_eq!(export.text().lines().count(), 1);
    let statistics = api.ok(Call::new("GET", "/v1/statistics").key(&api.rival)).await.json();
    assert!(statistics["rows"].as_array().unwrap().iter().all(|row| row["messages"] == 0), "{statistics}");
}

/// The whole of a list, an item a page.
async fn paged(api: &Api, path: &str, key: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.ok(Call::new("GET", format!("{path}?limit=1{cursor}")).key(key)).await.json();
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// Things of both are made by turns, so that a page that forgot whose it is would show the other's. Each bears the first
/// digits of its owner's numbers.
#[tokio::test]
async fn the_pages_behind_the_first_hold_only_what_is_ones_own_too() {
    let api = Api::new().await;
    let tenants = [(&api.acme, "0101234567"), (&api.rival, "0109876543")];
    for number in 0..3 {
        for (key, mark) in tenants {
            let name = format!("{mark}{number}");
            let accepted = with(sending(&[name.as_str()]), "client_reference", json!(name));
            for (list, body) in [
                ("contacts", json!({"name": name, "phone": name})),
                ("groups", json!({"name": name})),
                ("templates", json!({"name": name, "text": "안녕"})),
                ("opt-outs", json!({"address": name})),
                ("sendings", accepted),
            ] {
                api.ok(Call::new("POST", format!("/v1/{list}")).key(key).json(&body)).await;
                api.project().await;
            }
        }
    }
    for list in ["contacts", "groups", "templates", "opt-outs", "sendings", "messages"] {
        for (key, mark) in tenants {
            let found = paged(&api, &format!("/v1/{list}"), key).await;
            assert_eq!(found.len(), 3, "{list}: {found:?}");
            assert!(found.iter().all(|item| item.to_string().contains(mark)), "{list}: {found:?}");
        }
    }
}

#[tokio::test]
async fn every_endpoint_that_is_not_open_asks_for_a_key() {
    let api = Api::new().await;
    let document = api.ok(Call::new("GET", "/openapi.json")).await.json();
    let mut open = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            if operation["security"].as_array().unwrap().contains(&json!({})) {
                open.push(id);
                continue;
            }
            let method: &'static str = method.to_uppercase().leak();
            let reply = api.send(Call::new(method, path.replace(['{', '}'], ""))).await;
            assert_eq!(reply.problem(), (401, "key-missing".to_owned()), "{id}");
        }
    }
    open.sort();
    let expected = [
        "get_docs",
        "get_health",
        "get_metrics",
        "get_openapi",
        "get_problem",
        "get_ready",
        "list_problems",
        "push_receipts",
    ];
    assert_eq!(open, expected);
}
