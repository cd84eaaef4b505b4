//! An operator's commands on the log of a stopped Kite.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::oracle::Oracle;

/// More events than any run writes.
const EVENTS_MAX: &str = "1000000000000";

/// Which log, and whose read models.
#[derive(Debug, Clone)]
pub enum Place {
    /// A data directory.
    Data(PathBuf),
    /// A configuration.
    Config(PathBuf),
}

fn command(kite: &Path, place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(kite);
    command.args(arguments);
    match place {
        Place::Data(directory) => command.arg("--data").arg(directory),
        Place::Config(file) => command.arg("--config").arg(file),
    };
    command
}

/// Lets the judge read the whole log, as `kite audit` prints it.
///
/// # Errors
/// When it cannot be read, or is not as documented.
pub fn read_log(oracle: &mut Oracle, kite: &Path, place: &Place) -> anyhow::Result<()> {
    let mut audit = command(kite, place, &["audit", "--limit", EVENTS_MAX]).stdout(Stdio::piped()).spawn()?;
    let printed = audit.stdout.take().context("standard output was piped")?;
    for line in BufReader::new(printed).lines() {
        let line = line?;
        oracle.read_event(&line).with_context(|| line.clone())?;
    }
    let status = audit.wait()?;
    ensure!(status.success(), "kite audit ended with {status}");
    Ok(())
}

/// The events of a stream, as `kite audit` prints them.
///
/// # Errors
/// When they cannot be read.
pub fn read_stream(kite: &Path, place: &Place, stream: &str) -> anyhow::Result<String> {
    let output = command(kite, place, &["audit", "--stream", stream]).output()?;
    ensure!(output.status.success(), "kite audit: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Law 8 over the whole directory; returns what `kite replay --verify` printed if a read model differs from the log.
///
/// # Errors
/// When it cannot be started.
pub fn replay_differs(kite: &Path, place: &Place) -> anyhow::Result<Option<String>> {
    let output = command(kite, place, &["replay", "--verify"]).output()?;
    let printed =
        [&output.stdout, &output.stderr].map(|printed| String::from_utf8_lossy(printed).into_owned());
    Ok((!output.status.success()).then(|| printed.concat()))
}

/// `kite replay --rebuild`, which has to succeed.
///
/// # Errors
/// When it does not.
pub fn rebuild(kite: &Path, place: &Place) -> anyhow::Result<()> {
    let output = command(kite, place, &["replay", "--rebuild"]).output()?;
    ensure!(output.status.success(), "replay --rebuild: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
