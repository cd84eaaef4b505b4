//! Keys: what each may do, until when, from where; and that nothing is told that opens anything.

use chrono::TimeDelta;
use kite_api::{ApiConfig, ClientRules, admin_router, public_router};
use kite_commands::accept::AcceptLimits;
use kite_commands::event_store::{Batch, BatchMode, EventStore, Expected, Metadata, NewEvent, StreamAppend};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use uuid::Uuid;

use crate::captured_log::CapturedLog;
use crate::pushed_receipts::receipt;
use crate::support::{ADMIN, Api, Call, Reply, relay_body, sending, start, with};

const ROLES: [&str; 3] = ["auditor", "operator", "administrator"];
const SCOPES: [&str; 3] = ["send", "read", "manage"];
/// What only an administrator may do.
const ADMINISTRATORS: [&str; 7] = [
    "create_tenant",
    "issue_api_key",
    "revoke_api_key",
    "issue_operator_key",
    "revoke_operator_key",
    "rotate_secrets",
    "release_instance",
];

fn post(path: &str, body: &Value) -> Call {
    Call::new("POST", path).key(ADMIN).json(body)
}

async fn issue(api: &Api, path: &str, body: &Value) -> (String, String) {
    let issued = api.ok(post(path, body)).await.json();
    let word = |name: &str| issued[name].as_str().unwrap().to_owned();
    (word("key_id"), word("key"))
}

async fn tenant_key(api: &Api, body: &Value) -> String {
    issue(api, "/v1/admin/tenants/acme/keys", body).await.1
}

async fn operator_key(api: &Api, name: &str, role: &str) -> String {
    issue(api, "/v1/admin/operator-keys", &json!({"name": name, "role": role})).await.1
}

/// An operation of the OpenAPI document.
struct Operation {
    id: String,
    method: &'static str,
    path: String,
    tags: Vec<String>,
    /// Nothing where no key is needed.
    takes: Vec<String>,
}

async fn operations(api: &Api) -> Vec<Operation> {
    let document = api.ok(Call::new("GET", "/openapi.json")).await.json();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let texts = |value: &Value| -> Vec<String> {
                value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            let security = operation["security"].as_array().unwrap();
            let ways: Vec<_> = security.iter().map(|one| one.as_object().unwrap()).collect();
            let is_open = ways.iter().any(|one| one.is_empty());
            let takes = ways.iter().filter(|_| !is_open).flat_map(|one| one.keys().cloned()).collect();
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().leak(),
                path: path.clone(),
                tags: texts(&operation["tags"]),
                takes,
            });
        }
    }
    operations
}

/// What an administrative call needs that is to succeed, made anew each time.
async fn filled(api: &Api, operation: &Operation, round: usize) -> Option<Call> {
    let id = api.post("/v1/sendings", &sending(&["01012345678"])).await.json()["id"].clone();
    let mut path = operation.path.replace("{tenant}", "acme").replace("{relay}", "alpha");
    path = path.replace("{sending}", id.as_str().unwrap()).replace("{address}", "0212345678");
    let sending_path = path.trim_end_matches("/resume").trim_end_matches("/pause").to_owned();
    let body = match operation.id.as_str() {
        "create_tenant" => json!({"tenant": format!("new-{round}"), "name": "New"}),
        "set_tenant_limits" => json!({"requests_per_second": 4_000 + round}),
        "issue_api_key" => json!({"label": "another"}),
        "issue_operator_key" => json!({"name": format!("new-{round}"), "role": "auditor"}),
        "define_relay" => relay_body("alpha"),
        "suspend_relay" | "admin_pause_sending" | "admin_cancel_sending" => json!({"reason": "test"}),
        "admin_resume_sending" => {
            api.ok(post(&format!("{sending_path}/pause"), &json!({"reason": "test"}))).await;
            json!({"reason": "test"})
        }
        "revoke_api_key" => {
            let made = issue(api, "/v1/admin/tenants/acme/keys", &json!({"label": "gone"})).await;
            return Some(Call::new(operation.method, path.replace("{key_id}", &made.0)));
        }
        "revoke_operator_key" => {
            let body = json!({"name": format!("gone-{round}"), "role": "auditor"});
            let made = issue(api, "/v1/admin/operator-keys", &body).await;
            return Some(Call::new(operation.method, path.replace("{key_id}", &made.0)));
        }
        "resume_relay" | "check_relay" => return Some(Call::new(operation.method, path)),
        _ if operation.method == "GET" => return Some(Call::new("GET", path.replace(['{', '}'], "0"))),
        _ => return None,
    };
    Some(Call::new(operation.method, path).json(&body))
}

