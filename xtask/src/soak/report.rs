//! What a run comes to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Plan;
use super::cluster::Strikes;
use super::flat::{Disk, Look, Memory};
use super::minute::Minute;
use super::traffic::Taken;
use super::trial::Trial;
use super::villain::Deeds;

/// A run.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(super) seed: u64,
    pub(super) messages_per_second: u32,
    /// Messages that may be open at a look in the second half.
    pub(super) open_max: u64,
    pub(super) minutes: Vec<Minute>,
    /// By the name of the process.
    pub(super) flatness: BTreeMap<String, Flatness>,
    /// None: several processes keep nothing on the disk.
    pub(super) disk: Option<Disk>,
    pub(super) load: LoadKept,
    pub(super) kills: u64,
    pub(super) stops: u64,
    /// Of the server that everything is in.
    pub(super) server_kills: u64,
    /// What happened to one of several processes, and to the servers that they have in common.
    pub(super) strikes: Option<Strikes>,
    pub(super) cpu_us_per_message: f64,
    pub(super) villain: Deeds,
    /// How often anybody else was told "too much".
    pub(super) turned_away: u64,
    pub(super) trial: Trial,
}

/// Whether the memory of a process that lived through the second half is flat.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Flatness {
    /// The run is too short for it; it would take so many minutes at this rate.
    NotJudged {
        /// See there.
        minutes_min: u64,
    },
    /// The run is long enough, and was not looked at for long enough: a failure.
    TooFewLooks,
    /// What was seen.
    Judged(Memory),
}

impl Flatness {
    pub(super) fn of(plan: &Plan, looks: &[Look]) -> Self {
        let minutes_min = plan.minutes_for_flatness();
        match Memory::of(looks, plan.warm_up_messages()) {
            _ if plan.seconds < minutes_min * 60 => Self::NotJudged { minutes_min },
            Some(memory) => Self::Judged(memory),
            None => Self::TooFewLooks,
        }
    }

    fn tell(&self, name: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "memory of {name}")?;
        match self {
            Self::NotJudged { minutes_min } => writeln!(
                formatter,
                ": whether it is flat was NOT JUDGED; that takes {minutes_min} minutes at this rate"
            ),
            Self::TooFewLooks => writeln!(formatter, ": NOT LOOKED AT for long enough"),
            Self::Judged(memory) => writeln!(
                formatter,
                " over {} minutes with full caches: {} MB, growing by {} MB ({} MB an hour, {} bytes a message): {}",
                memory.minutes,
                memory.mean_mb,
                memory.growth_mb,
                memory.growth_mb_per_hour,
                memory.growth_bytes_per_message,
                flat(memory.is_flat)
            ),
        }
    }
}

fn flat(is_flat: bool) -> &'static str {
    if is_flat { "flat" } else { "NOT FLAT" }
}

/// How the load was kept up.
#[derive(Serialize)]
pub(super) struct LoadKept {
    /// Messages that got a 202 in each second of load.
    messages_per_second: f64,
    /// The longest that a request was late.
    late_ms_max: u64,
    /// Requests that got a 202, and those that the clock stood against.
    requests: u64,
    refused: u64,
}

impl LoadKept {
    pub(super) fn of(taken: &Taken, load: Duration) -> Self {
        Self {
            messages_per_second: (taken.messages as f64 / load.as_secs_f64()).round(),
            late_ms_max: taken.late_max.as_millis() as u64,
            requests: taken.sendings.len() as u64,
            refused: taken.refused,
        }
    }
}

impl Report {
    /// Everything that does not hold.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let minutes = self.minutes.iter().flat_map(|minute| minute.complaints(self.open_max));
        let memory = self.flatness.iter().filter_map(|(name, flatness)| match flatness {
            Flatness::NotJudged { .. } => None,
            Flatness::TooFewLooks => Some(format!("memory of {name} was not looked at for long enough")),
            Flatness::Judged(memory) => (!memory.is_flat).then(|| format!("memory of {name} grows")),
        });
        let disk = (self.disk.and_then(|disk| disk.is_flat) == Some(false))
            .then(|| "a message costs more and more on the disk".to_owned());
        let missing = self.villain.missing();
        let villain = (!missing.is_empty()).then(|| format!("a tenant in bad faith never met {missing:?}"));
        let others =
            (self.turned_away > 0).then(|| format!("others were turned away {} times", self.turned_away));
        let tenants = villain.into_iter().chain(others);
        self.trial.complaints().into_iter().chain(tenants).chain(minutes).chain(memory).chain(disk).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.trial)?;
        let untold = |flatness: &Flatness| matches!(flatness, Flatness::NotJudged { .. });
        match self.flatness.values().next() {
            // It is the same for all.
            Some(first) if self.flatness.values().all(untold) => first.tell("every process", formatter)?,
            _ => self.flatness.iter().try_for_each(|(name, flatness)| flatness.tell(name, formatter))?,
        }
        if let Some(disk) = &self.disk {
            writeln!(
                formatter,
                "disk: {} bytes a message in the first half, {} in the second: {}",
                disk.bytes_per_message_first_half,
                disk.bytes_per_message_second_half,
                disk.is_flat.map_or("too few messages to judge", flat)
            )?;
        }
        let LoadKept { messages_per_second, late_ms_max, requests, refused } = self.load;
        writeln!(
            formatter,
            "load: {messages_per_second} of {} messages a second in {requests} requests, up to {late_ms_max} ms late; \
             {refused} refused by the clock",
            self.messages_per_second
        )?;
        writeln!(
            formatter,
            "a tenant in bad faith: {} requests taken, refused {:?}; others turned away {} times",
            self.villain.taken, self.villain.refused, self.turned_away
        )?;
        let Self { kills, stops, server_kills, cpu_us_per_message, .. } = self;
        writeln!(
            formatter,
            "killed {kills} times, stopped {stops} times; its server killed {server_kills} times; {cpu_us_per_message} µs CPU a message"
        )?;
        if let Some(strikes) = &self.strikes {
            writeln!(formatter, "{strikes}")?;
        }
        let complaints = self.complaints();
        if complaints.is_empty() {
            return write!(formatter, "everything that was judged holds");
        }
        write!(formatter, "does NOT hold: {}", complaints.join("; "))
    }
}
