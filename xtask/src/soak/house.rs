//! Kite, as one process or as several, and relay-sim: processes that die and come back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use chrono::{DateTime, Utc};
use kite_testkit::customer::Customer;
use kite_testkit::metrics::metric_sum;
use kite_testkit::night::Night;
use kite_testkit::operator::Place;
use kite_testkit::process::Process;
use kite_testkit::proxy::Proxy;
use kite_testkit::relays;
use kite_testkit::wait::{wait_for, wait_until, wait_until_ready};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::Value;

use super::cluster::Cluster;
use super::ground::Ground;
use super::minute::Files;
use super::node::{Node, PATIENCE};
use super::pace::Agreed;
use super::server::SoakServer;
use crate::paths::built;

pub(super) use super::node::ADMIN_KEY;

/// How long an answer may take, of an API and of relay-sim.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The same where another process could answer.
const ANSWER_OF_SEVERAL_WITHIN: Duration = Duration::from_secs(8);
/// The same where only a look is taken whether it can work.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// The operator's configuration, if it is none of a process.
const OPERATOR: &str = "operator.toml";

/// All processes and their data.
pub(super) struct House {
    // Kite first: it must not hand over to a relay that is gone.
    pub(super) nodes: Vec<Node>,
    relays: Process,
    relay_admin: String,
    directory: PathBuf,
    /// Who sends. If there are several APIs, through what stands before them.
    pub(super) customer: Customer,
    /// For everybody else.
    http: Client,
    front: Option<Proxy>,
    /// When advertisements are held.
    pub(super) night: Night,
    /// What was agreed with relays about their rates.
    pub(super) agreed: Agreed,
    /// When all relays stood still.
    pub(super) standstills: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    pub(super) kills: u64,
    pub(super) stops: u64,
    ground: Ground,
}

/// What relay-sim prints when it is ready.
#[derive(Deserialize)]
struct Addresses {
    admin: String,
    relays: BTreeMap<String, String>,
}

impl House {
    /// Starts everything on free ports and sets everything up.
    pub(super) async fn start(
        directory: &Path,
        seed: u64,
        night: Night,
        agreed: Agreed,
        ground: Ground,
    ) -> anyhow::Result<Self> {
        // Somebody may build while this runs, and what is started again has to be the same.
        for program in ["kite", "relay-sim"] {
            std::fs::copy(built(program), directory.join(program))?;
        }
        let scenario = directory.join("scenario.json");
        std::fs::write(&scenario, relays::scenario(seed).to_string())?;
        let mut command = Command::new(directory.join("relay-sim"));
        let relays = Process::start("relay-sim", command.arg("--scenario").arg(&scenario))?;
        let addresses: Addresses =
            relays.wait_for_line("its addresses", PATIENCE, |line| serde_json::from_str(line).ok())?;
        let nodes = start_nodes(directory, night, &ground)?;
        let apis: Vec<_> = nodes.iter().filter_map(|node| node.address).collect();
        let url = format!("http://{}", apis.first().context("nobody has an API")?);
        let client = |within| Client::builder().no_proxy().timeout(within).build();
        let http = client(ANSWER_WITHIN)?;
        for node in nodes.iter().filter(|node| node.address.is_some()) {
            until_ready(node).await?;
        }
        let profiles = agreed.profiles(|id| addresses.relays.get(id).cloned())?;
        let mut customer = Customer::set_up(http.clone(), url.clone(), ADMIN_KEY, profiles).await?;
        let mut front = None;
        if apis.len() > 1 {
            let proxy = Proxy::start_before(apis)?;
            customer.kite = format!("http://{}", proxy.address());
            customer.http = client(ANSWER_OF_SEVERAL_WITHIN)?;
            front = Some(proxy);
        }
        let callback = customer.kite.clone();
        let house = Self {
            nodes,
            relays,
            relay_admin: addresses.admin,
            directory: directory.to_owned(),
            customer,
            http,
            front,
            night,
            agreed,
            standstills: Vec::new(),
            kills: 0,
            stops: 0,
            ground,
        };
        house.until_known_everywhere().await?;
        for (id, callback) in relays::callbacks(&callback) {
            house.relay(Method::PUT, &format!("/relays/{id}/behaviour"), &callback).await?;
        }
        Ok(house)
    }

