//! A Kite process, its simulated relays, and a customer who sends through its API and never gives up.

mod judge;
mod load;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use kite_relay_sim::{RelaySim, Scenario};
use kite_testkit::customer::{Customer, FROM_PHONE, Sent};
use kite_testkit::metrics::{metric_max, metric_sum};
use kite_testkit::night::Night;
use kite_testkit::operator::{self, Place};
use kite_testkit::oracle::{Cancel, End, Oracle, Verdict};
use kite_testkit::process::Process;
use kite_testkit::relays;
use kite_testkit::wait::{free_address, wait_for, wait_until_ready};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) use load::{Accepted, Load};

/// The configuration, beside the data directory.
const CONFIG: &str = "kite.toml";
const ADMIN_KEY: &str = "the admin key of the crash test";
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long everything that was accepted may take to become final. Where a relay is tripped that drops repeats, what is in doubt
/// there waits for its probes, one after the other.
const FINAL_WITHIN: Duration = Duration::from_secs(400);
/// How long a test may take in all. Past it the runner would end it without a word.
const TEST_WITHIN: Duration = Duration::from_secs(540);

/// A Kite process with everything around it.
pub(crate) struct House {
    pub(crate) simulators: RelaySim,
    process: Process,
    data: tempfile::TempDir,
    address: SocketAddr,
    customer: Customer,
    /// The hours in which no advertisement may go out, if they are not those of the law.
    night: Option<Night>,
    /// What its configuration says beside that.
    settings: String,
    started: Instant,
}

/// How every message of every sending ended, by the API.
pub(crate) type Ends = BTreeMap<String, Vec<End>>;

impl House {
    /// Starts all of it and sets up a tenant.
    pub(crate) async fn build(seed: u64) -> anyhow::Result<Self> {
        Self::build_with(seed, Room::Ample).await
    }

    /// [`House::build`] with more in the configuration, in TOML.
    pub(crate) async fn build_as(seed: u64, settings: &str) -> anyhow::Result<Self> {
        Self::build_in(seed, Room::Ample, settings).await
    }

    /// [`House::build`] on a disk with this much room.
    pub(crate) async fn build_with(seed: u64, room: Room) -> anyhow::Result<Self> {
        Self::build_in(seed, room, "").await
    }

    #[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
    async fn build_in(seed: u64, room: Room, settings: &str) -> anyhow::Result<Self> {
        let started = Instant::now();
        let scenario = Scenario::from_json(&relays::scenario(seed).to_string())?;
        let simulators = RelaySim::start(scenario).await?;
        let mut data = tempfile::tempdir()?;
        data.disable_cleanup(std::env::var_os("KEEP_TEST_DATA").is_some());
        let address = free_address()?;
        let process = start(data.path(), address, room, None, settings)?;
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        let customer = Customer {
            http: http.clone(),
            kite: format!("http://{address}"),
            key: String::new(),
            turned_away: Default::default(),
        };
        let mut house = Self {
            simulators,
            process,
            data,
            address,
            customer,
            night: None,
            settings: settings.to_owned(),
            started,
        };
        house.wait_until_ready().await?;
        house.customer = house.set_up(http).await?;
        Ok(house)
    }

    async fn set_up(&self, http: Client) -> anyhow::Result<Customer> {
        for (id, callback) in relays::callbacks(&self.url("")) {
            self.simulators.set_behaviour(id, &callback)?;
        }
        let profiles = relays::profiles(|id| match self.simulators.smtp_address(id) {
            Some(address) => Some(format!("smtp://{address}")),
            None => Some(self.simulators.base_url(id)),
        })?;
        Customer::set_up(http, self.url(""), ADMIN_KEY, profiles).await
    }

