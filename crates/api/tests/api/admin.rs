//! What the operator does, and what a tenant sees of it.

use serde_json::json;

use crate::support::{ADMIN, Api, Call, SECRET, relay_body};

#[tokio::test]
async fn credentials_go_in_and_never_come_out() {
    let api = Api::new().await;
    api.project().await;
    let mut body = relay_body("alpha");
    body["channels"]["sms"]["price_milliwon"] = json!(7_500);
    body.as_object_mut().unwrap().remove("credentials");
    let replies = [
        api.ok(Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(&body)).await,
        api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN)).await,
        api.ok(Call::new("GET", "/v1/admin/relays").key(ADMIN)).await,
        api.get("/v1/relays").await,
        api.ok(Call::new("GET", "/v1/audit/events?stream=relay-alpha").key(ADMIN)).await,
        api.ok(Call::new("GET", "/v1/admin/tenants/acme/keys").key(ADMIN)).await,
        api.ok(Call::new("GET", "/v1/audit/events?type=api-key-issued").key(ADMIN)).await,
    ];
    for reply in &replies {
        let text = reply.text();
        assert!(!text.contains(SECRET) && !text.contains("relay-key"), "{text}");
        assert!(!text.contains(&api.acme) && !text.contains("\"hash\":\"0"), "{text}");
    }
    assert_eq!(replies[0].json()["credentials_set"], json!(["api_key", "receipt_secret"]));
    assert_eq!(replies[3].json()["items"][0]["channels"]["sms"]["price_milliwon"], 7_500);
    assert!(replies[3].json()["items"][0].get("endpoint").is_none());
}

/// Every value is another, so that two that changed places would show.
#[tokio::test]
async fn a_relay_is_shown_with_what_it_was_defined_with() {
    let api = Api::new().await;
    for (deduplicates, answers_status) in [(true, false), (false, true)] {
        let mut body = relay_body("gamma");
        body["channels"] = json!({
            "sms": {"price_milliwon": 7_001, "bills": "accepted", "receipt_deadline_seconds": 3_601},
            "lms": {"price_milliwon": 27_002, "bills": "delivered", "receipt_deadline_seconds": 3_602},
            "email": {"price_milliwon": 503, "bills": "accepted", "receipt_deadline_seconds": 3_603}
        });
        body["batch_max"] = json!(141);
        body["rate_parts_per_second"] = json!(142);
        body["calls_in_flight_max"] = json!(143);
        body["answer_timeout_ms"] = json!(14_400);
        body["deduplicates"] = json!(deduplicates);
        body["answers_status"] = json!(answers_status);
        api.ok(Call::new("PUT", "/v1/admin/relays/gamma").key(ADMIN).json(&body)).await;
        api.project().await;
        let shown = api.ok(Call::new("GET", "/v1/admin/relays/gamma").key(ADMIN)).await.json();
        for (field, value) in body.as_object().unwrap().iter().filter(|(field, _)| *field != "credentials") {
            assert_eq!(&shown[field], value, "{field}");
        }
        let relays = api.get("/v1/relays").await.json();
        let gamma =
            relays["items"].as_array().unwrap().iter().find(|relay| relay["relay"] == "gamma").unwrap();
        for channel in ["sms", "lms", "email"] {
            for field in ["price_milliwon", "bills"] {
                assert_eq!(gamma["channels"][channel][field], body["channels"][channel][field], "{channel}");
            }
        }
    }
}

#[tokio::test]
async fn a_relay_is_suspended_and_resumed() {
    let api = Api::new().await;
    let suspend =
        Call::new("POST", "/v1/admin/relays/alpha/suspend").key(ADMIN).json(&json!({"reason": "outage"}));
    let blank = Call::new("POST", "/v1/admin/relays/alpha/suspend").key(ADMIN).json(&json!({"reason": " "}));
    assert_eq!(api.send(blank).await.problem(), (422, "refused".to_owned()));
    assert_eq!(api.ok(suspend).await.json()["suspended"], "outage");
    assert_eq!(api.get("/v1/relays").await.json()["items"][0]["is_suspended"], true);
    let resumed = api.ok(Call::new("POST", "/v1/admin/relays/alpha/resume").key(ADMIN)).await;
    assert!(resumed.json().get("suspended").is_none());
    let unknown = api.send(Call::new("POST", "/v1/admin/relays/moon/resume").key(ADMIN)).await;
    assert_eq!(unknown.problem(), (404, "not-found".to_owned()));
}

