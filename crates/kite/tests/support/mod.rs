//! A Kite process, its simulated relays, and a customer who sends through its API and never gives up.

mod judge;
mod load;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use kite_relay_sim::{RelaySim, Scenario};
use kite_testkit::carriers;
use kite_testkit::customer::Customer;
use kite_testkit::oracle::Oracle;
use kite_testkit::process::Process;
use kite_testkit::wait::{free_address, wait_for, wait_until_ready};
use reqwest::{Client, Method};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use load::{Accepted, Load};

const ADMIN_KEY: &str = "crash-test-admin";
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long everything that was accepted may take to become final.
const FINAL_WITHIN: Duration = Duration::from_secs(180);

/// A Kite process with everything around it.
pub(crate) struct House {
    pub(crate) simulators: RelaySim,
    process: Process,
    data: tempfile::TempDir,
    address: SocketAddr,
    customer: Customer,
    /// The hours in which no advertisement may go out, if they are not those of the law.
    night: Option<String>,
}

impl House {
    /// Starts all of it and sets up a tenant.
    pub(crate) async fn build(seed: u64) -> anyhow::Result<Self> {
        Self::build_with(seed, Room::Ample).await
    }

    /// [`House::build`] on a disk with this much room.
    pub(crate) async fn build_with(seed: u64, room: Room) -> anyhow::Result<Self> {
        let scenario = Scenario::from_json(&carriers::scenario(seed).to_string())?;
        let simulators = RelaySim::start(scenario).await?;
        let data = tempfile::tempdir()?;
        let address = free_address()?;
        let process = start(data.path(), address, room, None)?;
        let http = Client::builder().timeout(Duration::from_secs(20)).build()?;
        let customer = Customer { http: http.clone(), kite: format!("http://{address}"), key: String::new() };
        let mut house = Self { simulators, process, data, address, customer, night: None };
        house.wait_until_ready().await?;
        house.customer = house.set_up(http).await?;
        Ok(house)
    }

    async fn set_up(&self, http: Client) -> anyhow::Result<Customer> {
        for (id, callback) in carriers::callbacks(&self.url("")) {
            self.simulators.set_behaviour(id, &callback)?;
        }
        let profiles = carriers::profiles(|id| match self.simulators.smtp_address(id) {
            Some(address) => Some(format!("smtp://{address}")),
            None => Some(self.simulators.base_url(id)),
        })?;
        Customer::set_up(http, self.url(""), ADMIN_KEY, profiles).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let ready = wait_until_ready(&self.url("/readyz"), READY_WITHIN).await;
        ready.with_context(|| format!("kite is not ready; its log:\n{}", self.process.log()))
    }

