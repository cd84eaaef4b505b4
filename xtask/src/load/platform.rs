//! Kite and relay-sim as processes of their own, set up through the public API: three relays, a tenant, a sender, a
//! 50/30/20 policy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kite_testkit::metrics::metric_max;
use kite_testkit::postgres::Database;
use kite_testkit::process::Process;
use kite_testkit::senders::{approval, approval_path};
use kite_testkit::wait::{free_address, wait_for, wait_until_ready};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::cluster::{LoadCluster, Others};
use super::generator::Target;
use super::measure::{cpu_seconds, cpu_seconds_by_thread};
use super::server::LoadServer;
use super::stages::Plan;
use crate::paths::target;

/// The tenant's sending number.
pub(crate) const FROM_PHONE: &str = "0212345678";
/// The relays, with their shares in hundredths of a per cent.
pub(crate) const RELAYS: [(&str, u32); 3] = [("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)];

/// What the server of the work queue is called among the processes.
const NATS: &str = "nats-server";
const ADMIN_KEY: &str = "the-admin-key-of-the-load";
const RELAY_KEY: &str = "load-relay-key";
const RECEIPT_SECRET: &str = "whsec_bG9hZC1yZWNlaXB0cy1zaGFyZWQtc2VjcmV0ISE=";
const TENANT: &str = "load";
/// How long a process may take to start or to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Which parts of Kite run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roles {
    /// Only acceptance: nothing is routed, projected or handed over.
    Api,
    /// All.
    All,
}

/// Everything that runs while a load does.
pub(crate) struct Platform {
    // Kite first: it must not hand over to a relay that is gone.
    kite: Process,
    /// The other processes of Kite, if there are any, and the server of their work queue.
    others: Option<(Others, LoadCluster)>,
    relays: Process,
    address: SocketAddr,
    relay_admin: Url,
    tenant_key: String,
    data: TempDir,
    /// The server with log and read models, and the name of the database.
    postgres: Option<(LoadServer, String)>,
}

/// What relay-sim prints when it is ready.
#[derive(Deserialize)]
struct RelayAddresses {
    admin: String,
    relays: std::collections::BTreeMap<String, String>,
}

impl Platform {
    /// Starts both processes on free ports and sets everything up.
    pub(crate) async fn start(plan: &Plan, roles: Roles) -> anyhow::Result<Self> {
        Self::start_with(plan, roles, &[]).await
    }

    /// [`Platform::start`] with these variables in Kite's environment.
    pub(crate) async fn start_with(
        plan: &Plan,
        roles: Roles,
        settings: &[(&'static str, String)],
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir_in(&plan.directory)?;
        let mut settings = settings.to_vec();
        let mut postgres = None;
        if let Some(server) = &plan.postgres {
            let database = Database::at(server.url.clone()).await;
            settings.extend(migrated(&database)?);
            postgres = Some((server.clone(), database.name().to_owned()));
        }
        let address = free_address()?;
        let (relays, addresses) = start_relays(data.path(), address)?;
        for (name, value) in plan.cluster.iter().flat_map(LoadCluster::settings) {
            settings.push((name, value));
        }
        let kite = start_kite(data.path(), address, roles, plan.cluster.is_some(), &settings)?;
        let others = match &plan.cluster {
            Some(cluster) => Some((cluster.start_others(data.path(), &settings)?, cluster.clone())),
            None => None,
        };
        let ready = wait_until_ready(&format!("http://{address}/healthz"), PATIENCE).await;
        ready.with_context(|| kite.log())?;
        for address in others.iter().flat_map(|(others, _)| &others.addresses) {
            wait_until_ready(&format!("http://{address}/healthz"), PATIENCE).await?;
        }
        let admin = Client { address, key: ADMIN_KEY.to_owned() };
        let tenant_key = set_up(&admin, &addresses).await?;
        let relay_admin = Url::parse(&addresses.admin)?;
        Ok(Self { kite, others, relays, address, relay_admin, tenant_key, data, postgres })
    }

    /// Where sendings go.
    pub(crate) fn target(&self) -> Target {
        let others = self.others.iter().flat_map(|(others, _)| others.addresses.iter().copied());
        Target { addresses: [self.address].into_iter().chain(others).collect(), key: self.tenant_key.clone() }
    }

    /// Whether one process of Kite does everything.
    pub(crate) fn is_one_process(&self) -> bool {
        self.others.is_none()
    }

    /// The other processes of Kite, if there are any.
    pub(crate) fn others(&mut self) -> Option<&mut Others> {
        self.others.as_mut().map(|(others, _)| others)
    }

    /// CPU time of all processes of Kite so far: by threads if it is one, else by roles.
    pub(crate) fn kite_cpu_seconds(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let Some((others, cluster)) = &self.others else { return cpu_seconds_by_thread(self.kite.id()) };
        let mut used = BTreeMap::from([("api".to_owned(), cpu_seconds(self.kite.id())?)]);
        for (role, more) in others.cpu_seconds()? {
            *used.entry(role.to_owned()).or_default() += more;
        }
        used.insert(NATS.to_owned(), cluster.cpu_seconds()?);
        Ok(used)
    }

    /// CPU time of all processes of Kite together, with that of threads that have ended.
    pub(crate) fn all_cpu_seconds(&self) -> anyhow::Result<f64> {
        let of_others = match &self.others {
            Some((others, _)) => others.cpu_seconds()?.iter().map(|(_, used)| used).sum(),
            None => 0.0,
        };
        Ok(cpu_seconds(self.kite.id())? + of_others)
    }

    /// Kite's process id.
    pub(crate) fn kite_process(&self) -> u32 {
        self.kite.id()
    }

    /// relay-sim's process id.
    pub(crate) fn relays_process(&self) -> u32 {
        self.relays.id()
    }

    /// The PostgreSQL server with everything, and the name of the database.
    pub(crate) fn postgres(&self) -> Option<(&LoadServer, &str)> {
        self.postgres.as_ref().map(|(server, database)| (server, &**database))
    }

    /// Where Kite keeps everything.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("kite")
    }

    /// Kite's metrics.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics { client: Client { address: self.address, key: ADMIN_KEY.to_owned() } }
    }

    /// Reads something from Kite's API, as the tenant.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let client = Client { address: self.address, key: self.tenant_key.clone() };
        client.json(Method::GET, path, &Value::Null).await
    }

    /// Posts something to Kite's API, as the tenant, over a connection of its own. It has to be answered with 2xx.
    pub(crate) async fn post(&self, path: &str, body: Bytes) -> anyhow::Result<()> {
        let client = Client { address: self.address, key: self.tenant_key.clone() };
        client.request(Method::POST, path, body).await.map(drop)
    }

    /// Reads something from relay-sim's admin endpoints.
    pub(crate) async fn get_from_relays(&self, path: &str) -> anyhow::Result<Value> {
        let client = Client { address: self.relay_admin.address, key: String::new() };
        client.json(Method::GET, &format!("{}{path}", self.relay_admin.path), &Value::Null).await
    }

    /// Waits until this many messages are accepted and all of them are final.
    pub(crate) async fn wait_until_final(&self, messages: u64, timeout: Duration) -> anyhow::Result<()> {
        let metrics = self.metrics();
        let mut last = String::new();
        let waited = wait_for("every message to be final", timeout, async || {
            let seen = match self.get("/v1/statistics").await {
                Ok(statistics) => statistics["rows"][0]["messages"].as_u64().unwrap_or(0),
                Err(error) => return Some(Err(error)),
            };
            let open = match metrics.read().await {
                Ok(text) => metric_max(&text, "kite_open_messages"),
                Err(error) => return Some(Err(error)),
            };
            last = format!("{seen} of {messages} messages are in the read models, {open:?} are open");
            (seen == messages && open == Some(0.0)).then_some(Ok(()))
        });
        let waited = waited.await;
        let others = || self.others.as_ref().map(|(others, _)| others.log()).unwrap_or_default();
        waited.with_context(|| format!("{last}\n{}\n{}", self.kite.log(), others()))?
    }

    /// Asks both to end. Kite has to drain and to end well.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let status = self.kite.terminate(PATIENCE)?;
        if !status.success() {
            bail!("Kite ended with {status}\n{}", self.kite.log());
        }
        for mut process in self.others.take().into_iter().flat_map(|(others, _)| others.into_processes()) {
            let status = process.terminate(PATIENCE)?;
            ensure!(status.success(), "a process of Kite ended with {status}\n{}", process.log());
        }
        self.relays.terminate(PATIENCE)?;
        Ok(())
    }
}

