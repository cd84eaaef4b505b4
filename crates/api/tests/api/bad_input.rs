//! Every kind of bad input: a clear problem, and nothing half done.

use kite_api::ApiConfig;
use kite_commands::accept::AcceptLimits;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

use crate::support::{ADMIN, Api, Call, Reply, relay_body, sending, with};

/// Sends what must be refused and checks that the log did not grow.
async fn refused(api: &Api, call: Call) -> Reply {
    let before = api.events().await;
    let reply = api.send(call).await;
    assert!(!reply.status.is_success(), "{}", reply.text());
    assert_eq!(api.events().await, before, "{}", reply.text());
    reply
}

fn post(api: &Api, body: &Value) -> Call {
    Call::new("POST", "/v1/sendings").key(&api.acme).json(body)
}

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn error(row: Option<u64>, field: &str, code: &str) -> Vec<(Option<u64>, String, String)> {
    vec![(row, field.to_owned(), code.to_owned())]
}

#[tokio::test]
async fn malformed_json_is_400_and_names_the_place() {
    let api = Api::new().await;
    let call =
        Call::new("POST", "/v1/sendings").key(&api.acme).bytes("application/json", b"{\"class\":".to_vec());
    let reply = refused(&api, call).await;
    assert_eq!(reply.problem(), problem(400, "malformed-json"));
    assert!(reply.json()["detail"].as_str().unwrap().contains("column"), "{}", reply.text());
}