    /// Waits until each API knows what was set up, of which the policy for e-mail is the last.
    async fn until_known_everywhere(&self) -> anyhow::Result<()> {
        for at_one in self.customer_at_each() {
            wait_for("what was set up", PATIENCE, async || at_one.get("/v1/policies/email").await.ok())
                .await
                .with_context(|| self.log())?;
        }
        Ok(())
    }

    /// The customer, as one who goes to a certain API: each of them.
    pub(super) fn customer_at_each(&self) -> impl Iterator<Item = Customer> {
        let urls = self.nodes.iter().filter_map(Node::url);
        urls.map(|kite| Customer { kite, http: self.http.clone(), ..self.customer.clone() })
    }

    /// Sizes of what the processes keep in files.
    pub(super) fn files(&self) -> anyhow::Result<Files> {
        Files::of(&self.nodes.iter().map(Node::data).collect::<Vec<_>>())
    }

    /// The log and the read models, for an operator's commands.
    pub(super) fn place(&self) -> Place {
        let operator = self.directory.join(OPERATOR);
        Place::Config(if operator.exists() { operator } else { self.nodes[0].configuration() })
    }

    /// CPU time that all Kites together have used.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.nodes.iter().map(Node::cpu_seconds).sum()
    }

    /// Of all Kites together.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.nodes.iter().map(Node::resident_bytes).sum()
    }

    /// One of relay-sim's admin endpoints.
    pub(super) async fn relay(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.relay_admin);
        let response = self.http.request(method, url).json(body).send().await;
        let response =
            response.with_context(|| format!("relay-sim does not answer\n{}", self.relays.log()))?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{path} of relay-sim answered {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// How many messages of the customer the read models show.
    pub(super) async fn messages_told(&self) -> anyhow::Result<u64> {
        let statistics = self.customer.get("/v1/statistics").await?;
        Ok(statistics["rows"][0]["messages"].as_u64().unwrap_or(0))
    }

    /// Kite's metrics, of the first process that shows them.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        let mut last = anyhow!("nobody has an API");
        for url in self.nodes.iter().filter(|node| node.runs()).filter_map(Node::url) {
            let asked = self.http.get(format!("{url}/metrics")).bearer_auth(ADMIN_KEY).send().await;
            match asked.and_then(reqwest::Response::error_for_status) {
                Ok(response) => return Ok(response.text().await?),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// How much is in the work queue: messages in the lanes of the only process, or parcels on the servers.
    pub(super) async fn queue_depth(&self, metrics: &str) -> anyhow::Result<u64> {
        match &self.ground {
            Ground::Cluster(cluster) => cluster.parcels().await,
            Ground::Files | Ground::Postgres(_) => {
                Ok(metric_sum(metrics, "kite_queue_depth").context("no kite_queue_depth")? as u64)
            }
        }
    }

    /// That nobody has ended by himself. One of several that could not begin is started again.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        ensure!(self.relays.is_running()?, "relay-sim has ended by itself\n{}", self.relays.log());
        for node in &mut self.nodes {
            let was_started = node.check_alive()?;
            match &mut self.ground {
                Ground::Cluster(cluster) => cluster.strikes.started_again += u64::from(was_started),
                Ground::Files | Ground::Postgres(_) => ensure!(!was_started, "Kite did not begin"),
            }
        }
        Ok(())
    }

    pub(super) fn pause_relays(&mut self) -> anyhow::Result<()> {
        let now = now();
        self.standstills.push((now, now));
        self.relays.pause()
    }

    pub(super) fn resume_relays(&mut self) -> anyhow::Result<()> {
        self.relays.resume()?;
        if let Some(last) = self.standstills.last_mut() {
            last.1 = now();
        }
        Ok(())
    }

    /// SIGKILL to all.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.nodes.iter_mut().try_for_each(Node::kill)?;
        self.kills += 1;
        Ok(())
    }

    /// SIGTERM to all: they have to drain and to end well.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let stopping: Vec<_> =
                self.nodes.iter_mut().map(|node| scope.spawn(move || node.stop())).collect();
            stopping.into_iter().try_for_each(|one| match one.join() {
                Ok(stopped) => stopped,
                Err(_) => bail!("it panicked"),
            })
        })?;
        self.stops += 1;
        Ok(())
    }

    /// The same data again.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Node::start)?;
        self.until_ready().await
    }

    /// The same data again, for those who answer.
    pub(super) async fn restart_apis(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().filter(|node| node.address.is_some()).try_for_each(Node::start)?;
        self.until_ready().await
    }

    /// Waits until each API says that Kite can do its work. What it needs has to be there.
    pub(super) async fn until_ready(&mut self) -> anyhow::Result<()> {
        let mut alive = Ok(());
        let waited = wait_until("all APIs to be ready", PATIENCE, async || {
            // Whoever could not begin is started again.
            alive = self.check_alive();
            alive.is_err() || self.all_are_ready().await
        });
        let waited = waited.await;
        alive?;
        waited.with_context(|| self.log())
    }

    async fn all_are_ready(&self) -> bool {
        for url in self.nodes.iter().filter_map(Node::url) {
            let asked = self.http.get(format!("{url}/readyz")).timeout(LOOK_WITHIN).send().await;
            if !asked.is_ok_and(|answer| answer.status().is_success()) {
                return false;
            }
        }
        true
    }

    /// The server that everything is in.
    pub(super) fn server(&mut self) -> anyhow::Result<&mut SoakServer> {
        match &mut self.ground {
            Ground::Postgres(server) => Ok(server),
            Ground::Files | Ground::Cluster(_) => bail!("there is no single server"),
        }
    }

    /// What several processes stand on.
    pub(super) fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        match &mut self.ground {
            Ground::Cluster(cluster) => Ok(cluster),
            Ground::Files | Ground::Postgres(_) => bail!("there is a single process"),
        }
    }

    /// What several processes stand on, if they are several.
    pub(super) fn if_cluster(&self) -> Option<&Cluster> {
        match &self.ground {
            Ground::Cluster(cluster) => Some(cluster),
            Ground::Files | Ground::Postgres(_) => None,
        }
    }

    /// Stops what everything stands on. One that has ended by itself is an error.
    pub(super) fn stop_ground(self) -> anyhow::Result<()> {
        drop(self.front);
        match self.ground {
            Ground::Files => Ok(()),
            Ground::Postgres(server) => server.stop(),
            Ground::Cluster(cluster) => cluster.stop(),
        }
    }

    /// How often the only server was killed.
    pub(super) fn server_kills(&self) -> u64 {
        match &self.ground {
            Ground::Postgres(server) => server.kills,
            Ground::Files | Ground::Cluster(_) => 0,
        }
    }

    /// The binary that runs.
    pub(super) fn binary(&self) -> PathBuf {
        self.directory.join("kite")
    }

    /// What Kite printed last.
    pub(super) fn log(&self) -> String {
        self.nodes.iter().map(Node::log).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

async fn until_ready(node: &Node) -> anyhow::Result<()> {
    let url = node.url().context("it has no API")?;
    wait_until_ready(&format!("{url}/readyz"), PATIENCE).await.with_context(|| node.log())
}

/// Writes down what each process is to be, makes the schemas that they need, and starts them.
fn start_nodes(directory: &Path, night: Night, ground: &Ground) -> anyhow::Result<Vec<Node>> {
    let kite = directory.join("kite");
    let nodes = ground.seats().into_iter().map(|seat| Node::new(&seat, directory, &kite, night));
    let mut nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
    let mut configuration = nodes[0].configuration();
    if let Some(text) = ground.operator(&directory.join("operator")) {
        configuration = directory.join(OPERATOR);
        std::fs::write(&configuration, text)?;
    }
    if ground.is_postgres() {
        let mut migrate = Command::new(&kite);
        let made = migrate.args(["postgres", "migrate", "--config"]).arg(&configuration).output()?;
        ensure!(made.status.success(), "kite postgres migrate: {}", String::from_utf8_lossy(&made.stderr));
    }
    nodes.iter_mut().try_for_each(Node::start)?;
    Ok(nodes)
}