#[tokio::test]
async fn every_role_may_what_its_work_needs_and_nothing_else() {
    let api = Api::new().await;
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push(operator_key(&api, role, role).await);
    }
    let (mut allowed, mut refused) = (0, 0);
    for (place, operation) in operations(&api).await.into_iter().enumerate() {
        if !operation.takes.iter().any(|scheme| scheme == "admin_key") {
            continue;
        }
        let least = match operation.method {
            "GET" => 0,
            _ if ADMINISTRATORS.contains(&operation.id.as_str()) => 2,
            _ => 1,
        };
        for (rank, key) in keys.iter().enumerate() {
            let call = filled(&api, &operation, place * 10 + rank).await;
            let is_known = call.is_some();
            let bare = || Call::new(operation.method, operation.path.replace(['{', '}'], "0"));
            let before = api.events().await;
            let reply = api.send(call.unwrap_or_else(bare).key(key)).await;
            let what = format!("{} as {}: {}", operation.id, ROLES[rank], reply.text());
            if rank < least {
                refused += 1;
                assert_eq!(reply.problem(), (403, "not-permitted".to_owned()), "{what}");
                assert_eq!(api.events().await, before, "{what}");
            } else if operation.path.contains("{message}") {
                assert_eq!(reply.status, 404, "{what}");
            } else if is_known {
                allowed += 1;
                assert!(reply.status.is_success(), "{what}");
            } else {
                assert!(![401, 403].contains(&reply.status.as_u16()), "{what}");
            }
        }
    }
    assert!(allowed >= 40 && refused >= 15, "{allowed} allowed, {refused} refused");
}

#[tokio::test]
async fn every_scope_opens_its_endpoints_and_no_other() {
    let api = Api::new().await;
    let mut keys = BTreeMap::new();
    for scope in SCOPES {
        keys.insert(scope, tenant_key(&api, &json!({"label": scope, "scopes": [scope]})).await);
    }
    let operator = operator_key(&api, "kim", "administrator").await;
    let (mut opened, mut closed) = (0, 0);
    for operation in operations(&api).await {
        let is_of_tenants = operation.takes.iter().any(|scheme| scheme == "api_key");
        if !is_of_tenants && !operation.takes.iter().any(|scheme| scheme == "admin_key") {
            continue;
        }
        let needed = match operation.method {
            _ if !is_of_tenants => "none",
            "GET" => "read",
            _ if operation.tags == ["sendings"] => "send",
            _ => "manage",
        };
        let path = operation.path.replace("{channel}", "sms").replace(['{', '}'], "0");
        let call = || Call::new(operation.method, path.clone());
        for (scope, key) in &keys {
            let before = api.events().await;
            let reply = api.send(call().key(key)).await;
            let what = format!("{} with {scope}: {}", operation.id, reply.text());
            if *scope == needed {
                opened += 1;
                assert!(![401, 403].contains(&reply.status.as_u16()), "{what}");
            } else {
                closed += 1;
                assert_eq!(reply.problem(), (403, "not-permitted".to_owned()), "{what}");
                assert_eq!(api.events().await, before, "{what}");
            }
        }
        if !operation.takes.iter().any(|scheme| scheme == "admin_key") {
            let reply = api.send(call().key(&operator)).await;
            assert_eq!(reply.problem(), (403, "not-permitted".to_owned()), "{} as operator", operation.id);
        }
    }
    assert!(opened >= 40 && closed >= 100, "{opened} opened, {closed} closed");
}

#[tokio::test]
async fn a_key_with_some_scopes_does_what_each_of_them_may() {
    let api = Api::new().await;
    let key = tenant_key(&api, &json!({"label": "shop", "scopes": ["send", "read", "send"]})).await;
    let sent = api.ok(Call::new("POST", "/v1/sendings").key(&key).json(&sending(&["01012345678"]))).await;
    api.project().await;
    api.ok(Call::new("GET", sent.header("location").unwrap()).key(&key)).await;
    let refused = api.send(Call::new("POST", "/v1/groups").key(&key).json(&json!({"name": "A"}))).await;
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "This endpoint needs a key with the scope manage; this one has: send, read.");
    let listed = api.ok(Call::new("GET", "/v1/admin/tenants/acme/keys").key(ADMIN)).await.json();
    assert_eq!(listed["items"][0]["scopes"], json!(["send", "read", "manage"]), "nothing was left out");
    assert_eq!(listed["items"][1]["scopes"], json!(["send", "read"]));
}

