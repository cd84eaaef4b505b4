//! A whole API in a test: nothing runs by itself, the test moves the read models on and the clock.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::{DateTime, Utc};
use kite_api::{
    ApiConfig, ApiParts, ApiState, ClientRules, Clients, Readiness, ReadinessCheck, hash_admin_key, router,
};
use kite_commands::accept::{AcceptLimits, BacklogLevel};
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::event_store::{
    AppendError, Appended, Batch, EventStore, Filter, MemoryEventStore, Page, Position, ReadError,
    RecordedEvent,
};
use kite_commands::manage::Manage;
use kite_commands::{Journal, Lots, Vault, WriteSide};
use kite_projections::{ReadModels, Runner, catch_up};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::sync::{Mutex, watch};
use tower::ServiceExt;

pub(crate) const ADMIN: &str = "the-admin-key-of-this-test";
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// An API with two tenants, two relays, a sender each and a policy.
pub(crate) struct Api {
    pub(crate) router: Router,
    pub(crate) state: ApiState,
    pub(crate) clients: Clients,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<MemoryEventStore>,
    /// Whether the write side cannot reach the log.
    pub(crate) is_log_away: Arc<AtomicBool>,
    pub(crate) lots: Lots,
    pub(crate) backlog: Arc<AtomicU64>,
    /// Why there is no room on the disk, where there is none.
    pub(crate) disk: Arc<Disk>,
    pub(crate) acme: String,
    pub(crate) rival: String,
    runners: Mutex<Vec<Box<dyn Runner>>>,
    _directory: TempDir,
}

/// A log that cannot be reached at times.
struct Away {
    inner: Arc<MemoryEventStore>,
    is_away: Arc<AtomicBool>,
}

impl Away {
    fn is_so(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl EventStore for Away {
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        match self.is_so() {
            true => vec![Err(AppendError::unavailable("cut off")); batch.appends.len()],
            false => self.inner.append(batch).await,
        }
    }

    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        match self.is_so() {
            true => Err(ReadError::unavailable("cut off")),
            false => self.inner.read_stream(stream, after_version, limit).await,
        }
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        match self.is_so() {
            true => Err(ReadError::unavailable("cut off")),
            false => self.inner.read_all(after, limit, filter).await,
        }
    }

    fn count_after(&self, after: Position) -> u64 {
        self.inner.count_after(after)
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }
}

/// All that a process of these tests says of itself.
#[derive(Default)]
pub(crate) struct Disk(pub(crate) std::sync::Mutex<Option<String>>);

#[async_trait::async_trait]
impl Readiness for Disk {
    async fn checks(&self) -> Vec<ReadinessCheck> {
        let full = self.turns_away().map(|detail| ReadinessCheck {
            name: "disk".to_owned(),
            is_ready: false,
            detail,
        });
        full.into_iter().collect()
    }

    fn turns_away(&self) -> Option<String> {
        self.0.lock().unwrap().clone()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The status and the code of a problem.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert_eq!(problem["type"], format!("/problems/{}", problem["code"].as_str().unwrap()));
        (self.status.as_u16(), problem["code"].as_str().unwrap().to_owned())
    }

    /// Row, field and code of each of its errors.
    pub(crate) fn errors(&self) -> Vec<(Option<u64>, String, String)> {
        let word = |error: &Value, name: &str| error[name].as_str().unwrap().to_owned();
        let json = self.json();
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| (error["row"].as_u64(), word(error, "field"), word(error, "code")))
            .collect()
    }
}

