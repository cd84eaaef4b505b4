//! A small installation to send requests to: an API over an in-memory log, with two relays, a tenant, a sender, a
//! policy, a template, a contact, a group and a sending. Nothing in it runs by itself, and it is the same every time.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::{DateTime, Utc};
use kite_api::{AlwaysReady, ApiConfig, ApiParts, ApiState, ClientRules, Clients, hash_admin_key, router};
use kite_commands::accept::{AcceptLimits, Acceptance, BacklogLevel};
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::event_store::{EventStore, MemoryEventStore};
use kite_commands::{Journal, Lots, WriteSide};
use kite_domain::tenant::LimitsInForce;
use kite_projections::{ReadModels, catch_up};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// The operator's key.
pub(crate) const ADMIN_KEY: &str = "admin-key";
/// What the relays sign receipts with.
pub(crate) const RECEIPT_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// Lots kept in memory.
const MESSAGES_MAX: u64 = 100_000;

/// The time at which everything happens.
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time of this century")
}

/// The house.
pub(crate) struct House {
    pub(crate) directory: Directory,
    pub(crate) runtime: Runtime,
    pub(crate) tenant_key: String,
    /// Words that stand for the ids of what is in the house, and the ids.
    pub(crate) names: Vec<(&'static str, String)>,
    pub(crate) store: Arc<MemoryEventStore>,
    router: Router,
    _files: TempDir,
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Takes sendings into a log of its own.
pub(crate) struct Desk {
    pub(crate) store: Arc<MemoryEventStore>,
    pub(crate) journal: Journal,
    pub(crate) acceptance: Acceptance,
}

impl Desk {
    /// An empty log, beside what the directory knows.
    pub(crate) fn empty(directory: &Directory) -> Self {
        let clock = Arc::new(ManualClock::at(now()));
        let store = Arc::new(MemoryEventStore::new());
        let journal = Journal::new(store.clone(), clock.clone(), clock);
        let lots = Lots::new(journal.clone(), MESSAGES_MAX);
        let acceptance = Acceptance::new(lots, directory.clone(), limits(), Arc::new(BacklogLevel::default));
        Self { store, journal, acceptance }
    }
}

impl House {
    /// Built and furnished.
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread");
        let files = TempDir::new().expect("a directory for temporary files");
        let clock = Arc::new(ManualClock::at(now()));
        let store = Arc::new(MemoryEventStore::new());
        let journal = Journal::new(store.clone(), clock.clone(), clock);
        let read_models = ReadModels::open(files.path()).expect("read models in a new directory");
        let mut runners = read_models.projectors(store.clone()).expect("projectors of new read models");
        let secrets = AtomicU8::new(0);
        let secrets = Arc::new(move || [secrets.fetch_add(1, Ordering::SeqCst); 32]);
        let write_side = WriteSide::new(journal, MESSAGES_MAX, secrets);
        let directory = write_side.directory.clone();
        let parts = ApiParts {
            acceptance: write_side.acceptance(limits(), Arc::new(BacklogLevel::default)),
            write_side,
            relay_desk: Arc::new(kite_commands::relay_desk::NoDesk),
            backups: Arc::new(kite_commands::backup_desk::NoBackups),
            read_models,
            log_index: store.clone(),
            metrics_text: Arc::new(|| "kite_up 1\n".to_owned()),
            readiness: Arc::new(AlwaysReady),
            advice: Default::default(),
            // Every key is to be looked at, however many were wrong.
            clients: Clients::new(ClientRules {
                wrong_keys_per_address_max: u32::MAX,
                ..ClientRules::default()
            }),
            background: runtime.handle().clone(),
            config: ApiConfig {
                admin_key_hash: Some(hash_admin_key(ADMIN_KEY)),
                read_wait_ms: 1,
                ..ApiConfig::default()
            },
        };
        let router = router(ApiState::new(parts));
        let mut house = Self {
            directory,
            runtime,
            tenant_key: String::new(),
            names: Vec::new(),
            store,
            router,
            _files: files,
        };
        house.furnish();
        let head = *house.store.head().borrow();
        let caught_up = house.runtime.block_on(catch_up(&mut runners, head, now()));
        caught_up.expect("what was just written is read");
        house
    }

    fn furnish(&mut self) {
        for relay in ["alpha", "beta"] {
            self.put(&format!("/v1/admin/relays/{relay}"), ADMIN_KEY, &relay_body(relay));
        }
        self.post("/v1/admin/tenants", ADMIN_KEY, &json!({"tenant": "acme", "name": "Acme"}));
        let issued = self.post("/v1/admin/tenants/acme/keys", ADMIN_KEY, &json!({"label": "fuzz"}));
        self.tenant_key = issued["key"].as_str().expect("a key is issued").to_owned();
        let key = self.tenant_key.clone();
        for address in ["02-1234-5678", "news@example.com"] {
            let sender = json!({
                "address": address, "brand": "카이트", "refusal_number": "080-123-4567", "relays": ["alpha", "beta"]
            });
            self.post("/v1/senders", &key, &sender);
            let approved = json!({
                "document": "certificate 1", "expires_at": "2030-01-01T00:00:00Z", "relays": ["alpha", "beta"]
            });
            self.post(&format!("/v1/admin/tenants/acme/senders/{address}/approve"), ADMIN_KEY, &approved);
        }
        let weights = json!([{"relay": "alpha", "weight": 7000}, {"relay": "beta", "weight": 3000}]);
        self.put("/v1/policies/sms", &key, &json!({"objective": "ratio", "weights": weights}));
        let template =
            self.post("/v1/templates", &key, &json!({"name": "hello", "text": "#{name}님, 안녕하세요"}));
        self.post("/v1/opt-outs", &key, &json!({"address": "010-9999-0000"}));
        // A group first: to make one, the read model must have what was written before, and nothing reads here yet.
        let group = self.post("/v1/groups", &key, &json!({"name": "all"}));
        let contact = self.post(
            "/v1/contacts",
            &key,
            &json!({"name": "홍길동", "phone": "010-1234-5678", "fields": {"grade": "gold"}}),
        );
        let sending = json!({
            "class": "notice", "from": "0212345678", "text": "안녕하세요", "recipients": [{"to": "010-1234-5678"}]
        });
        let sending = self.post("/v1/sendings", &key, &sending);
        self.names = vec![
            ("the-template", written(&template, "id")),
            ("the-group", written(&group, "id")),
            ("the-contact", written(&contact, "id")),
            ("the-sending", written(&sending, "id")),
            ("the-key", written(&issued, "key_id")),
        ];
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        self.write("POST", path, key, body)
    }

    fn put(&self, path: &str, key: &str, body: &Value) -> Value {
        self.write("PUT", path, key, body)
    }

    fn write(&self, method: &str, path: &str, key: &str, body: &Value) -> Value {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .expect("a request of plain words");
        let reply = self.answer(request);
        assert!(reply.status.is_success(), "{method} {path}: {reply:?}");
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// The answer to any request.
    pub(crate) fn answer(&self, request: Request<Body>) -> Reply {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, usize::MAX).await.expect("the body of an answer has no error");
            Reply { status: parts.status, headers: parts.headers, body }
        })
    }
}