#[tokio::test]
async fn a_request_to_send_that_the_key_may_not_make_counts_like_any_other() {
    let api = Api::new().await;
    let key = tenant_key(&api, &json!({"label": "figures", "scopes": ["read"]})).await;
    let limits = Call::new("PUT", "/v1/admin/tenants/acme/limits").key(ADMIN);
    api.ok(limits.json(&json!({"requests_per_second": 2}))).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let call = Call::new("POST", "/v1/sendings").key(&key).json(&sending(&["01012345678"]));
        told.push(api.send(call).await.problem().0);
    }
    assert_eq!((told[0], told[3]), (403, 429), "{told:?}");
}

#[tokio::test]
async fn a_key_that_is_wrong_is_refused_with_every_field_that_is() {
    let api = Api::new().await;
    let events = api.events().await;
    let path = "/v1/admin/tenants/acme/keys";
    let body = json!({"label": "x", "scopes": [], "allowed_addresses": ["10.0.0.0/8", "office"]});
    let fields = |reply: &Reply| reply.errors().into_iter().map(|(_, field, _)| field).collect::<Vec<_>>();
    assert_eq!(fields(&api.send(post(path, &body)).await), ["scopes", "allowed_addresses[1]"]);
    let past = json!({"label": "x", "expires_at": "2020-01-01T00:00:00Z"});
    let refused = api.send(post(path, &past)).await;
    assert_eq!(refused.problem(), (422, "refused".to_owned()));
    assert_eq!(fields(&refused), ["expires_at"]);
    let unknown = json!({"label": "x", "scopes": ["everything"]});
    assert_eq!(api.send(post(path, &unknown)).await.problem(), (422, "invalid-body".to_owned()));
    let operator = json!({"name": "Kim Lee", "role": "auditor"});
    assert_eq!(fields(&api.send(post("/v1/admin/operator-keys", &operator)).await), ["name"]);
    let role = json!({"name": "kim", "role": "king"});
    assert_eq!(
        api.send(post("/v1/admin/operator-keys", &role)).await.problem(),
        (422, "invalid-body".to_owned())
    );
    assert_eq!(api.events().await, events);
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_only_its_holder_is_told() {
    let api = Api::new().await;
    let expires_at = start() + chrono::Duration::hours(1);
    let body = json!({"label": "x", "expires_at": expires_at});
    let (id, key) = issue(&api, "/v1/admin/tenants/acme/keys", &body).await;
    let read = |key: &str| api.send(Call::new("GET", "/v1/relays").key(key));
    assert_eq!(read(&key).await.status, 200);
    let unknown = read(&format!("kite_0197c0de0000700080000001_{}", "0".repeat(64))).await;
    api.clock.advance(chrono::Duration::hours(1));
    assert_eq!(read(&key).await.problem(), (401, "key-expired".to_owned()));
    let stranger = read(&format!("kite_{id}_{}", "0".repeat(64))).await;
    assert_eq!((stranger.status, stranger.text()), (unknown.status, unknown.text()));
    api.ok(Call::new("DELETE", format!("/v1/admin/tenants/acme/keys/{id}")).key(ADMIN)).await;
    let revoked = read(&key).await;
    assert_eq!((revoked.status, revoked.text()), (unknown.status, unknown.text()));
}

#[tokio::test]
async fn a_key_is_good_from_its_addresses_only_also_behind_a_proxy() {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let rules = ClientRules { trusted_proxies, ..ClientRules::default() };
    let api = Api::with_rules(ApiConfig::default(), AcceptLimits::default(), rules).await;
    let bound = json!({"label": "x", "allowed_addresses": ["192.0.2.0/24", "2001:db8:1:2:3::/80"]});
    let key = tenant_key(&api, &bound).await;
    let body = json!({"name": "kim", "role": "auditor", "allowed_addresses": ["192.0.2.7"]});
    let (id, operator) = issue(&api, "/v1/admin/operator-keys", &body).await;
    let read = || Call::new("GET", "/v1/relays").key(&key);
    let look = || Call::new("GET", "/v1/admin/tenants").key(&operator);
    assert_eq!(api.send_from("192.0.2.200", read()).await.status, 200);
    assert_eq!(api.send_from("2001:db8:1:2:3::5", read()).await.status, 200);
    // Of the same /64, but not of the key's network.
    let refused = (403, "address-not-allowed".to_owned());
    assert_eq!(api.send_from("2001:db8:1:2:4::5", read()).await.problem(), refused);
    assert_eq!(api.send_from("198.51.100.1", read()).await.problem(), refused);
    assert_eq!(api.send_from("10.0.0.1", read()).await.problem(), refused);
    let behind = |call: Call| call.header("x-forwarded-for", "192.0.2.7");
    assert_eq!(api.send_from("10.0.0.1", behind(read())).await.status, 200);
    assert_eq!(api.send_from("198.51.100.1", behind(read())).await.problem(), refused, "no proxy of ours");
    assert_eq!(api.send_from("10.0.0.1", behind(look())).await.status, 200);
    assert_eq!(api.send_from("192.0.2.8", look()).await.problem(), refused);
    let stranger = Call::new("GET", "/v1/admin/tenants").key(&format!("kiteop_{id}_0"));
    assert_eq!(api.send_from("192.0.2.8", stranger).await.problem(), (401, "key-invalid".to_owned()));
}

#[tokio::test]
async fn a_tenant_has_several_keys_and_each_is_revoked_alone() {
    let api = Api::new().await;
    let (old, old_key) = issue(&api, "/v1/admin/tenants/acme/keys", &json!({"label": "old"})).await;
    let (_, new_key) = issue(&api, "/v1/admin/tenants/acme/keys", &json!({"label": "new"})).await;
    let read = |key: &str| api.send(Call::new("GET", "/v1/relays").key(key));
    for key in [&api.acme, &old_key, &new_key] {
        assert_eq!(read(key).await.status, 200);
    }
    let foreign = Call::new("DELETE", format!("/v1/admin/tenants/rival/keys/{old}")).key(ADMIN);
    assert_eq!(api.send(foreign).await.problem(), (404, "not-found".to_owned()));
    api.ok(Call::new("DELETE", format!("/v1/admin/tenants/acme/keys/{old}")).key(ADMIN)).await;
    assert_eq!([read(&old_key).await.status, read(&new_key).await.status].map(|s| s.as_u16()), [401, 200]);
    let listed = api.ok(Call::new("GET", "/v1/admin/tenants/acme/keys").key(ADMIN)).await.json();
    let told: Vec<(&str, bool)> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["label"].as_str().unwrap(), key["revoked_at"].is_string()))
        .collect();
    assert_eq!(told, [("test", false), ("old", true), ("new", false)]);
    for _ in 0..98 {
        tenant_key(&api, &json!({"label": "many"})).await;
    }
    let one_more = api.send(post("/v1/admin/tenants/acme/keys", &json!({"label": "too many"}))).await;
    assert_eq!(one_more.problem(), (409, "not-possible-now".to_owned()));
}