pub(crate) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A request that can be changed before it is sent.
pub(crate) struct Call {
    method: &'static str,
    path: String,
    key: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), key: None, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.bytes("application/json", body.to_string().into_bytes())
    }

    pub(crate) fn bytes(mut self, media_type: &str, body: Vec<u8>) -> Self {
        self.body = body;
        self.header("content-type", media_type)
    }

    pub(crate) fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        if let Some(key) = self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.header("content-length", self.body.len()).body(Body::from(self.body)).unwrap()
    }
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(ApiConfig { read_wait_ms: 50, ..ApiConfig::default() }, AcceptLimits::default()).await
    }

    /// Says in the log that it is a copy, up to this position.
    pub(crate) async fn mark_as_copy(&self, until: u64) {
        let journal = Journal::new(self.store.clone(), self.clock.clone(), self.clock.clone());
        let manage = Manage::new(journal, Directory::default(), Arc::new(|| [0; 32]));
        let cause = kite_commands::Cause::new("test", uuid::Uuid::nil());
        manage.mark_as_copy(&cause, until, start()).await.unwrap();
        // Whoever writes reads on.
        self.tenant("another").await;
    }

    pub(crate) async fn with(config: ApiConfig, limits: AcceptLimits) -> Self {
        Self::with_rules(config, limits, ClientRules::default()).await
    }

    pub(crate) async fn with_rules(config: ApiConfig, limits: AcceptLimits, rules: ClientRules) -> Self {
        Self::build(config, limits, rules, |journal| journal).await
    }

    /// Of several processes on the same log.
    pub(crate) async fn of_several() -> Self {
        let config = ApiConfig { read_wait_ms: 50, ..ApiConfig::default() };
        Self::build(config, AcceptLimits::default(), ClientRules::default(), Journal::shared).await
    }

    async fn build(
        config: ApiConfig,
        limits: AcceptLimits,
        rules: ClientRules,
        journal: impl FnOnce(Journal) -> Journal,
    ) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let (store, is_log_away) = (Arc::new(MemoryEventStore::new()), Arc::new(AtomicBool::new(false)));
        let reached = Away { inner: store.clone(), is_away: is_log_away.clone() };
        let journal = journal(Journal::new(Arc::new(reached), clock.clone(), clock.clone()));
        let backlog = Arc::new(AtomicU64::new(0));
        let disk = Arc::new(Disk::default());
        let gauge = backlog.clone();
        let files = TempDir::new().unwrap();
        let read_models = ReadModels::open(files.path()).unwrap();
        let runners = read_models.projectors(store.clone()).unwrap();
        let secrets = AtomicU8::new(0);
        let secrets = Arc::new(move || [secrets.fetch_add(1, Ordering::SeqCst); 32]);
        let vault = Vault::parse(&Vault::line("test", &[9; 32])).unwrap();
        let write_side = WriteSide::new(journal, 100_000, secrets).with_vault(Arc::new(vault));
        let lots = write_side.lots.clone();
        let clients = Clients::new(rules);
        let parts = ApiParts {
            acceptance: write_side.acceptance(
                limits,
                Arc::new(move || BacklogLevel { projector_lag_events: gauge.load(Ordering::SeqCst) }),
            ),
            write_side,
            relay_desk: Arc::new(kite_commands::relay_desk::NoDesk),
            backups: Arc::new(kite_commands::backup_desk::NoBackups),
            read_models,
            log_index: store.clone(),
            metrics_text: Arc::new(|| "kite_up 1\n".to_owned()),
            readiness: disk.clone(),
            advice: Default::default(),
            clients: clients.clone(),
            background: tokio::runtime::Handle::current(),
            config: ApiConfig { admin_key_hash: Some(hash_admin_key(ADMIN)), ..config },
        };
        let state = ApiState::new(parts);
        let mut api = Self {
            router: router(state.clone()),
            state,
            clients,
            clock,
            store,
            is_log_away,
            lots,
            backlog,
            disk,
            acme: String::new(),
            rival: String::new(),
            runners: Mutex::new(runners),
            _directory: files,
        };
        for relay in ["alpha", "beta"] {
            api.ok(Call::new("PUT", format!("/v1/admin/relays/{relay}")).key(ADMIN).json(&relay_body(relay)))
                .await;
        }
        api.acme = api.tenant("acme").await;
        api.rival = api.tenant("rival").await;
        api.project().await;
        api
    }

    async fn tenant(&self, name: &str) -> String {
        self.ok(Call::new("POST", "/v1/admin/tenants")
            .key(ADMIN)
            .json(&json!({"tenant": name, "name": name})))
            .await;
        let path = format!("/v1/admin/tenants/{name}/keys");
        let issued = self.ok(Call::new("POST", path).key(ADMIN).json(&json!({"label": "test"}))).await;
        let key = issued.json()["key"].as_str().unwrap().to_owned();
        let sender = json!({
            "address": "02-1234-5678", "brand": "카이트", "refusal_number": "080-123-4567", "relays": ["alpha", "beta"]
        });
        self.ok(Call::new("POST", "/v1/senders").key(&key).json(&sender)).await;
        // Both tenants have it, and the operator knows it.
        self.approve(name, "0212345678", &with(approval(), "shared", json!(true))).await;
        let policy = json!({
            "objective": "ratio", "weights": [{"relay": "alpha", "weight": 7000}, {"relay": "beta", "weight": 3000}]
        });
        self.ok(Call::new("PUT", "/v1/policies/sms").key(&key).json(&policy)).await;
        key
    }

    /// The operator approves a sender.
    pub(crate) async fn approve(&self, tenant: &str, address: &str, body: &Value) -> Reply {
        let path = format!("/v1/admin/tenants/{tenant}/senders/{address}/approve");
        self.ok(Call::new("POST", path).key(ADMIN).json(body)).await
    }

    pub(crate) async fn send(&self, call: Call) -> Reply {
        self.send_request(call.request()).await
    }

    /// [`Api::send`] over a connection from this address.
    pub(crate) async fn send_from(&self, address: &str, call: Call) -> Reply {
        self.send_request(self.over(address, call.request())).await
    }

    /// A request over a connection from this address.
    pub(crate) fn over(&self, address: &str, mut request: Request<Body>) -> Request<Body> {
        request.extensions_mut().insert(self.clients.peer(address.parse().unwrap()));
        request
    }

    pub(crate) async fn send_request(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Reply { status: parts.status, headers: parts.headers, bytes }
    }

    /// A request that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, call: Call) -> impl Future<Output = Reply> {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.send(call).await;
            assert!(reply.status.is_success(), "{caller}: {} {}", reply.status, reply.text());
            reply
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Call::new("GET", path).key(&self.acme)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::new("POST", path).key(&self.acme).json(body)).await
    }

    /// Moves all read models on to the end of the log.
    pub(crate) async fn project(&self) {
        let head = *self.store.head().borrow();
        catch_up(&mut self.runners.lock().await, head, start()).await.unwrap();
    }

    /// How many events the log holds: what is refused must not add any.
    pub(crate) async fn events(&self) -> usize {
        let (mut count, mut after) = (0, 0);
        loop {
            let page = self.store.read_all(after, 1_000, &Filter::everything()).await.unwrap();
            if page.next == after {
                return count;
            }
            count += page.events.len();
            after = page.next;
        }
    }
}

