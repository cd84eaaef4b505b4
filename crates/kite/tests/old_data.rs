//! Directories that earlier versions made: they open, replay equal, and go on. `old_data/<commit>.tar.gz` holds one each,
//! cut off with `kill -9` in the middle of `kite demo`. That of c61d613 was then served and used through the API, for events
//! that the demo does not come to: senders asked for and refused, keys of operators, brands, codes, credentials that are
//! encrypted; and it is a copy that was released, cut off once more. That of 12e9520 has elections of the router, and intents
//! that say until when they hold. That of e7a09b4 has a read model of what is in force, and was served and cut off once more. They
//! are only added to.

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use kite_testkit::process::Process;
use kite_testkit::wait::{free_address, wait_until_ready};
use reqwest::Client;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "an admin key for old data";
/// More events than any kept directory has.
const EVENTS_MAX: &str = "1000000";

fn kept() -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_data");
    let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    files.map(|file| Ok(file?.path())).collect()
}

fn kite(arguments: &[&str], data: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    let output = command.args(arguments).arg("--data").arg(data).output()?;
    let (out, err) =
        (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(output.status.success(), "kite {arguments:?} ended with {}:\n{out}\n{err}", output.status);
    Ok(out)
}

fn events(data: &Path) -> anyhow::Result<Vec<String>> {
    let lines = kite(&["audit", "--limit", EVENTS_MAX], data)?;
    Ok(lines.lines().map(str::to_owned).collect())
}

/// Rebuilds the read models of the log and compares them; a fresh version may have another schema than the one kept.
fn replays_equal(data: &Path, events: usize) -> anyhow::Result<()> {
    let told: Value = serde_json::from_str(&kite(&["replay", "--verify", "--json"], data)?)?;
    let read = told.to_string();
    ensure!(events > 100 && read.contains("delivery"), "{events} events: {read}");
    Ok(())
}

async fn goes_on(data: &Path) -> anyhow::Result<()> {
    let address = free_address()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data);
    let mut process = Process::start("kite", command.env("KITE_ADMIN_KEY", ADMIN_KEY))?;
    let url = format!("http://{address}");
    let ready = wait_until_ready(&format!("{url}/readyz"), WITHIN).await;
    ready.with_context(|| format!("it is not ready; its log:\n{}", process.log()))?;
    let http = Client::builder().no_proxy().timeout(WITHIN).build()?;
    let new = http.post(format!("{url}/v1/admin/tenants")).bearer_auth(ADMIN_KEY);
    new.json(&json!({ "tenant": "late-comer", "name": "Late" })).send().await?.error_for_status()?;
    let status = process.terminate(WITHIN)?;
    ensure!(status.success(), "it ended with {status}:\n{}", process.log());
    Ok(())
}

#[tokio::test]
async fn a_directory_of_an_earlier_version_opens_replays_equal_and_goes_on() -> anyhow::Result<()> {
    let kept = kept()?;
    ensure!(!kept.is_empty(), "no directory is kept");
    for archive in kept {
        let name = archive.display().to_string();
        let directory = tempfile::tempdir()?;
        let data = directory.path();
        tar::Archive::new(GzDecoder::new(File::open(&archive)?)).unpack(data)?;
        let before = events(data).with_context(|| name.clone())?;
        kite(&["replay", "--rebuild"], data).with_context(|| name.clone())?;
        replays_equal(data, before.len()).with_context(|| name.clone())?;
        goes_on(data).await.with_context(|| name.clone())?;
        let after = events(data).with_context(|| name.clone())?;
        ensure!(
            after.len() > before.len() && after[..before.len()] == before[..],
            "{name}: the log has changed"
        );
        replays_equal(data, after.len()).with_context(|| name.clone())?;
    }
    Ok(())
}
