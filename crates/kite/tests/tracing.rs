//! The trace of a request: from the customer's header into every event of the sending, to the relay, and to a collector.
//!
//! The real binary, with a relay and a collector that are a few lines each and remember what they were sent.

use anyhow::{Context, ensure};
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use kite_testkit::process::Process;
use kite_testkit::senders::{approval, approval_path};
use kite_testkit::wait::{free_address, wait_for, wait_until_ready};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const WITHIN: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "an admin key for a test of traces";
const FROM: &str = "0212345678";
const TO: &str = "01087654321";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const EXPORT_SECRET: &str = "Bearer of-the-collector";

/// What came in from outside.
#[derive(Default)]
struct Heard {
    /// The headers `traceparent` of hand-overs.
    handed_over: Vec<Option<String>>,
    /// Receipts that are not acknowledged.
    receipts: Vec<Value>,
    spans: Vec<Span>,
    services: Vec<String>,
}

#[derive(Clone, Default)]
struct Outside(Arc<Mutex<Heard>>);

impl Outside {
    fn look<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.0.lock().expect("nobody panics with it"))
    }

    /// The span of this name in the trace, as soon as it is exported.
    async fn span(&self, name: &str, trace: &str) -> anyhow::Result<Span> {
        let find = |heard: &mut Heard| {
            let is_it = |span: &&Span| span.name == name && hex::encode(&span.trace_id) == trace;
            heard.spans.iter().find(is_it).cloned()
        };
        let what = format!("the span {name:?} in the trace {trace}");
        wait_for(&what, WITHIN, async || self.look(find)).await.with_context(|| {
            format!(
                "{:?}",
                self.look(|heard| heard.spans.iter().map(|one| one.name.clone()).collect::<Vec<_>>())
            )
        })
    }
}

async fn hand_over(State(outside): State<Outside>, headers: HeaderMap, body: Json<Value>) -> Json<Value> {
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let references = body["messages"].as_array().into_iter().flatten().map(|one| one["reference"].clone());
    let references: Vec<Value> = references.collect();
    outside.look(|heard| {
        heard.handed_over.push(traceparent);
        heard.receipts.extend(references.iter().map(|reference| {
            json!({ "reference": reference, "status": "delivered", "code": "4000", "at": "2026-03-02T03:00:00Z" })
        }));
    });
    let accepted = |reference: &Value| json!({ "reference": reference, "status": "accepted" });
    Json(json!({ "results": references.iter().map(accepted).collect::<Vec<_>>() }))
}

async fn pull(State(outside): State<Outside>) -> Json<Value> {
    Json(json!({ "lease": "one", "receipts": outside.look(|heard| heard.receipts.clone()) }))
}

async fn acknowledge(State(outside): State<Outside>) -> Json<Value> {
    outside.look(|heard| heard.receipts.clear());
    Json(json!({}))
}

async fn export(State(outside): State<Outside>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if headers.get("authorization").is_none_or(|value| value != EXPORT_SECRET) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(exported) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    outside.look(|heard| {
        for resource in exported.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            heard.services.extend(attributes.iter().map(|attribute| format!("{attribute:?}")));
            heard.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    });
    StatusCode::OK
}

/// Kite, with a relay and a collector.
struct House {
    outside: Outside,
    process: Process,
    http: Client,
    url: String,
    key: String,
    _data: tempfile::TempDir,
    _servers: JoinSet<()>,
}

/// Where Kite exports to.
enum Collector {
    /// Nowhere.
    None,
    /// To one that is there.
    There,
    /// To one that is not.
    Away,
}

