//! Callers without a key or a secret, and tenants in bad faith, take nothing from anybody else.

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use kite_api::{ApiConfig, ClientRules};
use kite_commands::accept::AcceptLimits;
use serde_json::{Value, json};

use crate::captured_log::CapturedLog;
use crate::pushed_receipts::{push, receipt};
use crate::support::{ADMIN, Api, Call, Reply, sending, start, with};

/// Much smaller than usual.
fn config() -> ApiConfig {
    ApiConfig {
        bytes_in_flight_max: 1 << 20,
        receipts_bytes_in_flight_max: 1 << 20,
        unverified_bytes_in_flight_max: 512 << 10,
        admin_bytes_in_flight_max: 256 << 10,
        ..ApiConfig::default()
    }
}

async fn api(rules: ClientRules) -> Api {
    Api::with_rules(config(), AcceptLimits::default(), rules).await
}

/// A body of which so many bytes come, and then nothing.
fn standing(bytes: usize) -> Body {
    let chunk = Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]));
    Body::from_stream(stream::iter([chunk]).chain(stream::pending()))
}

/// A call without a genuine signature.
fn forged(announced: usize, body: Body) -> Request<Body> {
    Request::post("/v1/relays/alpha/receipts")
        .header("content-type", "application/json")
        .header("content-length", announced)
        .header("webhook-id", "msg_forged")
        .header("webhook-timestamp", start().timestamp())
        .header("webhook-signature", "v1,AAAA")
        .body(body)
        .unwrap()
}

/// Sends as far as it goes; what waits for its body goes on waiting.
fn begin(api: &Api, from: &str, request: Request<Body>) -> BoxFuture<'static, Reply> {
    let router = api.router.clone();
    let request = api.over(from, request);
    let mut reply = async move {
        use tower::ServiceExt;
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Reply { status: parts.status, headers: parts.headers, bytes }
    }
    .boxed();
    assert!((&mut reply).now_or_never().is_none(), "it waits for its body");
    reply
}

fn receipts(count: usize) -> Value {
    let one = receipt("not-a-reference-of-ours")["receipts"][0].clone();
    json!({"receipts": vec![one; count]})
}

