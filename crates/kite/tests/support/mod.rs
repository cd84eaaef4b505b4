//! A Kite process, its simulated relays, and a customer who sends through its API and never gives up.

use anyhow::{Context, bail, ensure};
use kite_projections::ReadModels;
use kite_relay_sim::{RelaySim, Scenario};
use kite_testkit::process::Process;
use kite_testkit::wait::{free_address, wait_for, wait_until, wait_until_ready};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const ADMIN_KEY: &str = "crash-test-admin";
const READY_WITHIN: Duration = Duration::from_secs(30);
const RELAYS: [(&str, u32); 3] = [("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)];
const SECRET: &str = "whsec_Y3Jhc2gtdGVzdC1yZWNlaXB0LXNlY3JldCEhISE=";

/// The seed of this run: `KITE_TEST_SEED`, or a fixed one.
pub(crate) fn seed() -> u64 {
    std::env::var("KITE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

/// A Kite process with everything around it.
pub(crate) struct House {
    pub(crate) simulators: RelaySim,
    process: Process,
    data: tempfile::TempDir,
    address: SocketAddr,
    tenant_key: String,
    http: Client,
}

impl House {
    /// Starts all of it and sets up a tenant.
    pub(crate) async fn build(seed: u64) -> anyhow::Result<Self> {
        let simulators = RelaySim::start(scenario(seed)?).await?;
        let data = tempfile::tempdir()?;
        let address = free_address()?;
        let http = Client::builder().timeout(Duration::from_secs(20)).build()?;
        let process = start(data.path(), address)?;
        let mut house = Self { simulators, process, data, address, tenant_key: String::new(), http };
        house.wait_until_ready().await?;
        house.set_up().await?;
        Ok(house)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let ready = wait_until_ready(&self.url("/readyz"), READY_WITHIN).await;
        ready.with_context(|| format!("kite is not ready; its log:\n{}", self.process.log()))
    }

    async fn call(&self, method: Method, path: &str, key: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.http.request(method, self.url(path)).bearer_auth(key).json(body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.http.get(self.url(path)).bearer_auth(&self.tenant_key).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn set_up(&mut self) -> anyhow::Result<()> {
        for (id, _) in RELAYS {
            self.simulators.set_callback(id, &self.url(&format!("/v1/relays/{id}/receipts")), SECRET)?;
            let profile = json!({
                "name": id,
                "endpoint": { "protocol": "http", "base_url": self.simulators.base_url(id) },
                "channels": { "sms": { "price_milliwon": 8_000, "bills": "delivered", "receipt_deadline_seconds": 90 } },
                "reaches": ["korean_mobile"], "batch_max": 100, "rate_parts_per_second": null,
                "calls_in_flight_max": 4, "answer_timeout_ms": 1_500, "deduplicates": true, "answers_status": true,
                "receipts": "push", "codes": "solapi",
                "credentials": { "api_key": "crash-key", "receipt_secret": SECRET },
            });
            self.call(Method::PUT, &format!("/v1/admin/relays/{id}"), ADMIN_KEY, &profile).await?;
        }
        let tenant = json!({ "tenant": "acme", "name": "Acme" });
        self.call(Method::POST, "/v1/admin/tenants", ADMIN_KEY, &tenant).await?;
        let issued = self
            .call(Method::POST, "/v1/admin/tenants/acme/keys", ADMIN_KEY, &json!({ "label": "test" }))
            .await?;
        self.tenant_key = issued["key"].as_str().context("a key")?.to_owned();
        let names: Vec<&str> = RELAYS.iter().map(|(id, _)| *id).collect();
        let sender = json!({ "address": "0212345678", "relays": names });
        self.call(Method::POST, "/v1/senders", &self.tenant_key, &sender).await?;
        let weights: Vec<Value> =
            RELAYS.iter().map(|(relay, weight)| json!({ "relay": relay, "weight": weight })).collect();
        let policy = json!({ "objective": "ratio", "weights": weights });
        self.call(Method::PUT, "/v1/policies/sms", &self.tenant_key, &policy).await?;
        Ok(())
    }

    /// `kill -9`, and the same data again.
    pub(crate) async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process = start(self.data.path(), self.address)?;
        self.wait_until_ready().await
    }

    /// Waits until every message of every sending is final; answers the outcome of each.
    pub(crate) async fn wait_until_final(
        &self,
        sendings: &BTreeMap<String, u64>,
        timeout: Duration,
    ) -> anyhow::Result<HashMap<String, String>> {
        for sending in sendings.keys() {
            let path = format!("/v1/sendings/{sending}");
            let what = format!("sending {sending} to be final");
            let done = wait_for(&what, timeout, async || match self.get(&path).await {
                Ok(view) => (view["counts"]["open"] == 0).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            });
            if let Err(error) = done.await.and_then(|answer| answer) {
                bail!("{error:#}; it is {}", self.get(&path).await?);
            }
        }
        let mut outcomes = HashMap::new();
        for sending in sendings.keys() {
            let mut cursor = String::new();
            loop {
                let page = self.get(&format!("/v1/sendings/{sending}/messages?limit=200{cursor}")).await?;
                for message in page["items"].as_array().context("a list of messages")? {
                    let text = |key: &str| {
                        message[key]
                            .as_str()
                            .map(str::to_owned)
                            .with_context(|| format!("{key} of {message}"))
                    };
                    outcomes.insert(text("id")?, text("outcome")?);
                }
                match page["next"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
        }
        Ok(outcomes)
    }

    /// SIGTERM; answers the data directory of the process, which has exited with 0.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<tempfile::TempDir> {
        let status = self.process.terminate(Duration::from_secs(30))?;
        ensure!(status.success(), "SIGTERM ended with {status}; its log:\n{}", self.process.log());
        self.simulators.shutdown().await;
        Ok(self.data)
    }

    /// Ctrl-C; the process has exited with 0.
    pub(crate) async fn interrupt(mut self) -> anyhow::Result<()> {
        let status = self.process.interrupt(Duration::from_secs(30))?;
        ensure!(status.success(), "Ctrl-C ended with {status}; its log:\n{}", self.process.log());
        self.simulators.shutdown().await;
        Ok(())
    }
}

fn start(data: &Path, address: SocketAddr) -> anyhow::Result<Process> {
    let config = data.join("kite.toml");
    let text = format!("data_dir = {:?}\nlisten = \"{address}\"\n", data.join("data"));
    std::fs::write(&config, text)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.arg("serve").arg("--config").arg(&config).env("KITE_ADMIN_KEY", ADMIN_KEY);
    Process::start("kite", &mut command)
}

/// Relays that lose answers, are slow, refuse, report twice and late, and drop repeats as real ones do.
fn scenario(seed: u64) -> anyhow::Result<Scenario> {
    let relays: Vec<Value> = RELAYS
        .iter()
        .map(|(id, _)| {
            json!({
                "id": id, "api_key": "crash-key", "codes": "solapi", "channels": ["sms"], "batch_max": 100,
                "behaviour": {
                    "latency_ms": { "p50": 10, "spread": 3 }, "delivery_ms": { "p50": 200, "spread": 3 },
                    "refusals": { "3032": 0.01, "3053": 0.02 },
                    "undelivered": { "3043": 0.01, "3056": 0.02 },
                    "faults": { "answer_lost": 0.01, "slow_answer": { "share": 0.01, "ms": 2_500 } },
                    "receipts": {
                        "secret": SECRET, "twice": 0.05, "before_response": 0.02,
                        "out_of_order": { "share": 0.05, "ms": 300 },
                    },
                },
            })
        })
        .collect();
    let text =
        json!({ "seed": seed, "listen": "127.0.0.1:0", "ledger": "full", "relays": relays }).to_string();
    Scenario::from_json(&text)
}

/// A customer: sends under idempotency keys, and repeats a request until it has an answer.
pub(crate) struct Load {
    accepted: Arc<AtomicU64>,
    work: std::thread::JoinHandle<anyhow::Result<BTreeMap<String, u64>>>,
}

impl Load {
    /// Starts sending.
    pub(crate) fn start(house: &House, messages: u64, seed: u64) -> anyhow::Result<Self> {
        let accepted = Arc::new(AtomicU64::new(0));
        let (http, key) = (house.http.clone(), house.tenant_key.clone());
        let url = house.url("/v1/sendings");
        let counted = accepted.clone();
        let sending = move || async move {
            let mut sendings = BTreeMap::new();
            let mut request = 0_u64;
            let mut next_number = 10_000_000_u64;
            while counted.load(Ordering::SeqCst) < messages {
                // Requests of many sizes: single messages, and more than a relay takes at once.
                let size = [1, 1, 7, 40, 150, 1_200][(seed.wrapping_add(request * 31) % 6) as usize];
                let recipients: Vec<Value> = (next_number..next_number + size)
                    .map(|number| json!({ "to": format!("010{number}") }))
                    .collect();
                next_number += size;
                let body = json!({
                    "class": if size == 1 { "otp" } else { "notice" }, "from": "0212345678",
                    "text": "crash test", "lifetime_seconds": 3_600, "recipients": recipients,
                });
                let answer = send(&http, &url, &key, request, &body).await?;
                let id = answer["id"].as_str().context("an id")?.to_owned();
                let count = answer["accepted"].as_u64().context("a count")?;
                ensure!(count == size, "{count} of {size} accepted: {answer}");
                sendings.insert(id, count);
                counted.fetch_add(count, Ordering::SeqCst);
                request += 1;
            }
            Ok(sendings)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work =
            std::thread::Builder::new().name("load".to_owned()).spawn(move || runtime.block_on(sending()))?;
        Ok(Self { accepted, work })
    }

    /// Waits until this many messages got a 202.
    pub(crate) async fn wait_for_accepted(&self, messages: u64) -> anyhow::Result<()> {
        wait_until(&format!("{messages} accepted messages"), Duration::from_secs(120), async || {
            self.work.is_finished() || self.accepted.load(Ordering::SeqCst) >= messages
        })
        .await?;
        ensure!(self.accepted.load(Ordering::SeqCst) >= messages, "the load ended early");
        Ok(())
    }

    /// Waits for the end; answers every sending that got a 202, with its number of messages.
    pub(crate) async fn finish(self) -> anyhow::Result<BTreeMap<String, u64>> {
        wait_until("the load to end", Duration::from_secs(300), async || self.work.is_finished()).await?;
        self.work.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}

async fn send(http: &Client, url: &str, key: &str, request: u64, body: &Value) -> anyhow::Result<Value> {
    wait_for(&format!("an answer to request {request}"), Duration::from_secs(120), async || {
        let sent = http
            .post(url)
            .bearer_auth(key)
            .header("idempotency-key", format!("crash-{request}"))
            .json(body)
            .send()
            .await;
        // No answer: the process is down, or died in the middle. The same request again.
        let response = sent.ok()?;
        let status = response.status();
        let text = response.text().await.ok()?;
        match status {
            StatusCode::ACCEPTED => Some(serde_json::from_str(&text).map_err(anyhow::Error::from)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT => None,
            _ => Some(Err(anyhow::anyhow!("POST /v1/sendings answered {status}: {text}"))),
        }
    })
    .await?
}

/// Law 3 over everything that was ever routed, across all kills.
pub(crate) fn assert_split_is_exact(data: &tempfile::TempDir, seed: u64) -> anyhow::Result<()> {
    let models = ReadModels::open(&data_dir(data))?;
    let splits = models.routing.splits(None)?;
    ensure!(!splits.is_empty(), "seed {seed}: nothing was routed");
    for split in splits {
        for share in &split.relays {
            let off = (share.routed as f64 - share.planned).abs();
            ensure!(off < 1.0, "seed {seed}: {} of split {} is {off} messages off", share.relay, split.key);
        }
    }
    Ok(())
}

/// Law 8 over the whole data directory, by the operator's command.
pub(crate) fn assert_replay_verifies(data: &tempfile::TempDir) -> anyhow::Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    let output = command.arg("replay").arg("--verify").arg("--data").arg(data_dir(data)).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "replay --verify found differences:\n{printed}\n{complaints}");
    Ok(())
}

fn data_dir(data: &tempfile::TempDir) -> PathBuf {
    data.path().join("data")
}
