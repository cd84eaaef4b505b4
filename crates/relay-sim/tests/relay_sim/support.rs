//! A simulator with one relay, a client for it, and a callback server that records pushes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use kite_relay_sim::{RelaySim, Scenario};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

pub(crate) const SENDING: &str = "0198c0de7a5b7c3d8e4f000000000001";
pub(crate) const SECRET: &str = "whsec_YWxwaGEtcmVsYXktcmVjZWlwdHMtc2VjcmV0";
/// An ordinary recipient: nothing is forced.
pub(crate) const ORDINARY: &str = "01012345678";

pub(crate) fn reference(sequence: usize, attempt: usize) -> String {
    format!("{SENDING}-{sequence}-{attempt}")
}

pub(crate) fn message(reference: &str, to: &str) -> Value {
    let kind = if to.contains('@') { "email" } else { "sms" };
    json!({ "reference": reference, "type": kind, "from": "0212345678", "to": to, "text": "안녕하세요" })
}

pub(crate) fn scenario(seed: u64, codes: &str, behaviour: Value) -> Scenario {
    let relay = json!({
        "id": "alpha", "api_key": "alpha-key", "codes": codes, "channels": ["sms", "lms", "email"],
        "batch_max": 100, "behaviour": behaviour,
    });
    Scenario::from_json(&json!({ "seed": seed, "relays": [relay] }).to_string()).unwrap()
}

/// A relay `alpha` and a client that knows its key.
pub(crate) struct Alpha {
    pub(crate) sim: RelaySim,
    client: reqwest::Client,
}

impl Alpha {
    pub(crate) async fn start(behaviour: Value) -> Self {
        Self::with(scenario(1, "solapi", behaviour)).await
    }

    pub(crate) async fn with(scenario: Scenario) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Self { sim: RelaySim::start(scenario).await.unwrap(), client }
    }

    /// Calls the relay; an error is a call without an answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}{path}", self.sim.base_url("alpha"));
        let response = self.client.post(url).bearer_auth("alpha-key").json(body).send().await?;
        let status = response.status().as_u16();
        let body = response.bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    pub(crate) async fn hand_over(&self, messages: &[(String, &str)]) -> reqwest::Result<(u16, Value)> {
        let messages: Vec<Value> = messages.iter().map(|(reference, to)| message(reference, to)).collect();
        self.post("/v1/messages/batch", &json!({ "messages": messages })).await
    }

    /// Hands one message over and returns its result.
    pub(crate) async fn one(&self, reference: &str, to: &str) -> Value {
        let (status, body) = self.hand_over(&[(reference.to_owned(), to)]).await.unwrap();
        assert_eq!(status, 200, "{body}");
        body["results"][0].clone()
    }

    pub(crate) async fn status_of(&self, reference: &str) -> Value {
        let (status, body) =
            self.post("/v1/messages/status", &json!({ "references": [reference] })).await.unwrap();
        assert_eq!(status, 200, "{body}");
        body["results"][0].clone()
    }

    pub(crate) async fn admin(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.sim.admin_url());
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    pub(crate) fn counters(&self) -> kite_relay_sim::Counters {
        self.sim.ledger().counters("alpha").unwrap()
    }
}

/// One push as it came in.
#[derive(Clone)]
pub(crate) struct Push {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Push {
    pub(crate) fn id(&self) -> String {
        self.headers["webhook-id"].to_str().unwrap().to_owned()
    }
}

/// A client's callback endpoint.
#[derive(Clone)]
pub(crate) struct Callback {
    pub(crate) url: String,
    inner: Arc<Inner>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Inner {
    pushes: Mutex<Vec<Push>>,
    /// Statuses to answer with, one a push; 204 when there is none.
    answers: Mutex<VecDeque<u16>>,
}

impl Callback {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener)
    }

    pub(crate) fn on(listener: tokio::net::TcpListener) -> Self {
        let inner = Arc::new(Inner::default());
        let url = format!("http://{}/receipts", listener.local_addr().unwrap());
        let router =
            axum::Router::new().route("/receipts", axum::routing::post(record)).with_state(inner.clone());
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inner, tasks }
    }

    pub(crate) fn answer_next_with(&self, statuses: &[u16]) {
        self.inner.answers.lock().extend(statuses);
    }

    pub(crate) fn pushes(&self) -> Vec<Push> {
        assert!(!self.tasks.is_empty(), "the callback server ended");
        self.inner.pushes.lock().clone()
    }

    /// All receipts that came in, in order.
    pub(crate) fn receipts(&self) -> Vec<Value> {
        let of = |push: Push| {
            let body: Value = serde_json::from_slice(&push.body).unwrap();
            body["receipts"].as_array().unwrap().clone()
        };
        self.pushes().into_iter().flat_map(of).collect()
    }

    pub(crate) fn receipts_of(&self, reference: &str) -> Vec<Value> {
        self.receipts().into_iter().filter(|receipt| receipt["reference"] == reference).collect()
    }
}

async fn record(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = inner.answers.lock().pop_front().unwrap_or(204);
    inner.pushes.lock().push(Push { headers, body });
    StatusCode::from_u16(status).unwrap()
}

/// A relay that pushes to a callback.
pub(crate) async fn pushing(mut receipts: Value) -> (Alpha, Callback) {
    let callback = Callback::start().await;
    receipts["callback_url"] = json!(callback.url);
    receipts["secret"] = json!(SECRET);
    (Alpha::start(json!({ "receipts": receipts })).await, callback)
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while !holds() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) async fn flush(alpha: &Alpha) {
    assert_eq!(alpha.sim.flush_receipts(Duration::from_secs(20)).await, 0, "receipts are left");
}