impl House {
    async fn build(collector: Collector) -> anyhow::Result<Self> {
        let outside = Outside::default();
        let app = Router::new()
            .route("/v1/messages/batch", post(hand_over))
            .route("/v1/receipts/pull", post(pull))
            .route("/v1/receipts/acknowledge", post(acknowledge))
            .route("/v1/traces", post(export))
            .with_state(outside.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let relay = listener.local_addr()?;
        let mut servers = JoinSet::new();
        servers.spawn(async move { axum::serve(listener, app).await.expect("it is served") });
        let data = tempfile::tempdir()?;
        let address = free_address()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
        command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data.path());
        command.env("KITE_ADMIN_KEY", ADMIN_KEY);
        let endpoint = match collector {
            Collector::None => None,
            Collector::There => Some(relay),
            Collector::Away => Some(free_address()?),
        };
        if let Some(endpoint) = endpoint {
            command.env("KITE_TRACING__OTLP_ENDPOINT", format!("http://{endpoint}"));
            command.env("KITE_TRACING__OTLP_HEADERS", format!("authorization={EXPORT_SECRET}"));
        }
        let process = Process::start("kite", &mut command)?;
        let http = Client::builder().no_proxy().timeout(WITHIN).build()?;
        let url = format!("http://{address}");
        let ready = wait_until_ready(&format!("{url}/readyz"), WITHIN).await;
        ready.with_context(|| format!("it is not ready; its log:\n{}", process.log()))?;
        let key = ADMIN_KEY.to_owned();
        let mut house = Self { outside, process, http, url, key, _data: data, _servers: servers };
        house.furnish(relay).await?;
        Ok(house)
    }

    async fn furnish(&mut self, relay: SocketAddr) -> anyhow::Result<()> {
        let terms = json!({ "price_milliwon": 8_000, "bills": "delivered", "receipt_deadline_seconds": 60 });
        let profile = json!({
            "name": "Alpha", "endpoint": { "protocol": "http", "base_url": format!("http://{relay}") },
            "channels": { "sms": terms }, "reaches": ["korean_mobile"], "batch_max": 10,
            "rate_parts_per_second": null, "calls_in_flight_max": 2, "answer_timeout_ms": 5_000,
            "deduplicates": true, "answers_status": false, "receipts": "pull", "codes": "solapi",
            "credentials": { "api_key": "relay-key" },
        });
        self.call(Method::PUT, "/v1/admin/relays/alpha", &profile).await?;
        self.call(Method::POST, "/v1/admin/tenants", &json!({ "tenant": "acme", "name": "Acme" })).await?;
        let keys = "/v1/admin/tenants/acme/keys";
        let issued = self.call(Method::POST, keys, &json!({ "label": "test" })).await?;
        let tenant_key = issued["key"].as_str().context("a key")?.to_owned();
        let admin_key = std::mem::replace(&mut self.key, tenant_key.clone());
        let sender = json!({ "address": FROM, "relays": ["alpha"] });
        self.call(Method::POST, "/v1/senders", &sender).await?;
        self.key = admin_key;
        self.call(Method::POST, &approval_path("acme", FROM), &approval(&["alpha"])).await?;
        self.key = tenant_key;
        let policy = json!({ "objective": "ratio", "weights": [{ "relay": "alpha", "weight": 10_000 }] });
        self.call(Method::PUT, "/v1/policies/sms", &policy).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key);
        let answer = request.json(body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Sends one message with this header, and gives the id of the sending.
    async fn send(&self, traceparent: Option<&str>) -> anyhow::Result<String> {
        let body = json!({
            "class": "otp", "from": FROM, "text": "인증번호 [314159]", "recipients": [{ "to": TO }],
        });
        let mut request =
            self.http.post(format!("{}/v1/sendings", self.url)).bearer_auth(&self.key).json(&body);
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == StatusCode::ACCEPTED, "{traceparent:?} was answered with {status}: {text}");
        let answer: Value = serde_json::from_str(&text)?;
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    /// All events of the sending, once it is completed: their types and traces.
    async fn events(&self, sending: &str) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let url = format!("{}/v1/audit/events?correlation={sending}&limit=100", self.url);
        let what = format!("the end of sending {sending}; the log:\n{}", self.process.log());
        wait_for(&what, WITHIN, async || {
            let answer = self.http.get(&url).bearer_auth(&self.key).send().await.ok()?;
            let events: Value = answer.json().await.ok()?;
            let text = |event: &Value, key: &str| event[key].as_str().map(str::to_owned);
            let told: Vec<_> = events["items"]
                .as_array()?
                .iter()
                .map(|event| (text(event, "type").unwrap_or_default(), text(event, "traceparent")))
                .collect();
            told.iter().any(|(kind, _)| kind == "sending-completed").then_some(told)
        })
        .await
    }

    fn stop(mut self) -> anyhow::Result<String> {
        let status = self.process.terminate(WITHIN)?;
        ensure!(status.success(), "it ended with {status}:\n{}", self.process.log());
        Ok(self.process.log())
    }
}