fn start_relays(directory: &Path, kite: SocketAddr) -> anyhow::Result<(Process, RelayAddresses)> {
    let relay = |id: &str| {
        json!({
            "id": id, "api_key": RELAY_KEY, "codes": "solapi", "channels": ["sms", "lms"], "batch_max": 100,
            "behaviour": {
                "latency_ms": { "p50": 20 },
                "delivery_ms": { "p50": 50 },
                "undelivered": { "3043": 0.01 },
                "receipts": { "callback_url": format!("http://{kite}/v1/relays/{id}/receipts"), "secret": RECEIPT_SECRET },
            },
        })
    };
    let scenario = json!({
        "seed": 1, "listen": "127.0.0.1:0", "ledger": "full", "relays": RELAYS.map(|(id, _)| relay(id)),
    });
    let path = directory.join("scenario.json");
    std::fs::write(&path, scenario.to_string())?;
    let mut command = Command::new(target().join("release/relay-sim"));
    let process = Process::start("relay-sim", command.arg("--scenario").arg(&path))?;
    let addresses =
        process.wait_for_line("its addresses", PATIENCE, |line| serde_json::from_str(line).ok())?;
    Ok((process, addresses))
}

/// Makes a log and read models in a new database; what Kite has to be told to use them.
fn migrated(database: &Database) -> anyhow::Result<[(&'static str, String); 4]> {
    let told = [
        ("KITE_STORE__ENGINE", "postgres".to_owned()),
        ("KITE_READ_MODELS__ENGINE", "postgres".to_owned()),
        ("KITE_POSTGRES__URL", database.url()),
        ("KITE_POSTGRES__SSLMODE", "disable".to_owned()),
    ];
    let mut migrate = Command::new(target().join("release/kite"));
    let made = migrate.args(["postgres", "migrate"]).envs(told.clone()).output()?;
    ensure!(made.status.success(), "kite postgres migrate: {}", String::from_utf8_lossy(&made.stderr));
    Ok(told)
}

fn start_kite(
    directory: &Path,
    address: SocketAddr,
    roles: Roles,
    is_one_of_many: bool,
    settings: &[(&'static str, String)],
) -> anyhow::Result<Process> {
    let mut command = Command::new(target().join("release/kite"));
    command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(directory.join("kite"));
    dress(&mut command, settings);
    if is_one_of_many {
        command.args(["--roles", "api"]);
    }
    if roles == Roles::Api {
        // Nothing empties the backlog then, so it must not count.
        command.args(["--roles", "api"]);
        command.env("KITE_LIMITS__OPEN_MESSAGES_MAX", "1000000000");
        command.env("KITE_LIMITS__PROJECTOR_LAG_EVENTS_MAX", "1000000000");
    }
    Process::start("kite", &mut command)
}

/// What each process of Kite is told.
pub(super) fn dress(command: &mut Command, settings: &[(&'static str, String)]) {
    // One tenant has the machine for itself.
    command.env("KITE_LIMITS__TENANT__OPEN_MESSAGES_MAX", "1000000000");
    command.env("KITE_LIMITS__TENANT__REQUESTS_PER_SECOND", "1000000");
    command.env("KITE_LIMITS__TENANT__RECIPIENTS_PER_SECOND", "10000000");
    command.env("KITE_ADMIN_KEY", ADMIN_KEY).envs(settings.iter().map(|(name, value)| (name, value)));
}

/// Relays, tenant, sender and policy; gives back the tenant's key.
async fn set_up(admin: &Client, addresses: &RelayAddresses) -> anyhow::Result<String> {
    for (id, base_url) in &addresses.relays {
        let terms = json!({ "price_milliwon": 8_000, "receipt_deadline_seconds": 600 });
        let relay = json!({
            "name": id, "endpoint": { "protocol": "http", "base_url": base_url },
            "channels": { "sms": terms, "lms": terms },
            "batch_max": 100, "calls_in_flight_max": 16, "answer_timeout_ms": 10_000,
            "deduplicates": true, "answers_status": true, "receipts": "push", "codes": "solapi",
            "credentials": { "api_key": RELAY_KEY, "receipt_secret": RECEIPT_SECRET },
        });
        admin.json(Method::PUT, &format!("/v1/admin/relays/{id}"), &relay).await?;
    }
    admin.json(Method::POST, "/v1/admin/tenants", &json!({ "tenant": TENANT, "name": "Load" })).await?;
    let keys = format!("/v1/admin/tenants/{TENANT}/keys");
    let issued = admin.json(Method::POST, &keys, &json!({ "label": "load" })).await?;
    let key = issued["key"].as_str().context("the answer holds the key")?.to_owned();
    let tenant = Client { address: admin.address, key: key.clone() };
    let sender = json!({
        "address": FROM_PHONE, "brand": "카이트", "refusal_number": "080-123-4567", "relays": RELAYS.map(|(id, _)| id),
    });
    tenant.json(Method::POST, "/v1/senders", &sender).await?;
    let approved = approval(&RELAYS.map(|(id, _)| id));
    admin.json(Method::POST, &approval_path(TENANT, FROM_PHONE), &approved).await?;
    let weights = RELAYS.map(|(relay, weight)| json!({ "relay": relay, "weight": weight }));
    for channel in ["sms", "lms"] {
        let policy = json!({ "objective": "ratio", "weights": weights });
        tenant.json(Method::PUT, &format!("/v1/policies/{channel}"), &policy).await?;
    }
    Ok(key)
}

/// Reads Kite's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    client: Client,
}

impl Metrics {
    /// All of them, as text.
    pub(crate) async fn read(&self) -> anyhow::Result<String> {
        let bytes = self.client.request(Method::GET, "/metrics", Bytes::new()).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// An address and a path on it.
struct Url {
    address: SocketAddr,
    path: String,
}

impl Url {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let rest =
            text.strip_prefix("http://").with_context(|| format!("{text} does not begin with http://"))?;
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Self { address: address.parse()?, path: path.to_owned() })
    }
}

/// Single requests, each on a connection of its own: they are few.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    key: String,
}

impl Client {
    async fn json(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.request(method, path, body).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let what = format!("{method} {path}");
        let stream = TcpStream::connect(self.address).await.with_context(|| what.clone())?;
        let (mut requests, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A broken connection shows in the request that was on it.
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let response = requests.send_request(request).await.with_context(|| what.clone())?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{what} answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}
