//! One-time passwords while every process but the first is stopped with SIGTERM and started again, one after the other.

use std::time::Duration;

use anyhow::Context;

use super::otp::{PATIENCE, Way, passwords, ways};
use super::whole::accepted_so_far;
use crate::load::cluster::Restarted;
use crate::load::generator::{histogram_of, milliseconds};
use crate::load::platform::Platform;
use crate::load::report::Report;

/// Passwords a second.
const PER_SECOND: f64 = 50.0;
/// Between two restarts.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a restart takes at most, most likely: as long as there are passwords for it.
const RESTART: Duration = Duration::from_secs(4);
/// The first number: no other stage has it.
const FIRST: u32 = 2_000_000;

pub(crate) async fn measure(platform: &mut Platform, report: &mut Report) -> anyhow::Result<()> {
    let before = accepted_so_far(platform).await?;
    let target = platform.target();
    let others = platform.others().context("only a cluster has processes that can be restarted")?;
    let seconds = (PAUSE + RESTART).as_secs_f64() * f64::from(others.count());
    let count = (seconds * PER_SECOND) as u32;
    let (run, restarted) = tokio::join!(passwords(&target, count, FIRST, PER_SECOND), others.restart(PAUSE));
    let restarted = restarted?;
    let run = run?;
    platform.wait_until_final(before + run.count()?.messages, PATIENCE).await?;
    let ways = ways(platform, &run, FIRST).await?;
    for Restarted { role, from_us, until_us } in restarted {
        let is_of_it = |way: &&Way| way.intended_us + way.took_us > from_us && way.intended_us < until_us;
        let slowest_us = ways.iter().filter(is_of_it).map(|way| way.took_us).max().unwrap_or(0);
        report.note(format!("otp ms while {role} was restarted, at most"), slowest_us as f64 / 1_000.0);
    }
    let way = histogram_of(ways.into_iter().map(|way| way.took_us))?;
    report.note("passwords while each process was restarted", f64::from(count));
    report.note("otp p50 ms meanwhile", milliseconds(&way, 0.5));
    report.note("otp p99 ms meanwhile", milliseconds(&way, 0.99));
    report.note("otp ms meanwhile, at most", milliseconds(&way, 1.0));
    Ok(())
}