#[tokio::test]
async fn tenants_and_keys_are_made_once_and_listed() {
    let api = Api::new().await;
    let again =
        Call::new("POST", "/v1/admin/tenants").key(ADMIN).json(&json!({"tenant": "acme", "name": "other"}));
    assert_eq!(api.send(again).await.problem(), (409, "not-possible-now".to_owned()));
    let tenants = api.ok(Call::new("GET", "/v1/admin/tenants").key(ADMIN)).await.json();
    assert_eq!(
        tenants["items"],
        json!([{"tenant": "acme", "name": "acme"}, {"tenant": "rival", "name": "rival"}])
    );
    let keys = api.ok(Call::new("GET", "/v1/admin/tenants/acme/keys").key(ADMIN)).await.json();
    assert_eq!(keys["items"][0]["label"], "test");
    let nobody = Call::new("POST", "/v1/admin/tenants/nobody/keys").key(ADMIN).json(&json!({"label": "x"}));
    assert_eq!(api.send(nobody).await.problem(), (404, "not-found".to_owned()));
}

#[tokio::test]
async fn policies_have_versions() {
    let api = Api::new().await;
    let second = json!({"objective": "price", "failover": {"email": true}});
    let defined = api.ok(Call::new("PUT", "/v1/policies/sms").key(&api.acme).json(&second)).await.json();
    assert_eq!((&defined["version"], &defined["objective"]), (&json!(2), &json!("price")));
    api.project().await;
    let policy = api.get("/v1/policies/sms").await.json();
    assert_eq!((&policy["version"], &policy["failover"]["email"]), (&json!(2), &json!(true)));
    let versions = api.get("/v1/policies/sms/versions").await.json();
    assert_eq!(versions["items"][1]["weights"][0], json!({"relay": "alpha", "weight": 7_000}));
    assert_eq!(api.get("/v1/policies").await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/v1/policies/pigeon").await.problem(), (404, "not-found".to_owned()));
}

#[tokio::test]
async fn the_process_tells_of_itself_without_a_key() {
    let api = Api::new().await;
    assert_eq!(api.ok(Call::new("GET", "/healthz")).await.json(), json!({"status": "alive"}));
    let ready = api.ok(Call::new("GET", "/readyz")).await.json();
    assert_eq!(ready, json!({"is_ready": true, "checks": []}));
    assert_eq!(api.ok(Call::new("GET", "/metrics")).await.text(), "kite_up 1\n");
    let home = api.send(Call::new("GET", "/")).await;
    assert_eq!(home.header("location"), Some("/docs"));
}

#[tokio::test]
async fn what_is_wrong_with_the_process_is_named_to_anybody_and_told_to_operators() {
    let mut api = Api::new().await;
    *api.disk.0.lock().unwrap() = Some("99 bytes are free at /srv/kite".to_owned());
    let named = json!({"is_ready": false, "checks": [{"name": "disk", "is_ready": false}]});
    let ask = || Call::new("GET", "/readyz");
    for call in [ask(), ask().key(&api.acme), ask().key("an-old-key-of-a-probe")] {
        let ready = api.send(call).await;
        assert_eq!((ready.status.as_u16(), ready.json()), (503, named.clone()));
    }
    let told = |ready: &serde_json::Value| {
        let checks = ready["checks"].as_array().unwrap().clone();
        let details = checks.iter().filter(|check| check["detail"].is_string()).count();
        (checks.len(), details, ready.to_string().contains("/srv/kite"))
    };
    let ready = api.send(ask().key(ADMIN)).await;
    assert_eq!((ready.status.as_u16(), told(&ready.json())), (503, (6, 6, true)));
    api.router = kite_api::public_router(api.state.clone());
    assert_eq!(api.send(ask().key(ADMIN)).await.json(), named, "no operator's key opens anything here");
    api.router = kite_api::admin_router(api.state.clone());
    assert_eq!(told(&api.send(ask()).await.json()), (6, 6, true));
}

#[tokio::test]
async fn where_the_disk_is_nearly_full_no_files_are_imported() {
    let api = Api::new().await;
    *api.disk.0.lock().unwrap() = Some("99 bytes are free".to_owned());
    let events = api.events().await;
    let import = |path: &str, csv: &str| {
        Call::new("POST", path).key(&api.acme).bytes("text/csv", csv.as_bytes().to_vec())
    };
    for call in [
        import("/v1/contacts/import", "phone\n01012345678\n"),
        import("/v1/opt-outs/import", "address\n01012345678\n"),
        Call::new("POST", "/v1/sendings").key(&api.acme).json(&crate::support::sending(&["01012345678"])),
    ] {
        let reply = api.send(call).await;
        assert_eq!(reply.problem(), (503, "no-room".to_owned()));
        assert!(reply.header("retry-after").is_some() && reply.text().contains("99 bytes are free"));
    }
    assert_eq!(api.events().await, events);
    *api.disk.0.lock().unwrap() = None;
    api.ok(import("/v1/contacts/import", "phone\n01012345678\n")).await;
}

#[tokio::test]
async fn an_operator_takes_sendings_as_a_file_and_finds_messages_of_a_tenant() {
    let api = Api::new().await;
    for key in [&api.acme, &api.rival] {
        let body = crate::support::sending(&["01012345678", "01012345679"]);
        api.ok(Call::new("POST", "/v1/sendings").key(key).json(&body)).await;
    }
    api.project().await;
    let get = |path: &str| Call::new("GET", path).key(ADMIN);
    let file = api.ok(get("/v1/admin/sendings?format=csv")).await;
    assert_eq!(file.header("content-disposition"), Some("attachment; filename=\"sendings.csv\""));
    let text = file.text();
    assert!(text.starts_with("\u{feff}tenant,id,class,state,"), "{text:.80}");
    let tenants: Vec<&str> = text.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(tenants, ["rival", "acme"]);
    let lines = api.ok(get("/v1/admin/sendings?format=ndjson&tenant=acme")).await.text();
    assert_eq!(lines.lines().count(), 1);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&lines).unwrap()["tenant"], "acme");

    let found = api.ok(get("/v1/admin/tenants/rival/messages?to=01012345679")).await.json();
    let own = api.ok(Call::new("GET", "/v1/messages?to=01012345679").key(&api.rival)).await.json();
    assert_eq!((&found["items"], found["items"].as_array().unwrap().len()), (&own["items"], 1));
    assert_eq!(api.ok(get("/v1/admin/tenants/rival/messages?format=ndjson")).await.text().lines().count(), 2);
    assert_eq!(api.send(get("/v1/admin/tenants/nobody/messages")).await.problem().0, 404);
    let tenant = Call::new("GET", "/v1/admin/tenants/rival/messages").key(&api.rival);
    assert_eq!(api.send(tenant).await.problem(), (403, "not-permitted".to_owned()));
}