#[tokio::test]
async fn what_an_operator_does_stands_in_the_log_under_its_name() {
    let api = Api::new().await;
    let key = operator_key(&api, "kim", "operator").await;
    let suspend = Call::new("POST", "/v1/admin/relays/alpha/suspend").key(&key);
    api.ok(suspend.json(&json!({"reason": "outage"}))).await;
    let events = api.ok(Call::new("GET", "/v1/audit/events?type=relay-suspended").key(&key)).await.json();
    assert_eq!(events["items"][0]["actor"], "operator:kim");
    let issued = api.ok(Call::new("GET", "/v1/audit/events?type=operator-key-issued").key(&key)).await.json();
    assert_eq!(
        (&issued["items"][0]["actor"], &issued["items"][0]["data"]["hash"]),
        (&json!("admin"), &json!("(not shown)"))
    );
    let again = api.send(post("/v1/admin/operator-keys", &json!({"name": "kim", "role": "auditor"}))).await;
    assert_eq!(again.problem(), (409, "not-possible-now".to_owned()));
    let listed = api.ok(Call::new("GET", "/v1/admin/operator-keys").key(&key)).await.json();
    let kim = &listed["items"][0];
    assert_eq!(
        (&kim["name"], &kim["role"], &kim["issued_by"]),
        (&json!("kim"), &json!("operator"), &json!("admin"))
    );
    let path = format!("/v1/admin/operator-keys/{}", kim["key_id"].as_str().unwrap());
    assert_eq!(
        api.send(Call::new("DELETE", path.clone()).key(&key)).await.problem(),
        (403, "not-permitted".to_owned())
    );
    api.ok(Call::new("DELETE", path.clone()).key(ADMIN)).await;
    let gone = api.send(Call::new("GET", "/v1/admin/tenants").key(&key)).await;
    assert_eq!(gone.problem(), (401, "key-invalid".to_owned()));
    assert_eq!(api.send(Call::new("DELETE", path).key(ADMIN)).await.problem(), (404, "not-found".to_owned()));
    operator_key(&api, "kim", "auditor").await;
}