    /// This long, or what is left of the time of the test.
    pub(crate) fn at_most(&self, timeout: Duration) -> anyhow::Result<Duration> {
        let left = TEST_WITHIN.checked_sub(self.started.elapsed());
        Ok(timeout.min(left.with_context(|| format!("it took longer than {TEST_WITHIN:?}"))?))
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

    /// Stops the process and starts it again into a night that ends after so many seconds.
    pub(crate) async fn begin_night(&mut self, seconds: i64) -> anyhow::Result<Night> {
        self.stop()?;
        let end = now() + TimeDelta::seconds(seconds + 1);
        let night = Night::between(end - TimeDelta::hours(2), end);
        self.night = Some(night);
        self.restart().await?;
        Ok(night)
    }

    /// Sends a body that is to be accepted as a whole, to so many.
    pub(crate) async fn send(&self, body: &Value, messages: u64) -> anyhow::Result<Sent> {
        let answer = self.customer.call(Method::POST, "/v1/sendings", body).await?;
        let id = answer["id"].as_str().context("an id")?.to_owned();
        ensure!(answer["accepted"] == messages, "{messages} messages: {answer}");
        Ok(Sent { id, messages, at_least_once: false, cancel: Cancel::NotAsked })
    }

    /// Waits until no more than this many messages are open; answers how many are.
    pub(crate) async fn wait_for_open(&self, at_most: u64) -> anyhow::Result<u64> {
        let what = format!("no more than {at_most} open messages");
        let url = self.url("/metrics");
        wait_for(&what, self.at_most(FINAL_WITHIN)?, async || {
            let response = self.customer.http.get(&url).bearer_auth(ADMIN_KEY).send().await.ok()?;
            let text = response.text().await.ok()?;
            let open =
                metric_max(&text, "kite_open_messages")? + metric_max(&text, "kite_scheduled_messages")?;
            (open <= at_most as f64).then_some(open as u64)
        })
        .await
    }

    /// Waits until a sending is refused for now, with a status that says so.
    pub(crate) async fn refuses_for_a_while(&self) -> anyhow::Result<()> {
        let body = one_message();
        wait_for("a refusal", self.at_most(FINAL_WITHIN)?, async || {
            let request = self.customer.http.post(self.url("/v1/sendings")).bearer_auth(&self.customer.key);
            let status = request.json(&body).send().await.ok()?.status();
            (status == 503).then_some(())
        })
        .await
    }

    /// A question of a read model and a sending, at the process with this URL while it cannot reach what it keeps them in: each is
    /// answered in time, with a problem that says to come back.
    pub(crate) async fn is_told_to_come_back(&self, kite: &str) -> anyhow::Result<()> {
        let sendings = format!("{kite}/v1/sendings");
        let send = self.customer.http.post(&sendings).json(&one_message());
        for request in [self.customer.http.get(&sendings), send] {
            let answer = request.bearer_auth(&self.customer.key).send().await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let problem: Value = answer.json().await?;
            ensure!(status == 503 && problem["status"] == 503, "{status}: {problem}");
            ensure!(headers["content-type"] == "application/problem+json", "{headers:?}");
            ensure!(headers.contains_key("retry-after"), "{headers:?}");
        }
        Ok(())
    }

    /// Waits until `/readyz` of the process with this URL answers with this status.
    pub(crate) async fn wait_for_readiness(&self, kite: &str, status: u16) -> anyhow::Result<()> {
        let what = format!("{status} of {kite}/readyz");
        let url = format!("{kite}/readyz");
        let mut last = String::new();
        let waited = wait_for(&what, self.at_most(FINAL_WITHIN)?, async || {
            let answer = self.customer.http.get(&url).send().await.ok()?;
            let found = answer.status();
            last = answer.text().await.ok()?;
            (found == status).then_some(())
        })
        .await;
        waited.with_context(|| format!("the last answer was {last}"))
    }

    /// Waits until the read models show the whole log.
    pub(crate) async fn wait_until_projected(&self) -> anyhow::Result<()> {
        let url = self.url("/readyz");
        wait_for("the read models to show everything", self.at_most(FINAL_WITHIN)?, async || {
            let answer = self.customer.http.get(&url).bearer_auth(ADMIN_KEY).send().await.ok()?;
            let ready: Value = answer.json().await.ok()?;
            let mut lags = ready["checks"]
                .as_array()?
                .iter()
                .filter(|check| check["name"].as_str().is_some_and(|name| name.starts_with("read-model:")));
            lags.all(|lag| lag["detail"].as_str().is_some_and(|words| words.starts_with("0 events")))
                .then_some(())
        })
        .await
    }

    /// Writes a template here, and reads it at another process from the position at which it was written.
    pub(crate) async fn write_here_and_read_there(&self, number: u32, other: &str) -> anyhow::Result<()> {
        let text = format!("number {number}");
        let write = self.customer.http.post(self.url("/v1/templates")).bearer_auth(&self.customer.key);
        let written = write.json(&json!({ "name": format!("t{number}"), "text": text })).send().await?;
        ensure!(written.status().is_success(), "{}", written.text().await?);
        let header = |name: &str| written.headers().get(name).cloned().with_context(|| name.to_owned());
        let (position, place) = (header("kite-position")?, header("location")?);
        let url = format!("{other}{}", place.to_str()?);
        let read = self.customer.http.get(url).bearer_auth(&self.customer.key);
        let read = read.header("kite-min-position", position).send().await?;
        ensure!(read.status().is_success(), "{number}: {}", read.text().await?);
        let found: Value = read.json().await?;
        ensure!(found["text"] == text, "{found}");
        Ok(())
    }

    /// Where the API listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Descriptors that the process has open.
    pub(crate) fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }

