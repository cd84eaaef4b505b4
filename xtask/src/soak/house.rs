//! Kite and relay-sim as processes that die and come back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use kite_testkit::customer::Customer;
use kite_testkit::night::Night;
use kite_testkit::operator::Place;
use kite_testkit::process::Process;
use kite_testkit::relays;
use kite_testkit::wait::{free_address, wait_until_ready};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::Value;

use super::server::SoakServer;
use crate::load::measure::cpu_seconds;
use crate::paths::built;

pub(super) const ADMIN_KEY: &str = "the-admin-key-of-the-soak";
const CONFIG: &str = "kite.toml";
/// How long a process may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(120);
/// Some caches are set small so that they are full within a minute; the others have fixed sizes and fill while the memory
/// is not looked at yet. A breaker comes back within the run.
const SETTINGS: [(&str, &str); 7] = [
    ("KITE_LOTS_IN_MEMORY_MESSAGES_MAX", "10000"),
    ("KITE_STORE__RECENT_BYTES_MAX", "4194304"),
    ("KITE_STORE__STREAMS_IN_MEMORY_MAX", "10000"),
    ("KITE_RELAYS__TEXTS_MAX", "500"),
    ("KITE_RELAYS__NIGHT_SPREAD_S", "15"),
    ("KITE_RELAYS__BREAKER__BACK_OFF_FIRST_MS", "2000"),
    ("KITE_RELAYS__BREAKER__BACK_OFF_MAX_MS", "10000"),
];

/// Both processes and their data.
pub(super) struct House {
    // Kite first: it must not hand over to a relay that is gone.
    kite: Process,
    relays: Process,
    address: SocketAddr,
    relay_admin: String,
    directory: PathBuf,
    pub(super) customer: Customer,
    /// When advertisements are held.
    pub(super) night: Night,
    /// The process id of Kite, for those who only watch it; 0 while there is none.
    pub(super) process: Arc<AtomicU32>,
    cpu_seconds_before: f64,
    pub(super) kills: u64,
    pub(super) stops: u64,
    /// The server that everything is in, unless it is in files.
    server: Option<SoakServer>,
}

/// What relay-sim prints when it is ready.
#[derive(Deserialize)]
struct Addresses {
    admin: String,
    relays: BTreeMap<String, String>,
}

impl House {
    /// Starts both processes on free ports and sets everything up.
    pub(super) async fn start(
        directory: &Path,
        seed: u64,
        night: Night,
        server: Option<SoakServer>,
    ) -> anyhow::Result<Self> {
        // Somebody may build while this runs, and what is started again has to be the same.
        for program in ["kite", "relay-sim"] {
            std::fs::copy(built(program), directory.join(program))?;
        }
        configure(directory, server.as_ref())?;
        let scenario = directory.join("scenario.json");
        std::fs::write(&scenario, relays::scenario(seed).to_string())?;
        let mut command = Command::new(directory.join("relay-sim"));
        let relays = Process::start("relay-sim", command.arg("--scenario").arg(&scenario))?;
        let addresses: Addresses =
            relays.wait_for_line("its addresses", PATIENCE, |line| serde_json::from_str(line).ok())?;
        let address = free_address()?;
        let kite = start_kite(directory, address, night)?;
        let url = format!("http://{address}");
        wait_until_ready(&format!("{url}/readyz"), PATIENCE).await.with_context(|| kite.log())?;
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let profiles = relays::profiles(|id| addresses.relays.get(id).cloned())?;
        let customer = Customer::set_up(http, url.clone(), ADMIN_KEY, profiles).await?;
        let process = Arc::new(AtomicU32::new(kite.id()));
        let house = Self {
            kite,
            relays,
            address,
            relay_admin: addresses.admin,
            directory: directory.to_owned(),
            customer,
            night,
            process,
            cpu_seconds_before: 0.0,
            kills: 0,
            stops: 0,
            server,
        };
        for (id, callback) in relays::callbacks(&url) {
            house.relay(Method::PUT, &format!("/relays/{id}/behaviour"), &callback).await?;
        }
        Ok(house)
    }

    /// Where Kite keeps everything.
    pub(super) fn data(&self) -> PathBuf {
        data_of(&self.directory)
    }

    /// The log and the read models, for an operator's commands.
    pub(super) fn place(&self) -> Place {
        Place::Config(self.directory.join(CONFIG))
    }