/// The traces of all events; they are those of a sending that was delivered, and all the same.
fn trace_of_all(events: &[(String, Option<String>)]) -> anyhow::Result<String> {
    for kind in
        ["lot-accepted", "messages-routed", "messages-submitted", "relay-responded", "receipts-recorded"]
    {
        ensure!(events.iter().any(|(known, _)| known == kind), "no {kind}: {events:?}");
    }
    let first = events.first().and_then(|(_, traceparent)| traceparent.clone()).context("a trace")?;
    ensure!(events.iter().all(|(_, traceparent)| traceparent.as_ref() == Some(&first)), "{events:?}");
    Ok(first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_request_through_every_event_to_the_relay_and_to_the_collector()
-> anyhow::Result<()> {
    let house = House::build(Collector::There).await?;
    let sending = house.send(Some(&format!("00-{TRACE}-{CALLER}-01"))).await?;
    let kept = trace_of_all(&house.events(&sending).await?)?;
    ensure!(kept.starts_with(&format!("00-{TRACE}-")) && kept.ends_with("-01"), "{kept}");

    let request = house.outside.span("POST /v1/sendings", TRACE).await?;
    ensure!(hex::encode(&request.parent_span_id) == CALLER, "it follows from the caller's span");
    ensure!(kept.contains(&hex::encode(&request.span_id)), "what is kept names the request's span: {kept}");
    let call = house.outside.span("hand over", TRACE).await?;
    ensure!(call.parent_span_id == request.span_id, "the call follows from the request");
    let told = house.outside.look(|heard| heard.handed_over.clone());
    ensure!(told == [Some(format!("00-{TRACE}-{}-01", hex::encode(&call.span_id)))], "{told:?}");
    for name in ["accept", "messages-routed", "receipts-recorded"] {
        house.outside.span(name, TRACE).await?;
    }

    let attributes = format!("{:?}", request.attributes);
    for wanted in
        ["http.route", "/v1/sendings", "http.response.status_code", "202", "tenant", "acme", "request.id"]
    {
        ensure!(attributes.contains(wanted), "no {wanted}: {attributes}");
    }
    let outside = house.outside.clone();
    let key = house.key.clone();
    house.stop()?;
    let (all, services) = outside.look(|heard| (format!("{:?}", heard.spans), heard.services.concat()));
    ensure!(services.contains("service.name"), "{services}");
    for secret in [TO, &TO[3..], FROM, "314159", &key, ADMIN_KEY, "relay-key"] {
        ensure!(!all.contains(secret), "{secret} stands in a span");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_malformed_or_missing_begins_a_trace_and_is_no_error() -> anyhow::Result<()> {
    let house = House::build(Collector::None).await?;
    let good = house.send(Some(&format!("00-{TRACE}-{CALLER}-01"))).await?;
    let kept = trace_of_all(&house.events(&good).await?)?;
    ensure!(kept == format!("00-{TRACE}-{CALLER}-01"), "without spans it is handed on as it came: {kept}");
    let mut traces = vec![TRACE.to_owned()];
    let malformed = format!("00-{TRACE}-{}-01", "0".repeat(16));
    for header in [None, Some("nonsense"), Some(malformed.as_str())] {
        let sending = house.send(header).await?;
        let kept = trace_of_all(&house.events(&sending).await?)?;
        let trace = kept.get(3..35).context("a trace")?.to_owned();
        ensure!(kept.ends_with("-00") && !traces.contains(&trace), "{header:?}: {kept}");
        traces.push(trace);
    }
    let told = house.outside.look(|heard| heard.handed_over.clone());
    let told: Vec<_> = told.iter().flatten().filter_map(|header| header.get(3..35)).collect();
    ensure!(told == traces, "every hand-over is in the trace of its request: {told:?}");
    ensure!(house.outside.look(|heard| heard.spans.is_empty()), "nothing is exported");
    house.stop().map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_nothing_but_spans() -> anyhow::Result<()> {
    let house = House::build(Collector::Away).await?;
    for _ in 0..20 {
        let sending = house.send(None).await?;
        trace_of_all(&house.events(&sending).await?)?;
    }
    let told = "spans cannot be exported";
    wait_for(told, WITHIN, async || house.process.log().contains(told).then_some(())).await?;
    let log = house.stop()?;
    ensure!(log.matches(told).count() == 1, "it is said once, not for every export:\n{log}");
    ensure!(!log.contains("of-the-collector"), "the header is nobody's affair");
    Ok(())
}