    /// The sum of a metric over its labels; 0 while there is none.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let response = self.customer.http.get(self.url("/metrics")).bearer_auth(ADMIN_KEY).send().await?;
        Ok(metric_sum(&response.error_for_status()?.text().await?, name).unwrap_or(0.0))
    }

    /// Waits until there is an event of this kind in the log.
    pub(crate) async fn wait_for_event(&self, kind: &str) -> anyhow::Result<()> {
        let path = format!("/v1/audit/events?type={kind}&limit=1");
        wait_for(kind, self.at_most(FINAL_WITHIN)?, async || {
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
        self.process = start(self.data.path(), self.address, Room::Ample, self.night, &self.settings)?;
        Ok(())
    }

    /// Where the log and the read models are.
    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(&self.data)
    }

    fn place(&self) -> Place {
        Place::Config(self.data.path().join(CONFIG))
    }

    /// Judges everything that was accepted, by the log and the relays' ledgers, against what the API tells. `stops` is
    /// how often the process has ended in the middle of calls. Nothing runs any more afterwards.
    pub(crate) async fn judge(self, accepted: &Accepted, stops: u64) -> anyhow::Result<Verdict> {
        self.judge_with(Oracle::default(), accepted, stops).await
    }

    /// [`House::judge`] by an oracle that knows more.
    pub(crate) async fn judge_with(
        mut self,
        mut oracle: Oracle,
        accepted: &Accepted,
        stops: u64,
    ) -> anyhow::Result<Verdict> {
        for (request, id) in &accepted.kept {
            self.customer.repeat(request, id).await?;
        }
        self.wait_until_final(accepted).await?;
        let left = self.simulators.flush_receipts(Duration::from_secs(60)).await;
        ensure!(left == 0, "{left} receipts were never taken; the log:\n{}", self.process.log());
        wait_for("every sending to be completed", self.at_most(FINAL_WITHIN)?, async || {
            self.customer.has_open_sendings().await.is_ok_and(|is_open| !is_open).then_some(())
        })
        .await?;
        self.stop()?;
        accepted.sendings().for_each(|sent| oracle.claim(&sent.id, sent.messages, sent.cancel));
        operator::read_log(&mut oracle, kite(), &self.place())?;
        judge::read_ledgers(&mut oracle, &self.simulators.ledger())?;
        self.restart().await?;
        let compared = self.compare(&oracle, accepted).await;
        let verdict = oracle.judge();
        if let Err(error) = judge::judge(&verdict, &self.simulators.ledger(), accepted, stops) {
            self.stop()?;
            return Err(error.context(judge::stories(&verdict, kite(), &self.place())?));
        }
        eprintln!("{verdict}");
        compared?;
        let data = self.terminate().await?;
        assert_replay_verifies(&data)?;
        Ok(verdict)
    }

    async fn compare(&self, oracle: &Oracle, accepted: &Accepted) -> anyhow::Result<()> {
        self.wait_until_final(accepted).await?;
        for sent in accepted.sendings() {
            self.customer.compare(oracle, &sent.id).await?;
        }
        Ok(())
    }

    /// Waits until every message of every sending is final.
    pub(crate) async fn wait_until_final(&self, accepted: &Accepted) -> anyhow::Result<()> {
        let timeout = self.at_most(FINAL_WITHIN)?;
        let mut left: Vec<&Sent> = accepted.sendings().collect();
        let mut last = String::new();
        let done = wait_for("every message to be final", timeout, async || {
            while let Some(sent) = left.last() {
                let view = self.customer.get(&format!("/v1/sendings/{}", sent.id)).await;
                match view {
                    Ok(view) if view["counts"]["open"] == 0 => _ = left.pop(),
                    Ok(view) => return note(&mut last, view.to_string()),
                    // Not in the read model yet, or the process has just come up.
                    Err(error) => return note(&mut last, format!("{}: {error:#}", sent.id)),
                }
            }
            Some(())
        })
        .await;
        if let Err(error) = done {
            let (count, data) = (left.len(), self.data_dir());
            let relays =
                self.customer.http.get(self.url("/v1/admin/relays")).bearer_auth(ADMIN_KEY).send().await?;
            bail!(
                "{error:#}; {count} sendings are not, the first of them is {last}; the data (if KEEP_TEST_DATA is set) is in {}; \
                 the relays: {}; its log:\n{}",
                data.display(),
                relays.text().await?,
                self.process.log()
            );
        }
        Ok(())
    }

    /// How every message ended, by the API.
    pub(crate) async fn ends(&self, accepted: &Accepted) -> anyhow::Result<Ends> {
        let mut ends = Ends::new();
        for sent in accepted.sendings() {
            ends.insert(sent.id.clone(), self.customer.ends_of(&sent.id).await?);
        }
        Ok(ends)
    }

    /// SIGTERM; answers the data directory of the process, which has exited with 0.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<tempfile::TempDir> {
        let status = self.process.terminate(Duration::from_secs(30))?;
        ensure!(status.success(), "SIGTERM ended with {status}; its log:\n{}", self.process.log());
        self.simulators.shutdown().await;
        Ok(self.data)
    }

    /// Ctrl-C; the process has exited with 0. Answers what is in the log.
    pub(crate) async fn interrupt(mut self) -> anyhow::Result<Oracle> {
        let status = self.process.interrupt(Duration::from_secs(30))?;
        ensure!(status.success(), "Ctrl-C ended with {status}; its log:\n{}", self.process.log());
        self.simulators.shutdown().await;
        let mut oracle = Oracle::default();
        operator::read_log(&mut oracle, kite(), &Place::Data(data_dir(&self.data)))?;
        Ok(oracle)
    }
}