/// A text in an answer.
fn written(answer: &Value, field: &str) -> String {
    answer[field].as_str().unwrap_or_else(|| panic!("no {field} in {answer}")).to_owned()
}

fn relay_body(name: &str) -> Value {
    json!({
        "name": name, "endpoint": {"protocol": "http", "base_url": "http://127.0.0.1:9"},
        "channels": {"sms": {"price_milliwon": 9000}, "lms": {"price_milliwon": 25000}, "email": {"price_milliwon": 500}},
        "batch_max": 100, "receipts": "push", "codes": "solapi", "deduplicates": true, "answers_status": true,
        "credentials": {"api_key": "relay-key", "receipt_secret": RECEIPT_SECRET}
    })
}

/// Without those of tenants: the clock stands still, and nothing becomes final.
fn limits() -> AcceptLimits {
    let tenant = LimitsInForce {
        open_messages_max: u64::MAX,
        scheduled_messages_max: u64::MAX,
        requests_per_second: u32::MAX,
        recipients_per_second: u32::MAX,
        contacts_max: u64::MAX,
    };
    AcceptLimits {
        open_messages_max: u64::MAX,
        scheduled_messages_max: u64::MAX,
        password_reserve_per_cent: 0,
        tenant,
        ..AcceptLimits::default()
    }
}