pub(crate) fn relay_body(name: &str) -> Value {
    json!({
        "name": name, "endpoint": {"protocol": "http", "base_url": "http://127.0.0.1:9"},
        "channels": {"sms": {"price_milliwon": 9000}, "lms": {"price_milliwon": 25000}, "email": {"price_milliwon": 500}},
        "batch_max": 100, "receipts": "push", "codes": "solapi", "deduplicates": true, "answers_status": true,
        "credentials": {"api_key": "relay-key", "receipt_secret": SECRET}
    })
}

/// What the operator says to approve a sender at both relays for a year.
pub(crate) fn approval() -> Value {
    json!({"document": "certificate 1", "expires_at": "2028-01-15T00:00:00Z", "relays": ["alpha", "beta"]})
}

/// A small request to send.
pub(crate) fn sending(to: &[&str]) -> Value {
    let recipients: Vec<Value> = to.iter().map(|to| json!({"to": to})).collect();
    json!({"class": "notice", "from": "0212345678", "text": "안녕하세요", "recipients": recipients})
}

/// The object with a field changed.
pub(crate) fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// A path of the document with its variable parts filled in; the sending's, and those that every house of these tests has.
pub(crate) fn filled(path: &str, sending: &str) -> String {
    path.replace("{sending}", sending)
        .replace("{message}", &format!("{sending}-0"))
        .replace("{channel}", "sms")
        .replace("{tenant}", "acme")
        .replace("{relay}", "alpha")
        .replace("{address}", "01012345678")
        .replace(['{', '}'], "0")
}
