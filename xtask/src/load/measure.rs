//! What processes use, and what Kite reports about itself, while a load runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kite_testkit::metrics::metric_max;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::platform::Platform;

/// Clock ticks a second in `/proc`: the same on every Linux, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often to look.
const INTERVAL: Duration = Duration::from_millis(250);

/// CPU time that a process has used so far, user and system.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    cpu_of(&stat).with_context(|| format!("not understood: {stat}"))
}

/// CPU time that a process has used so far, with all those that it has started, also those that have ended.
pub(crate) fn cpu_seconds_of_family(process: u32) -> anyhow::Result<f64> {
    let own = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let mut used = cpu_of_family(&own).with_context(|| format!("not understood: {own}"))?;
    for entry in std::fs::read_dir("/proc")? {
        // What ends while we look counts for who started it.
        let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else { continue };
        if parent_of(&stat) == Some(process) {
            used += cpu_of_family(&stat).with_context(|| format!("not understood: {stat}"))?;
        }
    }
    Ok(used)
}

/// Bytes that a process has caused to be written to the disk so far.
pub(crate) fn written_bytes(process: u32) -> anyhow::Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{process}/io"))?;
    written_of(&io).with_context(|| format!("not understood: {io}"))
}

fn written_of(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

/// The CPU time for each kind of thread, by name. What threads used that have ended meanwhile is not in it.
pub(crate) fn cpu_seconds_by_thread(process: u32) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut by_name = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // One that ends while we look has nothing to say.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        let (name, used) =
            name_of(&stat).zip(cpu_of(&stat)).with_context(|| format!("not understood: {stat}"))?;
        *by_name.entry(name.to_owned()).or_insert(0.0) += used;
    }
    Ok(by_name)
}

/// At most fifteen characters of it: Linux keeps no more.
fn name_of(stat: &str) -> Option<&str> {
    Some(stat.split_once('(')?.1.rsplit_once(')')?.0)
}

/// User and system time.
fn cpu_of(stat: &str) -> Option<f64> {
    ticks(stat, 2)
}

/// The same, and that of children that have ended.
fn cpu_of_family(stat: &str) -> Option<f64> {
    ticks(stat, 4)
}

/// The name in parentheses may hold spaces; from the 12th field after it on: user and system time, and both of the children that have
/// ended.
fn ticks(stat: &str, fields: usize) -> Option<f64> {
    let times = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(fields);
    let ticks = times.map(|ticks| ticks.parse::<f64>().ok()).sum::<Option<f64>>()?;
    Some(ticks / TICKS_PER_SECOND)
}

fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Memory that a process has resident.
pub(crate) fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    status_bytes(&status, "VmRSS:").context("no VmRSS")
}

/// Memory that is a process's own: without pages of files, which the system may take back.
pub(crate) fn anonymous_bytes(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    status_bytes(&status, "RssAnon:").context("no RssAnon")
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Descriptors that a process has open.
pub(crate) fn open_descriptors(process: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// Size of all files of a directory.
pub(crate) fn directory_bytes(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { directory_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// The greatest values that were seen while a load ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peaks {
    /// Memory that Kite had resident.
    pub(crate) resident_bytes: u64,
    /// How far the slowest read model was behind, in milliseconds.
    pub(crate) projector_lag_ms: f64,
}

/// Looks again and again until it is stopped.
pub(crate) struct Sampler {
    stop: watch::Sender<bool>,
    sampling: JoinSet<anyhow::Result<Peaks>>,
}

impl Sampler {
    /// Starts to look.
    pub(crate) fn start(platform: &Platform) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut sampling = JoinSet::new();
        sampling.spawn(sample(
            platform.kite_process(),
            platform.metrics(),
            platform.is_one_process(),
            stopped,
        ));
        Self { stop, sampling }
    }

    /// Stops, and says what was seen.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Peaks> {
        self.stop.send_replace(true);
        self.sampling.join_next().await.context("the sampler was started")??
    }
}

async fn sample(
    process: u32,
    metrics: super::platform::Metrics,
    is_one_process: bool,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Peaks> {
    let mut peaks = Peaks::default();
    loop {
        let resident = resident_bytes(process)?;
        let text = metrics.read().await?;
        // Of many processes another one has the projectors.
        let lag = metric_max(&text, "kite_projector_lag_seconds").or((!is_one_process).then_some(0.0));
        let lag_ms = lag.context("no lag in /metrics")? * 1_000.0;
        peaks.resident_bytes = peaks.resident_bytes.max(resident);
        peaks.projector_lag_ms = peaks.projector_lag_ms.max(lag_ms);
        if *stopped.borrow() {
            return Ok(peaks);
        }
        // Time is up, or the load has ended: in both cases look once more.
        let _ = tokio::time::timeout(INTERVAL, stopped.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let stat = "4242 (kite (serve) 2) S 1 2 3 0 -1 4194560 100 0 0 0 1234 766 300 200 20 0 9 0 5 6 7";
        assert_eq!(cpu_of(stat), Some(20.0));
        assert_eq!(cpu_of_family(stat), Some(25.0));
        assert_eq!(parent_of(stat), Some(1));
        assert_eq!(written_of("rchar: 3\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n"), Some(8192));
        assert_eq!(name_of(stat), Some("kite (serve) 2"));
        assert!(!cpu_seconds_by_thread(std::process::id()).unwrap().is_empty());
        assert_eq!(
            status_bytes("Name:\tkite\nVmPeak:\t9 kB\nVmRSS:\t    2048 kB\n", "VmRSS:"),
            Some(2_097_152)
        );
        assert!(anonymous_bytes(std::process::id()).unwrap() > 0);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(cpu_seconds_of_family(std::process::id()).unwrap() >= 0.0);
        assert!(resident_bytes(std::process::id()).unwrap() > 0);
        assert!(open_descriptors(std::process::id()).unwrap() > 2);
    }
}