#[tokio::test]
async fn when_a_key_was_last_used_is_shown() {
    let api = Api::new().await;
    let (_, key) = issue(&api, "/v1/admin/tenants/acme/keys", &json!({"label": "fresh"})).await;
    let last_used = async || {
        let listed = api.ok(Call::new("GET", "/v1/admin/tenants/acme/keys").key(ADMIN)).await.json();
        listed["items"][1].get("last_used_at").cloned()
    };
    assert_eq!(last_used().await, None);
    api.clock.advance(chrono::Duration::seconds(90));
    let used_at = start() + chrono::Duration::seconds(90);
    let wrong = format!("{}0", key.trim_end_matches(char::is_alphanumeric));
    api.send(Call::new("GET", "/v1/relays").key(&wrong)).await;
    assert_eq!(last_used().await, None, "a wrong key is no use of it");
    api.ok(Call::new("GET", "/v1/relays").key(&key)).await;
    api.clock.advance(chrono::Duration::seconds(90));
    assert_eq!(last_used().await, Some(json!(used_at)));
    let (key_id, _) = key.strip_prefix("kite_").unwrap().split_once('_').unwrap();
    api.ok(Call::new("DELETE", format!("/v1/admin/tenants/acme/keys/{key_id}")).key(ADMIN)).await;
    assert_eq!(last_used().await, Some(json!(used_at)), "it is revoked, and was used all the same");
}

#[tokio::test]
async fn wrong_keys_are_logged_by_address_and_without_the_key() {
    let log = CapturedLog::start();
    let rules = ClientRules { wrong_keys_per_address_max: 2, ..ClientRules::default() };
    let api = Api::with_rules(ApiConfig::default(), AcceptLimits::default(), rules).await;
    let read = |key: &str| Call::new("GET", "/v1/relays").key(key);
    let secret = "f00d".repeat(16);
    let key = format!("kite_0197c0de0000700080000001_{secret}");
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(api.send_from("198.51.100.1", read(&key)).await.problem().0);
    }
    assert_eq!(told, [401, 401, 429, 429]);
    api.send_from("198.51.100.2", read("a-password-typed-into-the-wrong-field")).await;
    let lines = log.text();
    let first: Vec<&str> = lines.lines().filter(|line| line.contains("a wrong key or signature")).collect();
    assert_eq!(first.len(), 2, "once an address: {lines}");
    assert!(first[0].contains("198.51.100.1") && first[0].contains("0197c0de0000700080000001"), "{lines}");
    assert!(first[1].contains("198.51.100.2"), "{lines}");
    assert!(lines.contains("too many wrong keys or signatures"), "{lines}");
    assert!(!lines.contains(&secret) && !lines.contains("a-password-typed"), "{lines}");
    assert_eq!(api.send_from("198.51.100.1", read(&api.acme)).await.status, 200, "a genuine one passes");
}

#[tokio::test]
async fn an_expired_key_and_one_from_elsewhere_count_as_wrong_ones() {
    let rules = ClientRules { wrong_keys_per_address_max: 1, ..ClientRules::default() };
    let api = Api::with_rules(ApiConfig::default(), AcceptLimits::default(), rules).await;
    let key = tenant_key(&api, &json!({"label": "x", "allowed_addresses": ["192.0.2.7"]})).await;
    let read = |key: &str| Call::new("GET", "/v1/relays").key(key);
    assert_eq!(api.send_from("192.0.2.8", read(&key)).await.problem().0, 403);
    let slowed = api.send_from("192.0.2.8", read(&key)).await;
    assert_eq!(slowed.problem(), (429, "too-many-wrong-keys".to_owned()));
    assert_eq!(slowed.header("retry-after"), Some("60"));
    assert_eq!(api.send_from("192.0.2.7", read(&key)).await.status, 200);
}

