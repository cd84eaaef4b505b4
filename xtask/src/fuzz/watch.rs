//! A running fuzzer: watched line by line, stopped when it finds nothing more, never left behind.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::progress::Progress;

/// How long at most until the clock is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_secs(60);
/// How long a fuzzer may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Lines shown of a fuzzer that ended by itself.
const LINES_SHOWN: usize = 40;

/// When a run is over.
pub(super) struct Bounds {
    /// Nothing new was covered for this long.
    pub(super) quiet: Duration,
    /// It has run for this long.
    pub(super) longest: Duration,
}

/// Why a run was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing new was covered for the requested time.
    Quiet,
    /// Its time was over, and it still covered something new.
    TimeOver,
    /// An input broke the target.
    Broken,
}

/// What a run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Inputs that broke the target, or took too long or too much memory.
    pub(super) findings: Vec<PathBuf>,
    end: End,
    executions: u64,
    edges_at_start: u32,
    edges: u32,
    ran_for: Duration,
    quiet_for: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { findings, end, executions, edges_at_start, edges, ran_for, quiet_for } = self;
        let (ran, quiet) = (ran_for.as_secs(), quiet_for.as_secs());
        let end = match end {
            End::Quiet => "ended quiet",
            End::TimeOver => "NOT quiet when its time was over",
            End::Broken => "ended by a finding",
        };
        write!(
            formatter,
            "{executions:>9} executions in {ran:>4} s, {edges_at_start:>5} edges at the start and {edges:>5} at the end, \
             the last one {quiet:>3} s before it, {} findings, {end}",
            findings.len()
        )
    }
}

impl Bounds {
    fn reached(&self, progress: &Progress, at: Duration) -> Option<End> {
        progress.edges_at_start?;
        if progress.quiet_for(at) >= self.quiet {
            return Some(End::Quiet);
        }
        (at.saturating_sub(progress.began_at) >= self.longest).then_some(End::TimeOver)
    }
}

/// Ends with the run, however that ends.
struct Fuzzer(Child);

impl Fuzzer {
    /// libFuzzer then writes its figures and ends.
    fn interrupt(&self) -> anyhow::Result<()> {
        let process = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(process.context("a process id is not 0")?, Signal::INT)
            .context("the fuzzer cannot be told to stop")
    }
}

impl Drop for Fuzzer {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a fuzzer until its bounds are reached or it breaks.
pub(super) fn run(command: &mut Command, bounds: &Bounds) -> anyhow::Result<Outcome> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stderr = BufReader::new(child.stderr.take().context("standard error was piped")?);
    let fuzzer = Fuzzer(child);
    thread::scope(|scope| {
        let (sender, lines) = mpsc::channel();
        scope.spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        // Takes the fuzzer: when it is back the fuzzer has ended, and with it what the thread reads.
        follow(fuzzer, &lines, bounds)
    })
}

#[expect(clippy::disallowed_methods, reason = "another process runs in real time")]
fn follow(fuzzer: Fuzzer, lines: &Receiver<String>, bounds: &Bounds) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut progress = Progress::default();
    let mut stopped: Option<(End, Duration)> = None;
    let mut shown_at = Duration::ZERO;
    let mut last_lines = VecDeque::new();
    loop {
        match lines.recv_timeout(LOOK_EVERY) {
            Ok(line) => {
                progress.read(&line, started.elapsed());
                last_lines.push_back(line);
                if last_lines.len() > LINES_SHOWN {
                    last_lines.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = started.elapsed();
        if now >= shown_at + SHOW_EVERY {
            shown_at = now;
            show(&progress, now);
        }
        match (stopped, bounds.reached(&progress, now)) {
            (None, Some(end)) => {
                fuzzer.interrupt()?;
                stopped = Some((end, now));
            }
            (Some((_, at)), _) if now >= at + STOP_WITHIN => bail!("the fuzzer does not stop"),
            _ => {}
        }
    }
    let ended_at = stopped.map_or_else(|| started.elapsed(), |(_, at)| at);
    if stopped.is_none() {
        last_lines.iter().for_each(|line| eprintln!("{line}"));
    }
    outcome(progress, stopped.map(|(end, _)| end), ended_at)
}

fn show(progress: &Progress, now: Duration) {
    let Progress { executions, edges, .. } = progress;
    let quiet = progress.quiet_for(now).as_secs();
    eprintln!("  {:>5} s: {executions} executions, {edges} edges, the last one {quiet} s ago", now.as_secs());
}

fn outcome(progress: Progress, end: Option<End>, ended_at: Duration) -> anyhow::Result<Outcome> {
    let end = match (end, progress.findings.is_empty()) {
        (Some(end), _) => end,
        (None, false) => End::Broken,
        (None, true) => bail!("the fuzzer ended by itself, without a finding; see above"),
    };
    Ok(Outcome {
        end,
        executions: progress.executions,
        edges_at_start: progress.edges_at_start.unwrap_or_default(),
        edges: progress.edges,
        ran_for: ended_at.saturating_sub(progress.began_at),
        quiet_for: progress.quiet_for(ended_at),
        findings: progress.findings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that behaves as libFuzzer does, as far as it is watched.
    fn script(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    fn bounds(quiet_ms: u64, longest_ms: u64) -> Bounds {
        Bounds { quiet: Duration::from_millis(quiet_ms), longest: Duration::from_millis(longest_ms) }
    }

    const ENDLESS: &str = "trap 'echo stat::number_of_executed_units: 900 >&2; exit 72' INT; \
                           echo '#10 INITED cov: 5 ft: 5' >&2; while :; do sleep 0.01; done";

    #[test]
    fn one_that_covers_nothing_new_is_stopped_and_asked_for_its_figures() {
        let outcome = run(&mut script(ENDLESS), &bounds(1, 3_600_000)).unwrap();
        assert_eq!((outcome.end, outcome.executions, outcome.edges), (End::Quiet, 900, 5));
        assert!(outcome.findings.is_empty());
    }

    #[test]
    fn one_whose_time_is_over_is_not_quiet() {
        let outcome = run(&mut script(ENDLESS), &bounds(3_600_000, 1)).unwrap();
        assert_eq!(outcome.end, End::TimeOver);
        assert!(outcome.to_string().contains("NOT quiet"), "{outcome}");
    }

    #[test]
    fn one_that_ends_by_itself_has_found_something_or_failed() {
        let broken = "echo '#10 INITED cov: 5 ft: 5' >&2; echo 'Test unit written to a/crash-1' >&2; exit 77";
        let outcome = run(&mut script(broken), &bounds(3_600_000, 3_600_000)).unwrap();
        assert_eq!((outcome.end, outcome.findings), (End::Broken, vec![PathBuf::from("a/crash-1")]));
        assert!(run(&mut script("exit 1"), &bounds(1, 1)).is_err());
    }
}
