//! libFuzzer's reports of its progress, line by line.

use std::path::PathBuf;
use std::time::Duration;

/// How far a run is. Times are since it was started.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Inputs that were run.
    pub(super) executions: u64,
    /// Edges that the inputs of earlier runs cover; none: they are still being run.
    pub(super) edges_at_start: Option<u32>,
    /// Edges covered by now.
    pub(super) edges: u32,
    /// When the inputs of earlier runs had been run.
    pub(super) began_at: Duration,
    /// When an edge was covered for the first time. At first, when it began.
    pub(super) last_new_at: Duration,
    /// Inputs that broke the target, or took too long or too much memory.
    pub(super) findings: Vec<PathBuf>,
}

impl Progress {
    /// Reads a line. Lines that say nothing of these are passed over.
    pub(super) fn read(&mut self, line: &str, at: Duration) {
        if let Some((_, input)) = line.split_once("Test unit written to ") {
            self.findings.push(input.into());
        }
        if let Some(total) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = total.trim().parse().unwrap_or(self.executions);
        }
        let Some((executions, kind, edges)) = status(line) else { return };
        self.executions = self.executions.max(executions);
        if kind == "INITED" {
            self.edges_at_start = Some(edges);
            self.began_at = at;
        }
        if kind == "INITED" || edges > self.edges {
            self.last_new_at = at;
        }
        self.edges = self.edges.max(edges);
    }

    /// How long nothing new was covered.
    pub(super) fn quiet_for(&self, at: Duration) -> Duration {
        at.saturating_sub(self.last_new_at)
    }
}

/// Executions, kind of the line, edges: `#1207 NEW cov: 307 ft: 459 …`.
fn status(line: &str) -> Option<(u64, &str, u32)> {
    let mut words = line.strip_prefix('#')?.split_ascii_whitespace();
    let (executions, kind) = (words.next()?.parse().ok()?, words.next()?);
    match (words.next()?, words.next()?) {
        ("cov:", edges) => Some((executions, kind, edges.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[(&str, u64)]) -> Progress {
        let mut progress = Progress::default();
        lines.iter().for_each(|(line, at)| progress.read(line, Duration::from_secs(*at)));
        progress
    }

    #[test]
    fn the_time_of_quiet_begins_when_earlier_inputs_have_been_run() {
        let progress =
            after(&[("#8\tpulse  cov: 12 ft: 40 corp: 3/9b", 3), ("#20\tINITED cov: 30 ft: 90", 8)]);
        assert_eq!((progress.edges_at_start, progress.edges), (Some(30), 30));
        assert_eq!(progress.quiet_for(Duration::from_secs(18)), Duration::from_secs(10));
    }

    #[test]
    fn only_a_new_edge_ends_the_quiet() {
        let began = ("#20\tINITED cov: 30 ft: 90", 8);
        let with_edge = ("#40\tNEW    cov: 31 ft: 91 corp: 4/20b lim: 4 exec/s: 0", 20);
        let without = ("#60\tNEW    cov: 31 ft: 99 corp: 5/24b", 40);
        let progress = after(&[began, with_edge, without, ("#90\tREDUCE cov: 31 ft: 99 corp: 5/23b", 50)]);
        assert_eq!(progress.quiet_for(Duration::from_secs(60)), Duration::from_secs(40));
        assert_eq!((progress.edges_at_start, progress.edges, progress.executions), (Some(30), 31, 90));
    }

    #[test]
    fn an_input_that_was_written_is_a_finding() {
        let line = "artifact_prefix='fuzz/artifacts/text/'; Test unit written to fuzz/artifacts/text/crash-1";
        assert_eq!(after(&[(line, 1)]).findings, [PathBuf::from("fuzz/artifacts/text/crash-1")]);
    }

    #[test]
    fn the_last_word_on_executions_is_the_total() {
        let progress =
            after(&[("#4\tINITED cov: 1 ft: 1", 0), ("stat::number_of_executed_units: 171917", 9)]);
        assert_eq!(progress.executions, 171_917);
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in ["", "#", "#x", "INFO: Seed: 1", "#12", "#12 DONE", "# cov: 7", "#1\tNEW    cov: x ft: 1"]
        {
            assert_eq!(after(&[(line, 5)]), Progress::default(), "{line:?}");
        }
    }
}