/// A sending to one.
fn one_message() -> Value {
    json!({ "class": "otp", "from": FROM_PHONE, "text": "1", "recipients": [{ "to": "01099990000" }] })
}

fn note(last: &mut String, what: String) -> Option<()> {
    *last = what;
    None
}

/// The binary under test.
pub(crate) fn kite() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_kite"))
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

fn start(
    data: &Path,
    address: SocketAddr,
    room: Room,
    night: Option<Night>,
    settings: &str,
) -> anyhow::Result<Process> {
    let config = data.join(CONFIG);
    let mut text = format!("data_dir = {:?}\nlisten = \"{address}\"\n", data.join("data"));
    if let Some(night) = night {
        text += &format!("[relays]\nnight = \"{}\"\nnight_spread_s = 2\n", night.setting());
    }
    text += settings;
    std::fs::write(&config, text)?;
    let mut command = match room {
        Room::Ample => Command::new(kite()),
        Room::Blocks(blocks) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", LIMITED, "sh", &blocks.to_string(), env!("CARGO_BIN_EXE_kite")]);
            shell
        }
    };
    command.arg("serve").arg("--config").arg(&config).env("KITE_ADMIN_KEY", ADMIN_KEY);
    Process::start("kite", &mut command)
}

/// Law 8 over the whole data directory, by the operator's command.
pub(crate) fn assert_replay_verifies(data: &tempfile::TempDir) -> anyhow::Result<()> {
    match operator::replay_differs(kite(), &Place::Config(data.path().join(CONFIG)))? {
        None => Ok(()),
        Some(printed) => bail!("replay --verify found differences:\n{printed}"),
    }
}

fn data_dir(data: &tempfile::TempDir) -> PathBuf {
    data.path().join("data")
}