    /// `kill -9`, and the same data again.
    pub(crate) async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.restart().await
    }

    /// The same data again, with ample room.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.start()?;
        self.wait_until_ready().await
    }

    /// Stops the process and starts it again into a night that ends after so many seconds; answers when.
    pub(crate) async fn begin_night(&mut self, seconds: i64) -> anyhow::Result<DateTime<Utc>> {
        self.stop()?;
        // Windows are in whole seconds of Seoul time.
        let end = now() + TimeDelta::seconds(seconds + 1);
        let end = end.with_nanosecond(0).context("a time has whole seconds")?;
        let in_seoul = |time: DateTime<Utc>| (time + TimeDelta::hours(9)).format("%H:%M:%S").to_string();
        self.night = Some(format!("{}-{}", in_seoul(end - TimeDelta::hours(2)), in_seoul(end)));
        self.restart().await?;
        Ok(end)
    }

    /// Sends; answers the sending's id.
    pub(crate) async fn send(&self, body: &Value) -> anyhow::Result<String> {
        let answer = self.customer.call(Method::POST, "/v1/sendings", body).await?;
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    /// Waits until no more than this many messages are open.
    pub(crate) async fn wait_for_open(&self, at_most: u64) -> anyhow::Result<()> {
        let what = format!("no more than {at_most} open messages");
        let url = self.url("/metrics");
        wait_for(&what, FINAL_WITHIN, async || {
            let response = self.customer.http.get(&url).bearer_auth(ADMIN_KEY).send().await.ok()?;
            let text = response.text().await.ok()?;
            let open = text.lines().find_map(|line| line.strip_prefix("kite_open_messages "))?;
            (open.parse::<f64>().ok()? <= at_most as f64).then_some(())
        })
        .await
    }

    /// Waits until there is an event of this kind in the log.
    pub(crate) async fn wait_for_event(&self, kind: &str) -> anyhow::Result<()> {
        let path = format!("/v1/audit/events?type={kind}&limit=1");
        wait_for(kind, FINAL_WITHIN, async || {
            let page = self.customer.get(&path).await.ok()?;
            page["items"].as_array().is_some_and(|events| !events.is_empty()).then_some(())
        })
        .await
    }

    /// Waits until the process ends by itself with a failure; answers what it printed last.
    pub(crate) fn wait_for_failure(&mut self, timeout: Duration) -> anyhow::Result<String> {
        let status = self.process.wait(timeout)?;
        let log = self.process.log();
        ensure!(status.code() == Some(1), "it ended with {status}; its log:\n{log}");
        Ok(log)
    }

    /// SIGTERM; the house can be started again.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.process.terminate(Duration::from_secs(30))?;
        ensure!(status.success(), "SIGTERM ended with {status}; its log:\n{}", self.process.log());
        Ok(())
    }

    /// Starts the process, without waiting for it.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.process = start(self.data.path(), self.address, Room::Ample, self.night.as_deref())?;
        Ok(())
    }

    /// Where the log and the read models are.
    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(&self.data)
    }

    /// Judges everything that was accepted, by the log and the relays' ledgers, against what the API tells. `stops` is
    /// how often the process has ended in the middle of calls. Nothing runs any more afterwards.
    pub(crate) async fn judge(self, accepted: &Accepted, stops: u64) -> anyhow::Result<()> {
        self.judge_with(Oracle::default(), accepted, stops).await
    }

    /// [`House::judge`] by an oracle that knows more.
    pub(crate) async fn judge_with(
        mut self,
        oracle: Oracle,
        accepted: &Accepted,
        stops: u64,
    ) -> anyhow::Result<()> {
        self.wait_until_final(accepted, FINAL_WITHIN).await?;
        let left = self.simulators.flush_receipts(Duration::from_secs(60)).await;
        ensure!(left == 0, "{left} receipts were never taken; the log:\n{}", self.process.log());
        self.stop()?;
        let verdict = judge::judge(oracle, &self.data_dir(), &self.simulators.ledger(), accepted, stops)?;
        eprintln!("{verdict}");
        // A receipt that came last may have changed what was final.
        self.restart().await?;
        judge::compare(&verdict.outcomes, &self.wait_until_final(accepted, FINAL_WITHIN).await?)?;
        let data = self.terminate().await?;
        assert_replay_verifies(&data)
    }

    /// Waits until every message of every sending is final; answers the outcome of each.
    pub(crate) async fn wait_until_final(
        &self,
        sendings: &Accepted,
        timeout: Duration,
    ) -> anyhow::Result<HashMap<String, String>> {
        for sending in sendings.keys() {
            let path = format!("/v1/sendings/{sending}");
            let what = format!("sending {sending} to be final");
            let done = wait_for(&what, timeout, async || match self.customer.get(&path).await {
                Ok(view) => (view["counts"]["open"] == 0).then_some(Ok(())),
                // Accepted, and not in the read model yet.
                Err(error) if error.to_string().contains("404 Not Found") => None,
                Err(error) => Some(Err(error)),
            });
            if let Err(error) = done.await.and_then(|answer| answer) {
                bail!("{error:#}; it is {}", self.customer.get(&path).await?);
            }
        }
        let mut outcomes = HashMap::new();
        for sending in sendings.keys() {
            let mut cursor = String::new();
            loop {
                let page =
                    self.customer.get(&format!("/v1/sendings/{sending}/messages?limit=200{cursor}")).await?;
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

/// How much room there is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// What the machine has.
    Ample,
    /// No file can become larger than this, in blocks of 512 bytes. Past it a write fails, as on a full disk.
    Blocks(u32),
}

/// Starts the binary with what follows it as arguments, under a limit ($1) of the size of files.
const LIMITED: &str = r#"trap '' XFSZ; ulimit -f "$1"; shift; exec "$@""#;

/// The time by the clock that the process under test has too.
#[expect(clippy::disallowed_methods, reason = "the process under test lives in real time")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

fn start(data: &Path, address: SocketAddr, room: Room, night: Option<&str>) -> anyhow::Result<Process> {
    let config = data.join("kite.toml");
    let mut text = format!("data_dir = {:?}\nlisten = \"{address}\"\n", data.join("data"));
    if let Some(night) = night {
        text += &format!("[relays]\nnight = \"{night}\"\nnight_spread_s = 2\n");
    }
    std::fs::write(&config, text)?;
    let mut command = match room {
        Room::Ample => Command::new(env!("CARGO_BIN_EXE_kite")),
        Room::Blocks(blocks) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", LIMITED, "sh", &blocks.to_string(), env!("CARGO_BIN_EXE_kite")]);
            shell
        }
    };
    command.arg("serve").arg("--config").arg(&config).env("KITE_ADMIN_KEY", ADMIN_KEY);
    Process::start("kite", &mut command)
}

/// `kite replay --rebuild`, which has to succeed.
pub(crate) fn rebuild(data_dir: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    let output = command.arg("replay").arg("--rebuild").arg("--data").arg(data_dir).output()?;
    ensure!(output.status.success(), "replay --rebuild: {}", String::from_utf8_lossy(&output.stderr));
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