fn large_sending() -> Value {
    let numbers: Vec<String> = (0..5_000).map(|number| format!("0102{number:07}")).collect();
    sending(&numbers.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test]
async fn announced_bodies_that_never_come_take_nothing_from_receipts_and_sendings() {
    let api = api(ClientRules::default()).await;
    let _waiting: Vec<_> = (0..87)
        .map(|_| {
            begin(
                &api,
                "198.51.100.1",
                forged(4_000_000, Body::from_stream(stream::pending::<std::io::Result<Bytes>>())),
            )
        })
        .collect();
    let reply = api.send_from("192.0.2.1", push("alpha", "msg_1", &receipts(1_000))).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    let reply = api
        .send_from("192.0.2.9", Call::new("POST", "/v1/sendings").key(&api.acme).json(&large_sending()))
        .await;
    assert_eq!(reply.status, 202, "{}", reply.text());
}

#[tokio::test]
async fn bytes_that_did_come_give_way_to_a_genuine_call_from_elsewhere() {
    let api = api(ClientRules::default()).await;
    let mut waiting: Vec<_> = (1..=8)
        .map(|number| begin(&api, &format!("198.51.100.{number}"), forged(4_000_000, standing(64 << 10))))
        .collect();
    let call = push("alpha", "msg_1", &receipts(400));
    let reply = api.send_from("192.0.2.1", call).await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    let pushed_out: Vec<_> =
        waiting.iter_mut().filter_map(|reply| reply.now_or_never()).map(|reply| reply.problem()).collect();
    assert!(!pushed_out.is_empty() && pushed_out.iter().all(|problem| *problem == (503, "busy".to_owned())));
}

#[tokio::test]
async fn a_relay_that_was_genuine_has_memory_that_no_stranger_can_take() {
    let api = api(ClientRules::default()).await;
    api.ok(push("alpha", "msg_0", &receipts(1))).await;
    assert_eq!(api.send_from("192.0.2.1", push("alpha", "msg_1", &receipts(1))).await.status, 204);
    let addresses = (1..=64).map(|number| format!("198.51.100.{number}"));
    let _waiting: Vec<_> =
        addresses.map(|from| begin(&api, &from, forged(4_000_000, standing(8 << 10)))).collect();
    // Larger than what a stranger of 65 could have, and than all that strangers have together.
    let call = || push("alpha", "msg_2", &receipts(3_000));
    assert_eq!(api.send_from("192.0.2.2", call()).await.problem(), (503, "busy".to_owned()));
    assert_eq!(api.send_from("192.0.2.1", call()).await.status, 204);
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_its_body_is_waited_for() {
    let api = api(ClientRules::default()).await;
    let request = |key: &str| {
        Request::post("/v1/sendings")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"))
            .body(standing(0))
            .unwrap()
    };
    let reply = api.send_request(request("kite_0_wrong")).now_or_never().expect("it does not wait");
    assert_eq!(reply.problem(), (401, "key-invalid".to_owned()));
    drop(begin(&api, "192.0.2.1", request(&api.acme)));
}

#[tokio::test]
async fn one_tenant_leaves_room_for_another_and_for_the_operator() {
    let api = api(ClientRules::default()).await;
    let request = |key: &str, bytes: usize| {
        Request::post("/v1/sendings")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"))
            .body(standing(bytes))
            .unwrap()
    };
    let _held = begin(&api, "192.0.2.1", request(&api.acme, 400 << 10));
    let reply = api.send_request(request(&api.acme, 200 << 10)).await;
    assert_eq!(reply.problem(), (429, "too-many-at-once".to_owned()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    let _other = begin(&api, "192.0.2.1", request(&api.rival, 400 << 10));
    let tenant = with(json!({"tenant": "new", "name": "new"}), "padding", json!("x".repeat(100 << 10)));
    let reply = api.send(Call::new("POST", "/v1/admin/tenants").key(ADMIN).json(&tenant)).await;
    assert_eq!(reply.problem(), (422, "invalid-body".to_owned()), "it was read");
}

#[tokio::test]
async fn many_wrong_keys_are_throttled_and_a_genuine_one_from_there_is_not() {
    let api = api(ClientRules { wrong_keys_per_address_max: 3, ..ClientRules::default() }).await;
    let call = |key: &str| Call::new("GET", "/v1/sendings").key(key);
    let wrong = call("kite_0_wrong");
    assert_eq!(api.send_from("198.51.100.1", wrong).await.problem(), (401, "key-invalid".to_owned()));
    for _ in 0..2 {
        let forged = forged(0, Body::empty());
        let reply = api.send_request(api.over("198.51.100.1", forged)).await;
        assert_eq!(reply.problem(), (401, "signature-invalid".to_owned()));
    }
    for key in ["kite_0_wrong", "another"] {
        let reply = api.send_from("198.51.100.1", call(key)).await;
        assert_eq!(reply.problem(), (429, "too-many-wrong-keys".to_owned()));
        assert_eq!(reply.header("retry-after"), Some("60"));
    }
    assert_eq!(api.send_from("198.51.100.1", call(&api.acme)).await.status, 200);
    assert_eq!(
        api.send_from("198.51.100.2", call("another")).await.problem(),
        (401, "key-invalid".to_owned())
    );
    api.clock.advance(chrono::Duration::minutes(1));
    assert_eq!(
        api.send_from("198.51.100.1", call("another")).await.problem(),
        (401, "key-invalid".to_owned())
    );
}

#[tokio::test]
async fn one_address_has_so_many_requests_under_way_and_clients_of_a_proxy_are_told_apart() {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let rules = ClientRules { requests_per_address_max: 2, trusted_proxies, ..ClientRules::default() };
    let api = api(rules).await;
    let waiting = |forwarded: &str| {
        let mut request = forged(10, standing(0));
        request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
        request
    };
    assert_eq!(api.send_from("192.0.2.1", push("alpha", "msg_1", &receipts(1))).await.status, 204);
    let held = [begin(&api, "10.0.0.1", waiting("192.0.2.1")), begin(&api, "10.0.0.2", waiting("192.0.2.1"))];
    let get = || Call::new("GET", "/healthz");
    let behind = |client: &str| get().header("x-forwarded-for", client);
    for refused in [behind("192.0.2.1"), behind("192.0.2.1").key("kite_0_wrong")] {
        let reply = api.send_from("10.0.0.3", refused).await;
        assert_eq!(reply.problem(), (429, "too-many-at-once".to_owned()));
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    assert_eq!(api.send_from("10.0.0.3", behind("192.0.2.2")).await.status, 200);
    // Nobody else can speak for that address, nor be kept out by what is said of it.
    assert_eq!(api.send_from("203.0.113.1", behind("192.0.2.1")).await.status, 200);
    assert_eq!(api.send_from("192.0.2.1", get()).await.status, 429);
    // Who is genuine needs no share of it: a key, or a relay that is known to call from there.
    let genuine = Call::new("GET", "/v1/sendings").key(&api.acme);
    assert_eq!(api.send_from("192.0.2.1", genuine).await.status, 200);
    assert_eq!(api.send_from("192.0.2.1", push("alpha", "msg_2", &receipts(1))).await.status, 204);
    let other = Call::new("POST", "/v1/relays/bravo/receipts");
    assert_eq!(api.send_from("192.0.2.1", other).await.status, 429);
    drop(held);
    assert_eq!(api.send_from("192.0.2.1", get()).await.status, 200);
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up_long_before_the_time_of_a_whole_body() {
    let api = api(ClientRules::default()).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let reply = api.send_request(forged(10, standing(5))).await;
    assert_eq!(reply.problem(), (408, "body-too-slow".to_owned()));
    assert_eq!(begun.elapsed().as_secs(), 10);
    let trickle = stream::unfold((), async |()| {
        tokio::time::sleep_until(tokio::time::Instant::now() + std::time::Duration::from_secs(5)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
    });
    let reply = api.send_request(forged(100, Body::from_stream(trickle))).await;
    assert_eq!(reply.problem(), (408, "body-too-slow".to_owned()));
    assert_eq!(begun.elapsed().as_secs(), 40);
}

#[tokio::test]
async fn wrong_keys_of_a_crowded_address_count_and_a_genuine_one_passes() {
    let log = CapturedLog::start();
    let api = api(ClientRules { requests_per_address_max: 1, ..ClientRules::default() }).await;
    let waiting = begin(&api, "192.0.2.9", forged(10, standing(1)));
    let read = |key: &str| Call::new("GET", "/v1/relays").key(key);
    let refused = api.send_from("192.0.2.9", read("kite_0197c0de_wrong")).await;
    assert_eq!(refused.problem(), (429, "too-many-at-once".to_owned()));
    assert!(log.text().contains("a wrong key or signature"), "{}", log.text());
    assert_eq!(api.send_from("192.0.2.9", read(&api.acme)).await.status, 200);
    drop(waiting);
}