#[tokio::test]
async fn a_read_model_that_is_far_behind_makes_the_process_not_ready() {
    let config = kite_api::ApiConfig { ready_lag_events_max: 0, ..Default::default() };
    let api = Api::with(config, Default::default()).await;
    assert_eq!(api.send(Call::new("GET", "/readyz")).await.status, 200);
    api.post("/v1/contacts", &json!({"phone": "01012345678"})).await;
    let lagging = api.send(Call::new("GET", "/readyz")).await;
    assert_eq!((lagging.status.as_u16(), &lagging.json()["is_ready"]), (503, &json!(false)));
    api.project().await;
    assert_eq!(api.send(Call::new("GET", "/readyz")).await.status, 200);
}

#[tokio::test]
async fn a_relay_that_nobody_works_for_is_shown_with_why_and_since_when() {
    let api = Api::new().await;
    let shown = api.ok(Call::new("GET", "/v1/admin/relays/alpha").key(ADMIN)).await.json();
    assert!(shown.get("unattended").is_none() && shown.get("now").is_none(), "{shown}");
    assert_eq!(api.get("/v1/relays").await.json()["items"][0]["is_attended"], true);
    let checked = api.ok(Call::new("POST", "/v1/admin/relays/alpha/check").key(ADMIN)).await.json();
    assert_eq!(checked["is_usable"], true, "{checked}");
    assert_eq!(checked["steps"][0]["step"], "definition");
    let unknown = api.send(Call::new("POST", "/v1/admin/relays/moon/check").key(ADMIN)).await;
    assert_eq!(unknown.problem(), (404, "not-found".to_owned()));
    let tenant = api.send(Call::new("POST", "/v1/admin/relays/alpha/check").key(&api.acme)).await;
    assert_eq!(tenant.status, 403);
}