/// All that can be looked at afterwards: the log as an operator sees it, and every list that there is.
async fn everything_shown(api: &Api) -> String {
    let mut shown = String::new();
    let mut path = "/v1/audit/events?limit=200".to_owned();
    loop {
        let page = api.ok(Call::new("GET", path.clone()).key(ADMIN)).await;
        shown += &page.text();
        let Some(next) = page.json()["next"].as_str().map(str::to_owned) else { break };
        path = format!("/v1/audit/events?limit=200&cursor={next}");
    }
    for operation in operations(api).await.iter().filter(|operation| operation.method == "GET") {
        let path = operation.path.replace("{tenant}", "acme").replace("{relay}", "alpha");
        for key in [ADMIN, &api.acme] {
            shown += &api.send(Call::new("GET", path.replace(['{', '}'], "0")).key(key)).await.text();
        }
    }
    shown
}

#[tokio::test]
async fn a_secret_that_came_in_by_any_route_is_shown_by_none() {
    let log = CapturedLog::start();
    let api = Api::new().await;
    // The mark is in all of them, also in what is base64.
    let mark = "TWFya2VkU2VjcmV0";
    let mut problems = String::new();
    let define = |credentials: Value| {
        let body = with(relay_body("alpha"), "credentials", credentials);
        Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(&body)
    };
    let good = json!({"api_key": mark, "receipt_secret": format!("whsec_{mark}{mark}")});
    problems += &api.ok(define(good)).await.text();
    for wrong in [
        json!(mark),
        json!([mark]),
        json!({"api_key": {"key": mark}}),
        json!({"api_key": format!("{mark}\n"), "receipt_secret": mark}),
        json!({"api_key": mark, "user": format!("{mark}\u{0}")}),
        json!({"receipt_secret": format!("whsec_{mark}!")}),
    ] {
        let reply = api.send(define(wrong)).await;
        assert_eq!(reply.status, 422, "{}", reply.text());
        problems += &reply.text();
    }
    let mut in_address = relay_body("alpha");
    in_address["endpoint"]["base_url"] = json!(format!("https://user:{mark}@relay.example.com"));
    let reply = api.send(Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(&in_address)).await;
    assert_eq!(reply.status, 422);
    problems += &reply.text();
    for operation in operations(&api).await {
        let path = operation.path.replace(['{', '}'], "0");
        for key in [mark.to_owned(), format!("kite_{mark}_{mark}"), format!("kiteop_{mark}_{mark}")] {
            problems += &api.send(Call::new(operation.method, path.clone()).key(&key)).await.text();
        }
        let basic = format!("Basic {mark}");
        let call = Call::new(operation.method, path).header("authorization", basic);
        problems += &api.send(call).await.text();
    }
    for (id, signature) in [("msg_1", format!("v1,{mark}")), (mark, "v1,AAAA".to_owned())] {
        let call = Call::new("POST", "/v1/relays/alpha/receipts").json(&receipt("reference"));
        let call = call.header("webhook-id", id).header("webhook-signature", signature);
        let reply = api.send(call.header("webhook-timestamp", start().timestamp().to_string())).await;
        assert_eq!(reply.problem().0, 429, "it counts as a wrong key");
        problems += &reply.text();
    }
    let tenant = tenant_key(&api, &json!({"label": "x"})).await;
    let operator = operator_key(&api, "kim", "administrator").await;
    for key in [&tenant, &operator] {
        problems += &api.send(Call::new("GET", "/v1/admin/tenants").key(key)).await.text();
    }
    api.project().await;
    let shown = everything_shown(&api).await;
    assert!(shown.contains("relay-defined") && shown.contains("operator-key-issued"), "it was looked at");
    let lines = log.text();
    assert!(lines.contains("a wrong key or signature"), "the log was captured: {lines}");
    let secret_of = |key: &str| key.rsplit('_').next().unwrap().to_owned();
    for secret in [mark.to_owned(), secret_of(&tenant), secret_of(&operator), ADMIN.to_owned()] {
        for (where_from, text) in [("audit and lists", &shown), ("problems", &problems), ("log", &lines)] {
            let place = text.find(&secret).map(|at| text[at.saturating_sub(200)..at].to_owned());
            assert_eq!(place, None, "{where_from} tell {secret}");
        }
    }
}

