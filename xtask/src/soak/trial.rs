//! The end: the log against the ledgers, by a judge that shares nothing with Kite; and what a run comes to.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, ensure};
use kite_testkit::customer::NEVER_REPORTED;
use kite_testkit::oracle::{Oracle, Verdict};
use serde::Serialize;

use super::balance::each_entry;
use super::flat::{Disk, Memory};
use super::house::House;
use super::minute::Minute;
use super::traffic::Taken;

/// More events than any run writes.
const EVENTS_MAX: &str = "1000000000000";

/// What a run came to.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(super) seed: u64,
    pub(super) minutes: Vec<Minute>,
    /// Of the process that lived through the second half.
    pub(super) memory: Option<Memory>,
    pub(super) disk: Disk,
    pub(super) kills: u64,
    pub(super) stops: u64,
    pub(super) cpu_us_per_message: f64,
    pub(super) verdict: Verdict,
    /// What `kite replay --verify` printed, if a read model is not what the log says.
    pub(super) replay_differs: Option<String>,
}

impl Report {
    /// Whether everything holds.
    pub(crate) fn holds(&self) -> bool {
        self.verdict.is_clean()
            && self.replay_differs.is_none()
            && self.disk.is_flat
            && self.memory.is_none_or(|memory| memory.is_flat)
            && self.minutes.iter().all(|minute| minute.lost == 0 && minute.doubles.forbidden == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.verdict)?;
        let flat = |is_flat: bool| if is_flat { "flat" } else { "NOT FLAT" };
        match &self.memory {
            Some(memory) => writeln!(
                formatter,
                "memory in the second half: {} MB, growing by {} MB ({} MB an hour): {}",
                memory.mean_mb,
                memory.growth_mb,
                memory.growth_mb_per_hour,
                flat(memory.is_flat)
            )?,
            None => writeln!(formatter, "memory: the run was too short to tell")?,
        }
        writeln!(
            formatter,
            "disk: {} bytes a message in the first half, {} in the second: {}",
            self.disk.bytes_per_message_first_half,
            self.disk.bytes_per_message_second_half,
            flat(self.disk.is_flat)
        )?;
        let Self { kills, stops, cpu_us_per_message, .. } = self;
        writeln!(
            formatter,
            "killed {kills} times, stopped {stops} times; {cpu_us_per_message} µs CPU a message"
        )?;
        match &self.replay_differs {
            None => write!(formatter, "replay: every read model is what the log says"),
            Some(printed) => write!(formatter, "replay: a read model is NOT what the log says\n{printed}"),
        }
    }
}

/// Judges a stopped Kite. Answers also what the replay of the log found to differ.
pub(super) async fn hold(house: &House, taken: &Taken) -> anyhow::Result<(Verdict, Option<String>)> {
    let mut oracle = Oracle::default();
    oracle.night(house.night.0 + NIGHT_BEGINS, house.night.1);
    oracle.never_reported(NEVER_REPORTED);
    for (sending, (messages, _)) in &taken.sendings {
        oracle.claim(sending, *messages);
    }
    read_log(house, &mut oracle)?;
    each_entry(house, |entry| oracle.read_ledger(entry)).await?;
    let verdict = oracle.judge();
    ensure!(verdict.messages > 0, "nothing was sent");

    let replay = house.operate(&["replay", "--verify"]).output()?;
    let printed =
        format!("{}{}", String::from_utf8_lossy(&replay.stdout), String::from_utf8_lossy(&replay.stderr));
    Ok((verdict, (!replay.status.success()).then_some(printed)))
}

/// The look at the window comes a moment before the intent is in the log, so the first moments of a night do not count.
const NIGHT_BEGINS: chrono::TimeDelta = chrono::TimeDelta::seconds(5);

fn read_log(house: &House, oracle: &mut Oracle) -> anyhow::Result<()> {
    let mut audit = house.operate(&["audit", "--limit", EVENTS_MAX]).stdout(Stdio::piped()).spawn()?;
    let printed = audit.stdout.take().context("standard output was piped")?;
    for line in BufReader::new(printed).lines() {
        let line = line?;
        oracle.read_event(&line).with_context(|| line.clone())?;
    }
    let status = audit.wait()?;
    ensure!(status.success(), "kite audit ended with {status}");
    Ok(())
}