#[tokio::test]
async fn a_copy_shows_what_it_is_and_is_released_by_a_word_that_says_enough() {
    let api = Api::new().await;
    let show = || Call::new("GET", "/v1/admin/instance").key(ADMIN);
    let release = |body: &serde_json::Value| {
        api.send(Call::new("POST", "/v1/admin/instance/release").key(ADMIN).json(body))
    };
    let word = json!({"original_is_dead": true, "reason": "its disk is gone"});
    assert_eq!(api.ok(show()).await.json(), json!({"standing": "original", "hands_over": true}));
    assert_eq!(release(&word).await.problem(), (409, "not-possible-now".to_owned()), "it is no copy");
    api.mark_as_copy(7).await;
    let shown = api.ok(show()).await.json();
    assert_eq!((&shown["standing"], &shown["copied_until"]), (&json!("copy"), &json!(7)));
    assert_eq!(shown["hands_over"], false);
    for (body, field) in [
        (json!({"original_is_dead": false, "reason": "maybe"}), "original_is_dead"),
        (json!({"original_is_dead": true, "reason": " "}), "reason"),
        (
            json!({"original_is_dead": true, "reason": "x", "original_dead_since": "2199-01-01T00:00:00Z"}),
            "original_dead_since",
        ),
        (
            json!({"original_is_dead": true, "reason": "x", "original_dead_since": "2000-01-01T00:00:00Z"}),
            "original_dead_since",
        ),
    ] {
        let refused = release(&body).await;
        assert_eq!(refused.problem(), (422, "refused".to_owned()), "{body}");
        assert_eq!(refused.errors()[0].1, field);
    }
    assert_eq!(api.ok(show()).await.json()["standing"], "copy");
    let tenant = Call::new("POST", "/v1/admin/instance/release").key(&api.acme).json(&word);
    assert_eq!(api.send(tenant).await.status, 403);
    assert_eq!(release(&word).await.json()["standing"], "released");
    assert_eq!(release(&word).await.status, 200, "the same word once more");
    let events = api.ok(Call::new("GET", "/v1/audit/events?type=instance-released").key(ADMIN)).await.json();
    let events = events["items"].as_array().unwrap();
    assert_eq!((events.len(), &events[0]["actor"]), (1, &json!("admin")));
}

#[tokio::test]
async fn where_backups_go_is_not_the_callers_to_say() {
    let api = Api::new().await;
    assert_eq!(api.ok(Call::new("GET", "/v1/admin/backups").key(ADMIN)).await.json(), json!({"items": []}));
    let take = |to: serde_json::Value| api.send(Call::new("POST", "/v1/admin/backups").key(ADMIN).json(&to));
    let refused = take(json!({})).await;
    assert_eq!(refused.problem(), (409, "not-possible-now".to_owned()));
    assert!(refused.text().contains("backup_dir"), "{}", refused.text());
    for wrong in ["../elsewhere", "/etc/kite", "a/b", "", ".."] {
        let refused = take(json!({"to": wrong})).await;
        assert_eq!(refused.problem(), (422, "refused".to_owned()), "{wrong:?}");
        assert_eq!(refused.errors()[0].1, "to");
    }
}