#[tokio::test]
async fn with_a_listener_of_its_own_administration_is_nowhere_else() {
    let mut api = Api::new().await;
    let operator = operator_key(&api, "kim", "administrator").await;
    let get = |path: &str, key: &str| Call::new("GET", path).key(key);
    api.router = public_router(api.state.clone());
    for path in ["/v1/admin/tenants", "/v1/admin/operator-keys", "/metrics"] {
        let reply = api.send(get(path, ADMIN)).await;
        assert_eq!(reply.problem(), (404, "no-such-endpoint".to_owned()), "{path}");
    }
    for key in [ADMIN, &operator] {
        for path in ["/v1/audit/events", "/v1/statistics", "/v1/sendings"] {
            assert_eq!(api.send(get(path, key)).await.problem(), (403, "not-permitted".to_owned()), "{path}");
        }
    }
    for path in ["/v1/sendings", "/v1/audit/events", "/healthz", "/readyz", "/docs", "/problems"] {
        assert_eq!(api.send(get(path, &api.acme)).await.status, 200, "{path}");
    }
    api.router = admin_router(api.state.clone());
    for key in [ADMIN, &operator] {
        for path in ["/v1/admin/tenants", "/v1/audit/events", "/v1/statistics"] {
            assert_eq!(api.send(get(path, key)).await.status, 200, "{path}");
        }
    }
    for path in ["/metrics", "/healthz", "/readyz", "/docs"] {
        assert_eq!(api.send(Call::new("GET", path)).await.status, 200, "{path}");
    }
    let absent = api.send(get("/v1/sendings", &api.acme)).await;
    assert_eq!(absent.problem(), (404, "no-such-endpoint".to_owned()));
    let tenant = api.send(get("/v1/admin/tenants", &api.acme)).await;
    assert_eq!(tenant.problem(), (403, "not-permitted".to_owned()));
}

/// A key that was good a moment ago, and one that never was. Neither request needs the log for anything else.
async fn statuses(api: &Api) -> [u16; 2] {
    let list = |key: &str| Call::new("GET", "/v1/sendings").key(key);
    let (good, wrong) = (api.send(list(&api.acme)).await, api.send(list("kite_1_2")).await);
    [good, wrong].map(|reply| reply.status.as_u16())
}

#[tokio::test]
async fn while_the_log_is_away_keys_are_judged_for_a_minute_by_what_was_known() {
    let api = Api::of_several().await;
    assert_eq!(statuses(&api).await, [200, 401]);
    api.is_log_away.store(true, Ordering::SeqCst);
    assert_eq!(statuses(&api).await, [200, 401]);
    api.clock.advance(TimeDelta::milliseconds(59_999));
    assert_eq!(statuses(&api).await, [200, 401]);
    api.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(statuses(&api).await, [503, 503], "it may have been revoked since");
    api.is_log_away.store(false, Ordering::SeqCst);
    assert_eq!(statuses(&api).await, [200, 401]);
}

#[tokio::test]
async fn a_process_that_is_too_old_for_its_log_says_that_another_one_answers() {
    let api = Api::of_several().await;
    let metadata = Metadata {
        time: start(),
        tenant: None,
        correlation: Uuid::nil(),
        causation: None,
        traceparent: None,
        actor: "admin".into(),
    };
    let data = b"{}".to_vec().into();
    let of_tomorrow =
        NewEvent { id: Uuid::from_u128(1), kind: "relay-defined".into(), schema_version: 900, data };
    let append = StreamAppend {
        stream: "relay-alpha".into(),
        expected: Expected::Any,
        metadata,
        events: vec![of_tomorrow],
    };
    api.store.append(Batch::new(BatchMode::Independent, vec![append])).await.remove(0).unwrap();
    api.clock.advance(TimeDelta::seconds(59));
    assert_eq!(statuses(&api).await, [200, 401], "keys hold as they do while the log is away");
    api.clock.advance(TimeDelta::seconds(1));
    let reply = api.get("/v1/sendings").await;
    assert_eq!(reply.problem(), (503, "unavailable".to_owned()));
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("too old for its log"), "{detail}");
}