    /// CPU time that all Kites together have used.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(self.cpu_seconds_before + cpu_seconds(self.kite.id())?)
    }

    /// The same of a Kite that is stopped.
    pub(super) fn cpu_seconds_of_all(&self) -> f64 {
        self.cpu_seconds_before
    }

    /// One of relay-sim's admin endpoints.
    pub(super) async fn relay(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.relay_admin);
        let response = self.customer.http.request(method, url).json(body).send().await;
        let response =
            response.with_context(|| format!("relay-sim does not answer\n{}", self.relays.log()))?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{path} of relay-sim answered {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Kite's metrics.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.address);
        let response = self.customer.http.get(url).bearer_auth(ADMIN_KEY).send().await?;
        Ok(response.error_for_status()?.text().await?)
    }

    /// That Kite has not ended by itself.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        ensure!(self.kite.is_running()?, "Kite has ended by itself\n{}", self.kite.log());
        ensure!(self.relays.is_running()?, "relay-sim has ended by itself\n{}", self.relays.log());
        Ok(())
    }

    pub(super) fn pause_relays(&mut self) -> anyhow::Result<()> {
        self.relays.pause()
    }

    pub(super) fn resume_relays(&mut self) -> anyhow::Result<()> {
        self.relays.resume()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.cpu_seconds_before = self.cpu_seconds()?;
        self.process.store(0, Ordering::SeqCst);
        self.kite.kill()?;
        self.kills += 1;
        Ok(())
    }

    /// SIGTERM: it has to drain and to end well.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.cpu_seconds_before = self.cpu_seconds()?;
        self.process.store(0, Ordering::SeqCst);
        let status = self.kite.terminate(PATIENCE)?;
        if !status.success() {
            bail!("Kite ended with {status} after SIGTERM\n{}", self.kite.log());
        }
        self.stops += 1;
        Ok(())
    }

    /// The same data again.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.kite = start_kite(&self.directory, self.address, self.night)?;
        self.process.store(self.kite.id(), Ordering::SeqCst);
        self.until_ready().await
    }

    /// Waits until Kite says that it can do its work.
    pub(super) async fn until_ready(&self) -> anyhow::Result<()> {
        let ready = wait_until_ready(&format!("http://{}/readyz", self.address), PATIENCE).await;
        ready.with_context(|| self.kite.log())
    }

    /// The server that everything is in.
    pub(super) fn server(&mut self) -> anyhow::Result<&mut SoakServer> {
        self.server.as_mut().context("everything is in files")
    }

    /// Stops the server, if there is one; says how often it was killed.
    pub(super) fn stop_server(&mut self) -> anyhow::Result<u64> {
        self.server.take().map_or(Ok(0), SoakServer::stop)
    }

    /// The binary that runs.
    pub(super) fn binary(&self) -> PathBuf {
        self.directory.join("kite")
    }

    /// What Kite printed last.
    pub(super) fn log(&self) -> String {
        self.kite.log()
    }
}

fn data_of(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// Writes down where everything is kept: in the data directory, or in this empty database.
fn configure(directory: &Path, server: Option<&SoakServer>) -> anyhow::Result<()> {
    let mut text = format!("data_dir = {:?}\n", data_of(directory));
    if let Some(server) = server {
        let url = server.url();
        text += &format!(
            "[store]\nengine = \"postgres\"\n[read_models]\nengine = \"postgres\"\n[postgres]\nurl = {url:?}\nsslmode = \"disable\"\n"
        );
    }
    let config = directory.join(CONFIG);
    std::fs::write(&config, text)?;
    if server.is_some() {
        let made = Command::new(directory.join("kite"))
            .args(["postgres", "migrate", "--config"])
            .arg(&config)
            .output()?;
        ensure!(made.status.success(), "kite postgres migrate: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

fn start_kite(directory: &Path, address: SocketAddr, night: Night) -> anyhow::Result<Process> {
    let mut command = Command::new(directory.join("kite"));
    command.args(["serve", "--listen", &address.to_string(), "--config"]).arg(directory.join(CONFIG));
    command.env("KITE_ADMIN_KEY", ADMIN_KEY).envs(SETTINGS).env("KITE_RELAYS__NIGHT", night.setting());
    Process::start("kite", &mut command)
}
