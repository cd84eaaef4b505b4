//! The real binary where a row of a read model cannot be written, and where none can.

use anyhow::ensure;
use kite_testkit::process::Process;
use kite_testkit::wait::{free_address, wait_for};
use reqwest::{Client, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "an admin key for a test of trouble";

struct Kite {
    process: Process,
    http: Client,
    url: String,
}

impl Kite {
    fn start(data: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
        command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data);
        command.env("KITE_ADMIN_KEY", ADMIN_KEY).env("KITE_API__READY_STANDSTILL_MS_MAX", "1");
        let process = Process::start("kite", &mut command)?;
        let http = Client::builder().no_proxy().timeout(WITHIN).build()?;
        Ok(Self { process, http, url: format!("http://{address}") })
    }

    async fn create_tenant(&self, name: &str) -> anyhow::Result<()> {
        let body = json!({ "tenant": name, "name": name });
        let request = self.http.post(format!("{}/v1/admin/tenants", self.url)).bearer_auth(ADMIN_KEY);
        request.json(&body).send().await?.error_for_status()?;
        Ok(())
    }

    /// Waits until `/readyz` answers so, and a check says so.
    async fn wait_for_ready(&self, status: StatusCode, check: &str, words: &str) -> anyhow::Result<()> {
        let what = format!("{status} and {words:?} in the check {check}; the log:\n{}", self.process.log());
        wait_for(&what, WITHIN, async || {
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await.ok()?;
            let found = answer.status();
            let ready: Value = answer.json().await.ok()?;
            let checks = ready["checks"].as_array()?;
            let is_it = |one: &&Value| {
                one["name"] == check && one["detail"].as_str().is_some_and(|detail| detail.contains(words))
            };
            checks.iter().find(is_it).filter(|_| found == status).map(|_| ())
        })
        .await
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let status = self.process.terminate(WITHIN)?;
        ensure!(status.success(), "it ended with {status}:\n{}", self.process.log());
        Ok(())
    }
}

fn sql(data: &Path, statements: &str) -> anyhow::Result<()> {
    Ok(Connection::open(data.join("address_book.db"))?.execute_batch(statements)?)
}

/// The exit code of `kite replay`, and what it printed.
fn replay(data: &Path, mode: &str) -> anyhow::Result<(bool, Value)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    let output = command.args(["replay", mode, "--json", "--data"]).arg(data).output()?;
    Ok((output.status.success(), serde_json::from_slice(&output.stdout)?))
}

#[tokio::test]
async fn a_row_that_cannot_be_written_raises_an_alarm_and_is_taken_in_after_the_mend() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path();
    let kite = Kite::start(data)?;
    kite.wait_for_ready(StatusCode::OK, "parked", "no events").await?;
    sql(
        data,
        "CREATE TRIGGER unwritable BEFORE INSERT ON tenants WHEN NEW.id = 'bad'
         BEGIN SELECT raise(ABORT, 'never'); END",
    )?;
    kite.create_tenant("bad").await?;
    kite.create_tenant("good").await?;
    kite.wait_for_ready(StatusCode::OK, "parked", "address_book 1").await?;
    let metrics = kite.http.get(format!("{}/metrics", kite.url)).send().await?.text().await?;
    ensure!(metrics.contains("kite_projection_parked_rows{read_model=\"address_book\"} 1"), "{metrics}");
    let log = kite.process.log();
    ensure!(log.contains("an event cannot be applied") && log.contains("never"), "{log}");
    kite.stop()?;

    let (is_clean, shown) = replay(data, "--parked")?;
    let parked = &shown["models"][0]["parked"];
    ensure!(
        !is_clean && parked[0]["stream"] == "tenant-bad" && parked[0]["cause"] == "unwritable",
        "{shown}"
    );
    let tenants = |id: &str| -> anyhow::Result<u32> {
        let file = Connection::open(data.join("address_book.db"))?;
        Ok(file.query_row("SELECT count(*) FROM tenants WHERE id = ?1", [id], |row| row.get(0))?)
    };
    ensure!((tenants("bad")?, tenants("good")?) == (0, 1));
    let (is_clean, shown) = replay(data, "--retry-parked")?;
    ensure!(is_clean && shown["models"][0]["parked_before"] == 1, "{shown}");
    ensure!((tenants("bad")?, tenants("good")?) == (1, 1));
    ensure!(replay(data, "--verify")?.0 && replay(data, "--parked")?.0);
    Ok(())
}

#[tokio::test]
async fn a_projector_that_stands_still_makes_the_process_unready_until_it_goes_on() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path();
    let kite = Kite::start(data)?;
    kite.wait_for_ready(StatusCode::OK, "projector:address_book", "at position").await?;
    sql(data, "CREATE TRIGGER full BEFORE UPDATE ON checkpoint BEGIN SELECT raise(ABORT, 'no room'); END")?;
    kite.create_tenant("new").await?;
    kite.wait_for_ready(StatusCode::SERVICE_UNAVAILABLE, "projector:address_book", "no room").await?;
    sql(data, "DROP TRIGGER full")?;
    kite.wait_for_ready(StatusCode::OK, "projector:address_book", "at position").await?;
    kite.stop()
}
