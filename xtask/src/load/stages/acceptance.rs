//! Acceptance alone: `kite serve --roles api`. In bulk as fast as it goes, then single messages at a steady rate.

use std::time::Duration;

use anyhow::ensure;
use kite_testkit::metrics::buckets;

use super::Plan;
use crate::load::bodies::{self, Bulk};
use crate::load::generator::{Pace, Run, milliseconds, send};
use crate::load::measure::cpu_seconds;
use crate::load::platform::{Platform, Roles};
use crate::load::report::{Report, Stage};

/// Recipients in a bulk request.
const RECIPIENTS: u32 = 1_000;
/// Connections that send in bulk.
const BULK_CONNECTIONS: usize = 8;
/// Single requests a second.
const SINGLES_PER_SECOND: f64 = 1_000.0;
/// Connections for them: as many requests as may be in progress.
const SINGLE_CONNECTIONS: usize = 64;
/// Different bodies; they are used over and over.
const BODIES: u32 = 64;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let platform = Platform::start(plan, Roles::Api).await?;
    let target = platform.target();

    let bulk = (0..BODIES).map(|number| bodies::bulk(Bulk::Notice, number, RECIPIENTS)).collect();
    let pace = Pace::Closed { duration: Duration::from_secs(plan.accept_seconds) };
    let cpu_before = cpu_seconds(platform.kite_process())?;
    let run = send(&target, pace, BULK_CONNECTIONS, bulk).await?;
    let stage = stage(&run)?;
    let cpu = cpu_seconds(platform.kite_process())? - cpu_before;
    report
        .note("CPU µs of Kite to accept a message in bulk", cpu * 1e6 / run.count()?.messages.max(1) as f64);
    report.accept_bulk = Some(stage);

    let singles = (0..BODIES).map(bodies::single).collect();
    let requests = plan.accept_seconds * SINGLES_PER_SECOND as u64;
    let pace = Pace::Open { per_second: SINGLES_PER_SECOND, requests };
    let cpu_before = cpu_seconds(platform.kite_process())?;
    let commits_before = commits(&platform).await?;
    let run = send(&target, pace, SINGLE_CONNECTIONS, singles).await?;
    let commits_after = commits(&platform).await?;
    let cpu = cpu_seconds(platform.kite_process())? - cpu_before;
    report.note("CPU µs of Kite to accept a single message", cpu * 1e6 / requests as f64);
    let latencies = run.latencies()?;
    report.note("single acceptance p50 ms", milliseconds(&latencies, 0.5));
    report.note("single acceptance p99.9 ms", milliseconds(&latencies, 0.999));
    // An answer waits for its commit, and a commit for the disk: what of the latency is the disk's.
    let slower_than = |seconds| slow_share(&commits_before, &commits_after, seconds) * 100.0;
    report.note("commits of more than 5 ms meanwhile, %", slower_than(0.005));
    report.note("commits of more than 20 ms meanwhile, %", slower_than(0.02));
    report.accept_single = Some(self::stage(&run)?);
    platform.stop()
}

/// How many commits to the log took how long, in seconds.
async fn commits(platform: &Platform) -> anyhow::Result<Vec<(f64, f64)>> {
    let commits = buckets(&platform.metrics().read().await?, "kite_event_store_commit_seconds");
    ensure!(!commits.is_empty(), "no kite_event_store_commit_seconds in /metrics");
    Ok(commits)
}

/// Which part of the samples that came between two looks at a histogram is above a bound.
fn slow_share(before: &[(f64, f64)], after: &[(f64, f64)], bound: f64) -> f64 {
    let up_to = |samples: &[(f64, f64)], bound: f64| {
        samples.iter().filter(|(known, _)| *known <= bound).map(|(_, count)| *count).fold(0.0, f64::max)
    };
    let came = |bound: f64| up_to(after, bound) - up_to(before, bound);
    let all = came(f64::INFINITY);
    (all - came(bound)) / all.max(1.0)
}

fn stage(run: &Run) -> anyhow::Result<Stage> {
    let count = run.count()?;
    ensure!(count.refused_requests == 0, "{} requests were refused as too many", count.refused_requests);
    Ok(Stage {
        messages_per_second: (count.messages as f64 / run.elapsed.as_secs_f64()).round(),
        p99_ms: milliseconds(&run.latencies()?, 0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_slow_samples_is_that_of_the_new_ones() {
        let before = [(0.005, 10.0), (0.02, 20.0), (f64::INFINITY, 20.0)];
        let after = [(0.005, 40.0), (0.02, 58.0), (f64::INFINITY, 60.0)];
        assert_eq!(slow_share(&before, &after, 0.005), 0.25);
        assert_eq!(slow_share(&before, &after, 0.02), 0.05);
    }
}