#[tokio::test]
async fn wrong_types_missing_and_unknown_fields_are_422_and_name_their_path() {
    let api = Api::new().await;
    let good = sending(&["01012345678"]);
    let table = [
        (with(good.clone(), "text", json!(7)), None, "text", "wrong_type"),
        (with(good.clone(), "clas", json!("x")), None, "clas", "unknown_field"),
        (with(good.clone(), "class", json!("urgent")), None, "class", "invalid_value"),
        (
            with(good.clone(), "recipients", json!([{"tow": "1"}])),
            Some(0),
            "recipients[0].tow",
            "unknown_field",
        ),
        (with(good.clone(), "scheduled_at", json!("tomorrow")), None, "scheduled_at", "invalid_value"),
        (json!({"text": "x"}), None, "class", "missing_field"),
    ];
    for (body, row, field, code) in table {
        let reply = refused(&api, post(&api, &body)).await;
        assert_eq!(reply.problem(), problem(422, "invalid-body"), "{body}");
        assert_eq!(reply.errors(), error(row, field, code), "{body}");
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_used_costs_its_row_and_no_other() {
    let api = Api::new().await;
    let rows = json!([
        {"to": "01012345678"}, {"to": 1012345678}, {"contact": "Kim"}, {"contact": 7},
        {"to": "01012345679", "variables": {"name": 3}}, {"to": "01012345679", "variables": ["name"]},
        {"to": "01012345679", "reference": false}, {"to": "01012345679", "email": {}}, {"email": "kim@example.org"},
    ]);
    let expected = [
        (1, "to", "wrong_type"),
        (2, "contact", "invalid_id"),
        (3, "contact", "wrong_type"),
        (4, "variables", "wrong_type"),
        (5, "variables", "wrong_type"),
        (6, "reference", "wrong_type"),
        (7, "email", "wrong_type"),
        (8, "to", "recipient_missing"),
    ];
    let body = with(sending(&[]), "recipients", rows);
    let answer = api.post("/v1/sendings", &body).await.json();
    assert_eq!(
        (&answer["accepted"], &answer["refused_count"]),
        (&json!(1), &json!(expected.len())),
        "{answer}"
    );
    let told = answer["refused"].as_array().unwrap().iter().map(|row| {
        (row["row"].as_u64().unwrap(), row["field"].as_str().unwrap(), row["code"].as_str().unwrap())
    });
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let told_to: Vec<_> = answer["refused"].as_array().unwrap().iter().map(|row| &row["to"]).collect();
    let number = "01012345679";
    assert_eq!(json!(told_to), json!(["", "", "", number, number, number, number, ""]), "what stood there");
    assert_eq!(answer["refused"][3]["detail"], "the value of name is a number, not a text");
    assert!(answer["refused"][7]["detail"].as_str().unwrap().contains("in `to`"), "{answer}");
    let reply = refused(&api, post(&api, &with(body, "strict", json!(true)))).await;
    assert_eq!((reply.problem(), reply.errors().len()), (problem(422, "rows-refused"), expected.len()));
}

#[tokio::test]
async fn a_body_of_another_type_is_415() {
    let api = Api::new().await;
    let call = Call::new("POST", "/v1/sendings").key(&api.acme).bytes("text/plain", b"{}".to_vec());
    assert_eq!(refused(&api, call).await.problem(), problem(415, "unsupported-media-type"));
    let call =
        Call::new("POST", "/v1/contacts/import").key(&api.acme).bytes("application/json", b"{}".to_vec());
    assert_eq!(refused(&api, call).await.problem(), problem(415, "unsupported-media-type"));
}

#[tokio::test]
async fn an_oversized_body_is_413_announced_or_not() {
    let config = ApiConfig { sending_body_bytes_max: 1_000, body_bytes_max: 500, ..ApiConfig::default() };
    let api = Api::with(config, AcceptLimits::default()).await;
    let body = with(sending(&["01012345678"]), "text", json!("가".repeat(1_000)));
    assert_eq!(refused(&api, post(&api, &body)).await.problem(), problem(413, "body-too-large"));
    let mut request = post(&api, &body).request();
    request.headers_mut().remove("content-length");
    let response = tower::ServiceExt::oneshot(api.router.clone(), request).await.unwrap();
    assert_eq!(response.status(), 413);
    let contact = json!({"name": "x".repeat(1_000), "phone": "01012345678"});
    let call = Call::new("POST", "/v1/contacts").key(&api.acme).json(&contact);
    assert_eq!(refused(&api, call).await.problem(), problem(413, "body-too-large"));
}

#[tokio::test]
async fn large_bodies_past_the_memory_bound_are_503_with_retry_after() {
    let config = ApiConfig { bytes_in_flight_max: 64 << 10, ..ApiConfig::default() };
    let api = Api::with(config, AcceptLimits::default()).await;
    let large = with(sending(&["01012345678"]), "client_reference", json!("x".repeat(100 << 10)));
    let reply = refused(&api, post(&api, &large)).await;
    assert_eq!(reply.problem(), problem(503, "busy"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(api.post("/v1/sendings", &sending(&["01012345678"])).await.status, 202);
}

#[tokio::test]
async fn no_key_a_wrong_key_and_a_revoked_key_are_401() {
    let api = Api::new().await;
    let body = sending(&["01012345678"]);
    let reply = refused(&api, Call::new("POST", "/v1/sendings").json(&body)).await;
    assert_eq!(reply.problem(), problem(401, "key-missing"));
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let (head, _) = api.acme.rsplit_once('_').unwrap();
    for key in ["nonsense", "kite_", "kite_0_0", &format!("{head}_{}", "f".repeat(64)), &api.acme[..20]] {
        let reply = refused(&api, Call::new("POST", "/v1/sendings").key(key).json(&body)).await;
        assert_eq!(reply.problem(), problem(401, "key-invalid"), "{key}");
    }
    let key_id = api.acme.split('_').nth(1).unwrap();
    api.ok(Call::new("DELETE", format!("/v1/admin/tenants/acme/keys/{key_id}")).key(ADMIN)).await;
    assert_eq!(refused(&api, post(&api, &body)).await.problem(), problem(401, "key-invalid"));
}

#[tokio::test]
async fn admin_endpoints_refuse_tenants_and_tenant_endpoints_the_admin_key() {
    let api = Api::new().await;
    assert_eq!(api.get("/v1/admin/relays").await.problem(), problem(403, "not-permitted"));
    let call = Call::new("POST", "/v1/sendings").key(ADMIN).json(&sending(&["01012345678"]));
    assert_eq!(refused(&api, call).await.problem(), problem(403, "not-permitted"));
    assert_eq!(api.get("/v1/statistics?tenant=rival").await.problem(), problem(403, "not-permitted"));
}

#[tokio::test]
async fn unknown_relays_and_weights_that_do_not_sum_are_refused() {
    let api = Api::new().await;
    let policy = |weights: Value| {
        let body = json!({"objective": "ratio", "weights": weights});
        Call::new("PUT", "/v1/policies/sms").key(&api.acme).json(&body)
    };
    let reply = refused(
        &api,
        policy(json!([{"relay": "alpha", "weight": 5000}, {"relay": "gamma", "weight": 5000}])),
    )
    .await;
    assert_eq!(reply.problem(), problem(422, "refused"));
    assert_eq!(reply.errors(), error(None, "weights[1].relay", "unknown_relay"));
    let reply =
        refused(&api, policy(json!([{"relay": "alpha", "weight": 5000}, {"relay": "beta", "weight": 4999}])))
            .await;
    assert_eq!(reply.errors(), error(None, "weights", "weights_sum"));
    assert!(reply.json()["detail"].as_str().unwrap().contains("99.99"), "{}", reply.text());
    let reply = refused(&api, policy(json!([]))).await;
    assert_eq!(reply.errors(), error(None, "weights", "weights_empty"));
    let twice = json!([{"relay": "alpha", "weight": 5000}, {"relay": "alpha", "weight": 5000}]);
    assert_eq!(
        refused(&api, policy(twice)).await.errors(),
        error(None, "weights[1].relay", "relay_repeated")
    );
    let call = Call::new("PUT", "/v1/policies/sms").key(&api.acme);
    let reply = refused(
        &api,
        call.json(&json!({"objective": "price", "weights": [{"relay": "alpha", "weight": 10000}]})),
    )
    .await;
    assert_eq!(reply.errors(), error(None, "weights", "not_for_objective"));
    let sender = json!({"address": "0287654321", "relays": ["gamma"]});
    let reply = refused(&api, Call::new("POST", "/v1/senders").key(&api.acme).json(&sender)).await;
    assert_eq!(reply.errors(), error(None, "relays[0]", "unknown_relay"));
    let without_mms = json!([{"relay": "beta", "weight": 10000}]);
    let call = Call::new("PUT", "/v1/policies/mms").key(&api.acme);
    let reply = refused(&api, call.json(&json!({"objective": "ratio", "weights": without_mms}))).await;
    assert_eq!(reply.errors(), error(None, "weights[0].relay", "channel_not_offered"));
    let fax = with(
        relay_body("alpha"),
        "channels",
        json!({"sms": {"price_milliwon": 1}, "fax": {"price_milliwon": 1}}),
    );
    let reply = refused(&api, Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(&fax)).await;
    assert_eq!(reply.errors(), error(None, "channels.fax", "invalid_value"));
}

#[tokio::test]
async fn what_is_given_back_is_an_object() {
    let api = Api::new().await;
    for custom in [json!("a"), json!(7), json!([{}]), json!(true)] {
        let reply = refused(&api, post(&api, &with(sending(&["01012345678"]), "custom", custom))).await;
        assert_eq!(reply.problem(), problem(422, "invalid-body"));
        assert_eq!(reply.errors(), error(None, "custom", "wrong_type"));
    }
    let row = json!([{"to": "01012345678", "custom": {"order": 7}}]);
    let reply = refused(&api, post(&api, &with(sending(&[]), "recipients", row))).await;
    assert_eq!(reply.errors(), error(Some(0), "recipients[0].custom", "unknown_field"));
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_such() {
    let api = Api::new().await;
    let body = sending(&["01012345678"]);
    for encoding in ["gzip", "br", "identity, gzip", "x-gzip", "deflate", "zstd", "compress", "GZip,UTF-8"] {
        let reply = refused(&api, post(&api, &body).header("content-encoding", encoding)).await;
        assert_eq!(reply.problem(), problem(415, "unsupported-media-type"));
        let detail = reply.json()["detail"].to_string();
        assert!(detail.contains(&format!("Content-Encoding: {encoding}")), "{detail}");
    }
    for encoding in ["identity", "", "UTF-8", "none", "identity, utf-8"] {
        api.ok(post(&api, &body).header("content-encoding", encoding)).await;
    }
}

#[tokio::test]
async fn a_filter_without_a_value_is_named_and_so_is_a_plus_in_a_time() {
    let api = Api::new().await;
    for (path, field) in [
        ("/v1/messages?reason=", "reason"),
        ("/v1/messages?to=01012345678&sender=", "sender"),
        ("/v1/contacts?text", "text"),
    ] {
        let reply = api.get(path).await;
        assert_eq!(reply.problem(), problem(400, "invalid-parameter"), "{path}");
        assert_eq!(reply.errors(), error(None, field, "empty"), "{path}");
    }
    assert_eq!(api.get("/v1/statistics?group_by=").await.status, 200);
    let reply = api.get("/v1/sendings?from=2026-11-29T00:00:00+09:00").await;
    assert_eq!(reply.problem(), problem(400, "invalid-parameter"));
    let detail = reply.json()["detail"].to_string();
    assert!(detail.contains("The parameter from") && detail.contains("write %2B"), "{detail}");
    assert_eq!(api.get("/v1/sendings?from=2026-11-29T00:00:00%2B09:00").await.status, 200);
}

#[tokio::test]
async fn a_text_that_no_relay_could_carry_is_refused_with_the_character() {
    let api = Api::new().await;
    let reply = refused(&api, post(&api, &with(sending(&["01012345678"]), "text", json!("값은 100₩")))).await;
    assert!([("request-refused".to_owned()), "rows-refused".to_owned()].contains(&reply.problem().1));
    assert!(reply.text().contains('₩'), "{}", reply.text());
}

#[tokio::test]
async fn bad_rows_among_good_ones_cost_no_good_row_unless_strict() {
    let api = Api::new().await;
    let rows = ["010-1234-5678", "12", "1012345679", "01012345680", "nobody@"];
    let reply = api.post("/v1/sendings", &sending(&rows)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let answer = reply.json();
    assert_eq!((&answer["accepted"], &answer["refused_count"]), (&json!(2), &json!(3)));
    let refused_rows: Vec<_> =
        answer["refused"].as_array().unwrap().iter().map(|row| row["row"].clone()).collect();
    assert_eq!(refused_rows, [1, 2, 4]);
    assert_eq!(answer["refused"][1]["code"], "lost_leading_zero");
    assert_eq!(answer["refused"][1]["to"], "1012345679");
    let reply = refused(&api, post(&api, &with(sending(&rows), "strict", json!(true)))).await;
    assert_eq!(reply.problem(), problem(422, "rows-refused"));
    assert_eq!(reply.errors().len(), 3);
    assert_eq!(reply.errors()[1], (Some(2), "to".to_owned(), "lost_leading_zero".to_owned()));
    let reply = refused(&api, post(&api, &sending(&["12", "13"]))).await;
    assert_eq!((reply.problem(), reply.errors().len()), (problem(422, "rows-refused"), 2));
    assert_eq!(refused(&api, post(&api, &sending(&[]))).await.problem(), problem(422, "request-refused"));
}

#[tokio::test]
async fn a_duplicate_is_dropped_and_reported_or_kept_on_request() {
    let api = Api::new().await;
    let rows = ["01012345678", "010-1234-5678", "+82 10 1234 5678"];
    let answer = api.post("/v1/sendings", &sending(&rows)).await.json();
    assert_eq!(answer["accepted"], 1);
    assert_eq!(
        answer["duplicates"],
        json!([{"row": 1, "to": "010-1234-5678"}, {"row": 2, "to": "+82 10 1234 5678"}])
    );
    let kept = with(sending(&rows), "allow_duplicates", json!(true));
    assert_eq!(api.post("/v1/sendings", &kept).await.json()["accepted"], 3);
}

#[tokio::test]
async fn a_recipient_is_an_address_or_a_contact_and_one_of_them() {
    let api = Api::new().await;
    let id = "0197c0de000070008000000000000001";
    let rows = json!([{"to": "01012345678"}, {}, {"to": "01012345679", "contact": id}, {"contact": id}]);
    let answer = api.post("/v1/sendings", &with(sending(&[]), "recipients", rows)).await.json();
    assert_eq!(answer["accepted"], 1, "{answer}");
    let codes: Vec<_> = answer["refused"].as_array().unwrap().iter().map(|row| row["code"].clone()).collect();
    assert_eq!(codes, ["recipient_missing", "to_and_contact", "contact_not_found"]);
    assert_eq!(answer["refused"][1]["to"], "01012345679");
}

#[tokio::test]
async fn a_schedule_in_the_past_is_refused() {
    let api = Api::new().await;
    let reply = refused(
        &api,
        post(&api, &with(sending(&["01012345678"]), "scheduled_at", json!("2020-01-01T00:00:00Z"))),
    )
    .await;
    assert_eq!(reply.problem(), problem(422, "request-refused"));
    assert_eq!(reply.errors()[0].1, "scheduled_at");
}

#[tokio::test]
async fn an_unregistered_sender_is_refused() {
    let api = Api::new().await;
    let reply =
        refused(&api, post(&api, &with(sending(&["01012345678"]), "from", json!("0299999999")))).await;
    assert_eq!(reply.problem(), problem(422, "request-refused"));
    assert_eq!(reply.errors()[0].1, "from");
}

#[tokio::test]
async fn too_many_recipients_are_refused_whole() {
    let config = ApiConfig { recipients_max: 3, ..ApiConfig::default() };
    let api = Api::with(config, AcceptLimits::default()).await;
    let rows = ["01012345671", "01012345672", "01012345673", "01012345674"];
    assert_eq!(api.post("/v1/sendings", &sending(&rows[..3])).await.status, 202);
    assert_eq!(
        refused(&api, post(&api, &sending(&rows))).await.problem(),
        problem(422, "too-many-recipients")
    );
}

#[tokio::test]
async fn a_full_backlog_is_429_with_retry_after_before_anything_is_accepted() {
    let api = Api::new().await;
    api.backlog.store(u64::MAX / 2, Ordering::SeqCst);
    let reply = refused(&api, post(&api, &sending(&["01012345678"]))).await;
    assert_eq!(reply.problem(), problem(429, "backlog-full"));
    assert_eq!(reply.header("retry-after"), Some("5"));
    api.backlog.store(0, Ordering::SeqCst);
    assert_eq!(api.post("/v1/sendings", &sending(&["01012345678"])).await.status, 202);
}

#[tokio::test]
async fn unknown_addresses_methods_parameters_and_cursors_are_problems() {
    let api = Api::new().await;
    assert_eq!(api.get("/v1/nothing").await.problem(), problem(404, "no-such-endpoint"));
    let reply = api.send(Call::new("DELETE", "/v1/sendings").key(&api.acme)).await;
    assert_eq!(reply.problem(), problem(405, "method-not-allowed"));
    assert!(reply.header("allow").unwrap().contains("POST"));
    for path in [
        "/v1/contacts?limit=0",
        "/v1/contacts?limit=201",
        "/v1/contacts?limit=many",
        "/v1/contacts?colour=red",
        "/v1/sendings?state=lost",
        "/v1/statistics?group_by=moon",
        "/v1/routing/recommendation",
        "/v1/messages?to=12",
        "/v1/audit/events?stream=a&correlation=b",
    ] {
        assert_eq!(api.get(path).await.problem(), problem(400, "invalid-parameter"), "{path}");
    }
    for list in ["contacts", "groups", "opt-outs", "templates", "sendings"] {
        for cursor in ["nonsense", "ff", "00"] {
            let reply = api.get(&format!("/v1/{list}?cursor={cursor}")).await;
            let is_refused = reply.status == 400 && reply.problem().1 == "invalid-cursor";
            // A cursor that reads as a place of the list is as good as any.
            assert!(is_refused || reply.status == 200, "{list} {cursor} {}", reply.text());
        }
        assert_eq!(
            api.get(&format!("/v1/{list}?cursor=nonsense")).await.problem(),
            problem(400, "invalid-cursor"),
            "{list}"
        );
    }
    assert_eq!(api.get("/v1/audit/events?cursor=AAAA").await.problem(), problem(400, "invalid-cursor"));
}

#[tokio::test]
async fn a_read_that_asks_for_what_is_not_there_yet_waits_and_then_says_so() {
    let api = Api::new().await;
    let accepted = api.post("/v1/sendings", &sending(&["01012345678"])).await;
    let position = accepted.header("kite-position").unwrap().to_owned();
    let path = accepted.header("location").unwrap().to_owned();
    let fresh =
        || Call::new("GET", path.clone()).key(&api.acme).header("kite-min-position", position.clone());
    let early = api.send(fresh()).await;
    assert_eq!(early.problem(), problem(503, "not-caught-up"));
    assert!(early.header("retry-after").is_some());
    api.project().await;
    assert_eq!(api.ok(fresh()).await.json()["messages"], 1);
    let call = Call::new("GET", path.clone()).key(&api.acme).header("kite-min-position", "soon");
    assert_eq!(api.send(call).await.problem(), problem(400, "invalid-parameter"));
}

#[tokio::test]
async fn what_breaks_a_rule_of_an_endpoint_is_refused_with_its_field() {
    let api = Api::new().await;
    let relay = |change: fn(&mut Value)| {
        let mut body = crate::support::relay_body("gamma");
        change(&mut body);
        Call::new("PUT", "/v1/admin/relays/gamma").key(ADMIN).json(&body)
    };
    let table = [
        (
            Call::new("POST", "/v1/templates").key(&api.acme).json(&json!({"name": "", "text": "#{a"})),
            "name",
            "empty",
        ),
        (Call::new("POST", "/v1/groups").key(&api.acme).json(&json!({"name": " "})), "name", "empty"),
        (
            Call::new("POST", "/v1/contacts").key(&api.acme).json(&json!({"name": "A"})),
            "phone",
            "address_missing",
        ),
        (
            Call::new("POST", "/v1/opt-outs").key(&api.acme).json(&json!({"address": "12"})),
            "address",
            "too_short",
        ),
        (
            Call::new("POST", "/v1/senders")
                .key(&api.acme)
                .json(&json!({"address": "080-123-4567", "relays": []})),
            "address",
            "sender_toll_free",
        ),
        (
            Call::new("POST", "/v1/admin/tenants").key(ADMIN).json(&json!({"tenant": "No", "name": ""})),
            "tenant",
            "character_not_allowed",
        ),
        (relay(|body| body["codes"] = json!("moon")), "codes", "unknown_dictionary"),
        (relay(|body| body["batch_max"] = json!(0)), "batch_max", "out_of_range"),
        (
            relay(|body| body["channels"]["sms"]["price_milliwon"] = json!(-1)),
            "channels.sms.price_milliwon",
            "out_of_range",
        ),
        (
            relay(|body| body["credentials"]["receipt_secret"] = json!("whsec_!")),
            "credentials.receipt_secret",
            "invalid_secret",
        ),
        (relay(|body| body["endpoint"]["base_url"] = json!("ftp://x")), "endpoint.base_url", "invalid_url"),
    ];
    for (call, field, code) in table {
        let reply = refused(&api, call).await;
        assert_eq!(reply.problem(), problem(422, "refused"));
        assert_eq!(reply.errors()[0], (None, field.to_owned(), code.to_owned()));
    }
}

#[tokio::test]
async fn a_relay_that_cannot_be_called_is_refused_and_the_field_is_named() {
    let api = Api::new().await;
    let http = |base_url: &str| json!({"protocol": "http", "base_url": base_url});
    let smtp =
        |host: &str, port: u16| json!({"protocol": "smtp", "host": host, "port": port, "security": "plain"});
    let table = [
        ("endpoint", http("http://relay.example.com\r\n"), "endpoint.base_url", "invalid_url"),
        ("endpoint", http("http://re lay"), "endpoint.base_url", "invalid_url"),
        ("endpoint", http("http://u:s3cret@relay"), "endpoint.base_url", "credentials_in_url"),
        ("endpoint", smtp("mail\r\n", 25), "endpoint.host", "invalid_host"),
        ("endpoint", smtp("mail", 0), "endpoint.port", "out_of_range"),
        ("credentials", json!({"api_key": "s3cret\n"}), "credentials.api_key", "invalid_characters"),
        ("credentials", json!({"api_key": ""}), "credentials.api_key", "empty"),
        ("credentials", json!({"api_key": " s3cret"}), "credentials.api_key", "blank_at_the_end"),
        ("credentials", json!({"receipt_secret": "s3cret"}), "credentials.receipt_secret", "invalid_secret"),
        ("codes", json!("none"), "codes", "unknown_dictionary"),
    ];
    for (field, value, wrong, code) in table {
        let body = with(crate::support::relay_body("gamma"), field, value.clone());
        // What is left out of an endpoint is not taken from elsewhere.
        let call = Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(&body);
        let reply = refused(&api, call).await;
        let errors = reply.json()["errors"].clone();
        let found =
            errors.as_array().unwrap().iter().any(|error| error["field"] == wrong && error["code"] == code);
        assert!(reply.status == 422 && found, "{value}: {}", reply.text());
        assert!(!reply.text().contains("s3cret"), "{}", reply.text());
    }
    let mut body = crate::support::relay_body("gamma");
    body.as_object_mut().unwrap().remove("credentials");
    let reply = refused(&api, Call::new("PUT", "/v1/admin/relays/gamma").key(ADMIN).json(&body)).await;
    assert_eq!(
        reply.json()["errors"][0]["field"],
        "credentials.receipt_secret",
        "nobody could sign its receipts"
    );
    let kept = api.ok(Call::new("PUT", "/v1/admin/relays/alpha").key(ADMIN).json(&body)).await;
    assert_eq!(
        kept.json()["credentials_set"],
        json!(["api_key", "receipt_secret"]),
        "they are known already"
    );
}
