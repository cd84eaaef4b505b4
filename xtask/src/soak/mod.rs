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
//! Kite is one process, or several on servers that they have in common ([`cluster`]).
//!
//! Deliberately absent: a restart of relay-sim, whose ledger is what everything is compared with, and which ends with
//! it.

mod balance;
pub(crate) mod cluster;
mod conduct;
mod faults;
mod flat;
mod ground;
mod house;
mod minute;
mod node;
mod pace;
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
use cluster::faults::Blows;
use faults::Against;
use ground::Ground;
use pace::Agreed;
use server::SoakServer;

/// How long there is load in a short run, in seconds, and messages a second.
const SHORT: (u64, u32) = (60, 60);
/// Messages that may be open at a look, in seconds of load.
const OPEN_SECONDS_MAX: u64 = 60;
/// How long several processes take to begin, and to begin again between the halves. Seconds.
const CLUSTER_BEGINS_SECONDS: i64 = 20;
/// Of several processes each sees a part of what is sent: its caches are full later.
const CLUSTER_WARM_UP: u64 = 3;

/// Options of `cargo xtask soak`.
#[derive(Args)]
pub(crate) struct SoakOptions {
    /// How long there is load, in minutes; what comes after it takes some more.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Messages a second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    rate: u32,
    /// Keep log and read models in PostgreSQL: a server is found or installed, and started with its data under `target/`. It is killed,
    /// silent and cut off now and then.
    #[arg(long)]
    postgres: bool,
    /// Some minutes in all, with a small load and without optimisation: shows that everything holds, not for how long.
    #[arg(long, conflicts_with_all = ["minutes", "rate"])]
    short: bool,
    #[command(flatten)]
    keeping: Keeping,
}

/// What a run follows from, and what is kept and told of it.
#[derive(Args)]
pub(crate) struct Keeping {
    /// What is sent, what goes wrong, and what the relays do with each message. Without it, one that nobody chose.
    #[arg(long)]
    seed: Option<u64>,
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

impl Keeping {
    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(any_seed)
    }
}

/// What Kite is to stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Files,
    Postgres,
    Cluster,
}

/// What a run is to be.
#[derive(Clone)]
pub(crate) struct Plan {
    seconds: u64,
    rate: u32,
    seed: u64,
    on: On,
}

impl Plan {
    /// How many minutes a run at this rate has to take for its memory to be judged.
    fn minutes_for_flatness(&self) -> u64 {
        let warm_up = self.warm_up_messages() as f64 / f64::from(self.rate);
        ((warm_up + flat::LOOK_SECONDS_MIN) * 2.0 / 60.0).ceil() as u64 + 1
    }

    /// After so many messages the caches of each process are full.
    fn warm_up_messages(&self) -> u64 {
        flat::WARM_UP_MESSAGES * if self.on == On::Cluster { CLUSTER_WARM_UP } else { 1 }
    }

    /// Messages that may be open at a look in the second half: some are scheduled, and relays are out for a while. Several processes begin
    /// it with what is left of the first.
    fn open_max(&self) -> u64 {
        let seconds = if self.on == On::Cluster { 2 * OPEN_SECONDS_MAX } else { OPEN_SECONDS_MAX };
        seconds * u64::from(self.rate)
    }

    /// What goes by before there is load, where that matters.
    fn seconds_to_begin(&self) -> i64 {
        if self.on == On::Cluster { CLUSTER_BEGINS_SECONDS } else { 0 }
    }

    /// The longest turn.
    fn turn_ms_max(&self) -> u64 {
        if self.on == On::Cluster { cluster::faults::TURN_MS_MAX } else { faults::TURN_MS_MAX }
    }

    fn against(&self) -> Against {
        match self.on {
            On::Files => Against::Kite,
            On::Postgres => Against::KiteAndServer,
            On::Cluster => Against::Cluster(Blows::new(self.seed)),
        }
    }

    /// What is agreed with relays: only where several processes share it is it of interest.
    fn agreed(&self) -> Agreed {
        if self.on == On::Cluster { Agreed::for_load(self.rate) } else { Agreed::default() }
    }

    async fn ground(&self) -> anyhow::Result<Ground> {
        match self.on {
            On::Files => Ok(Ground::Files),
            On::Postgres => Ok(Ground::Postgres(Box::new(SoakServer::start().await?))),
            On::Cluster => cluster::ground().await,
        }
    }
}

/// Builds everything optimised, then soaks.
pub(crate) fn run(options: &SoakOptions) -> anyhow::Result<()> {
    if cfg!(debug_assertions) && !options.short {
        return run_optimised();
    }
    let (seconds, rate) = if options.short { SHORT } else { (options.minutes * 60, options.rate) };
    let on = if options.postgres { On::Postgres } else { On::Files };
    hold(&Plan { seconds, rate, seed: options.keeping.seed(), on }, &options.keeping)
}

/// Runs it, and says whether everything holds.
fn hold(plan: &Plan, keeping: &Keeping) -> anyhow::Result<()> {
    let directory = keeping.directory.clone().unwrap_or_else(|| target().join("soak"));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let data = tempfile::tempdir_in(&directory)?;
    let Plan { seconds, rate, seed, .. } = *plan;
    eprintln!("seed {seed}; {rate} messages a second for {seconds} s");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let soaked = runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            report = async { conduct::soak(plan, data.path(), plan.ground().await?).await } => report,
            // What was started ends with this future.
            _ = terminated.recv() => bail!("asked to end"),
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and_then(|()| bail!("interrupted")),
        }
    });
    let holds = soaked.as_ref().is_ok_and(|report| report.complaints().is_empty());
    if keeping.keep && !holds {
        eprintln!("the data is in {}", data.keep().display());
    }
    let report = soaked.with_context(|| format!("seed {seed}"))?;
    println!("{report}");
    if keeping.json {
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
        let minutes = |rate| Plan { seconds: 0, rate, seed: 0, on: On::Files }.minutes_for_flatness();
        assert_eq!((minutes(1_000), minutes(500)), (27, 33));
    }
}
