//! A flame graph of Kite under load: sampled by `perf`, folded and drawn by inferno.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use kite_testkit::process::Process;

/// Samples a second of CPU time: not a divisor of anything periodic.
const SAMPLES_PER_SECOND: &str = "99";
/// Bytes of the stack in each sample.
const STACK: &str = "dwarf,16384";
/// Time that perf may take to write down what it has.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stage, and what is in the stacks of its samples. What fits none is the last.
const STAGES: [(&str, &str); 9] = [
    ("acceptance", "kite_api::routes::sendings"),
    ("router", "kite_commands::router::Router"),
    ("publisher", "kite_relay::publisher::Publisher"),
    ("hand-over", "kite_relay::worker::RelayWorker"),
    ("receipts", "kite_api::routes::receipts"),
    ("read models", "kite_projections::projector"),
    ("event store", "event-store-"),
    ("lots read back from the log", "kite_commands::journal"),
    ("connections, scheduling, the rest", ""),
];

/// Samples a process until it is asked to draw.
pub(crate) struct Profiler {
    perf: Process,
    samples: PathBuf,
    svg: PathBuf,
}

impl Profiler {
    /// Starts to sample.
    pub(crate) fn start(process: u32, svg: &Path) -> anyhow::Result<Self> {
        inferno("inferno-flamegraph").arg("--help").stdout(Stdio::null()).status().context(INSTALL)?;
        let samples = svg.with_extension("perf");
        let mut perf = Command::new("perf");
        perf.args(["record", "-F", SAMPLES_PER_SECOND, "-g", "--call-graph", STACK]);
        perf.args(["-p", &process.to_string(), "-o"]).arg(&samples);
        let perf = Process::start("perf", &mut perf).context("Debian has perf in linux-perf")?;
        Ok(Self { perf, samples, svg: svg.to_owned() })
    }

    /// Stops, draws what was seen, and says which part of it each stage had.
    pub(crate) fn draw(mut self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.perf.interrupt(PATIENCE)?;
        let mut script = Command::new("perf")
            .args(["script", "--no-inline", "-i"])
            .arg(&self.samples)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let samples = script.stdout.take().context("it is piped")?;
        let folded = inferno("inferno-collapse-perf").stdin(samples).output().context(INSTALL)?;
        ensure!(script.wait()?.success() && folded.status.success(), "the samples cannot be read");
        std::fs::remove_file(&self.samples)?;

        let folded_file = self.svg.with_extension("folded");
        std::fs::write(&folded_file, &folded.stdout)?;
        let drawn = inferno("inferno-flamegraph")
            .args(["--title", "Kite under the load of the whole path", "--minwidth", "0.3"])
            .arg(&folded_file)
            .stdout(std::fs::File::create(&self.svg)?)
            .status()
            .context(INSTALL)?;
        ensure!(drawn.success(), "the flame graph cannot be drawn");
        std::fs::remove_file(&folded_file)?;
        Ok(shares(&String::from_utf8_lossy(&folded.stdout)))
    }
}

const INSTALL: &str = "inferno cannot be started; `cargo install inferno` brings it";

fn inferno(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stderr(Stdio::null());
    command
}

/// Each stage's part of all samples. A sample counts for the first stage that is found in its stack.
fn shares(folded: &str) -> Vec<(&'static str, f64)> {
    let mut counts = [0; STAGES.len()];
    for (stack, count) in folded.lines().filter_map(|line| line.rsplit_once(' ')) {
        let stage = STAGES.iter().position(|(_, marker)| stack.contains(marker));
        counts[stage.unwrap_or(STAGES.len() - 1)] += count.parse::<u64>().unwrap_or(0);
    }
    let all = counts.iter().sum::<u64>().max(1) as f64;
    STAGES.iter().zip(counts).map(|((stage, _), count)| (*stage, count as f64 / all)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_for_its_stage() {
        let folded = "kite;tokio::run;<kite_commands::router::Router as Worker>::step;append 30\n\
                      event-store-wri;kite_event_store::sqlite::writer;write 50\n\
                      kite;tokio::park 20\n";
        let shares = shares(folded);
        let of = |stage: &str| shares.iter().find(|(name, _)| *name == stage).unwrap().1;
        assert_eq!(of("router"), 0.3);
        assert_eq!(of("event store"), 0.5);
        assert_eq!(of("connections, scheduling, the rest"), 0.2);
        assert_eq!(of("receipts"), 0.0);
    }
}
