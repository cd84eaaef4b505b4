//! `cargo xtask soak`: hours of ordinary life with everything going wrong, in a few minutes or as long as you like.
//!
//! It uses the real binaries, a steady load of all kinds of messages, and faults every few seconds that follow from a
//! seed: relays that are out of service, slow, full, forgetful or stopped in the middle; Kite killed with SIGKILL,
//! asked to end with SIGTERM, and started again on the same data. It takes a balance every minute. At the end
//! everything has to be final, and an independent judge ([`kite_testkit::oracle`]) compares the log with the relays'
//! ledgers.
//!
//! Processes die in the first half. Then everything becomes final, without load, so that each half has its own
//! messages. In the second half one process has to live with all other faults until the load ends; it is killed once
//! more while the rest is being handed over. Its memory is judged from when its caches are full, which is true for
//! some fixed ones only after [`flat::WARM_UP_MESSAGES`], and for at least ten minutes. A run that is too short for
//! that says so, and is judged by everything else.
//!
//! In the second half there is a hostile tenant, too ([`villain`]): it is refused, and nobody else is.
//!
//! Deliberately absent: a restart of relay-sim, whose ledger is what everything is compared with, and which ends with
//! it.

mod balance;
mod conduct;
mod faults;
mod flat;
mod house;
mod minute;
mod report;
mod server;
mod traffic;
mod trial;
mod villain;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use kite_testkit::dice::any_seed;
use tokio::signal::unix::{SignalKind, signal};

use crate::load::run_optimised;
use crate::paths::target;
use server::SoakServer;

/// How long there is load in a short run, in seconds, and messages a second.
const SHORT: (u64, u32) = (60, 60);

/// Options of `cargo xtask soak`.
#[derive(Args)]
pub(crate) struct SoakOptions {
    /// How long there is load, in minutes; what comes after it takes some more.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Messages a second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    rate: u32,
    /// What is sent, what goes wrong, and what the relays do with each message. Without it, one that nobody chose.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep log and read models in PostgreSQL: a server is found or installed, and started with its data under `target/`. It is killed,
    /// silent and cut off now and then.
    #[arg(long)]
    postgres: bool,
    /// Some minutes in all, with a small load and without optimisation: shows that everything holds, not for how long.
    #[arg(long, conflicts_with_all = ["minutes", "rate"])]
    short: bool,
    /// Where data is written. Default: below cargo's target directory.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Keep the data of a run in which something does not hold.
    #[arg(long)]
    keep: bool,
    /// End with one line that is a JSON object.
    #[arg(long)]
    json: bool,
}

/// What a run is to be.
#[derive(Clone)]
pub(crate) struct Plan {
    seconds: u64,
    rate: u32,
    seed: u64,
}

impl Plan {
    /// How many minutes a run at this rate has to take for its memory to be judged.
    fn minutes_for_flatness(&self) -> u64 {
        let warm_up = flat::WARM_UP_MESSAGES as f64 / f64::from(self.rate);
        ((warm_up + flat::LOOK_SECONDS_MIN) * 2.0 / 60.0).ceil() as u64 + 1
    }
}

/// Builds everything optimised, then soaks.
pub(crate) fn run(options: &SoakOptions) -> anyhow::Result<()> {
    if cfg!(debug_assertions) && !options.short {
        return run_optimised();
    }
    let (seconds, rate) = if options.short { SHORT } else { (options.minutes * 60, options.rate) };
    let directory = options.directory.clone().unwrap_or_else(|| target().join("soak"));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let data = tempfile::tempdir_in(&directory)?;
    let seed = options.seed.unwrap_or_else(any_seed);
    eprintln!("seed {seed}; {rate} messages a second for {seconds} s");
    let plan = Plan { seconds, rate, seed };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let soaked = runtime.block_on(async {
        let server = if options.postgres { Some(SoakServer::start().await?) } else { None };
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            report = conduct::soak(&plan, data.path(), server) => report,
            // What was started ends with this future.
            _ = terminated.recv() => bail!("asked to end"),
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and_then(|()| bail!("interrupted")),
        }
    });
    let holds = soaked.as_ref().is_ok_and(|report| report.complaints().is_empty());
    if options.keep && !holds {
        eprintln!("the data is in {}", data.keep().display());
    }
    let report = soaked.with_context(|| format!("seed {seed}"))?;
    println!("{report}");
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    if holds {
        Ok(())
    } else {
        bail!("something does not hold; --seed {seed} repeats it as far as processes repeat")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_hour_at_a_thousand_a_second_is_enough_to_judge_memory() {
        let minutes = |rate| Plan { seconds: 0, rate, seed: 0 }.minutes_for_flatness();
        assert_eq!((minutes(1_000), minutes(500)), (27, 33));
    }
}
