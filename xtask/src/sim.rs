//! `cargo xtask sim`: the simulation, built for speed, with the deliberate bugs compiled in where they are asked for.

use anyhow::bail;
use clap::Args;
use std::path::PathBuf;

use crate::paths::cargo;

/// Options of `cargo xtask sim`.
#[derive(Args)]
pub(crate) struct SimOptions {
    /// How many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; without `--seeds`, only this one, cut down if it fails.
    #[arg(long)]
    seed: Option<u64>,
    /// Long cases: some fifty operations.
    #[arg(long)]
    long: bool,
    /// Takes a backup in the middle of each case, and lets a copy continue after the original's end.
    #[arg(long)]
    copied: bool,
    /// Lets one to four processes work on the log of each case, with faults of processes.
    #[arg(long)]
    nodes: bool,
    /// Activates one deliberate bug after another; fails if one is not found within its budget of seeds.
    #[arg(long)]
    mutations: bool,
    /// A kept case, to be run alone.
    #[arg(long)]
    case: Option<PathBuf>,
    /// Prints the log of a failing case.
    #[arg(long)]
    log: bool,
    /// Prints how often the seeds reached each situation that matters.
    #[arg(long)]
    reached: bool,
    /// Builds without optimisation: slower to run, quicker to build.
    #[arg(long)]
    debug: bool,
}

/// Runs the simulation.
pub(crate) fn run(options: &SimOptions) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "kite-simulation"]);
    if !options.debug {
        command.arg("--release");
    }
    if options.mutations {
        command.args(["--features", "mutations"]);
    }
    // What one seed gives back the next one takes.
    command.env("MIMALLOC_PURGE_DELAY", "-1");
    command.arg("--");
    for (name, number) in [("--seeds", options.seeds), ("--seed", options.seed)] {
        if let Some(number) = number {
            command.args([name, &number.to_string()]);
        }
    }
    for (name, is_on) in [
        ("--long", options.long),
        ("--copied", options.copied),
        ("--nodes", options.nodes),
        ("--mutations", options.mutations),
        ("--log", options.log),
        ("--reached", options.reached),
    ] {
        if is_on {
            command.arg(name);
        }
    }
    if let Some(case) = &options.case {
        command.arg("--case").arg(std::path::absolute(case)?);
    }
    if !command.status()?.success() {
        bail!("the simulation found something, or could not be built");
    }
    Ok(())
}
