//! `cargo xtask`: what a developer or CI does with this workspace beyond cargo itself.
//!
//! `cargo xtask test` runs every test with the real servers that they need; `cargo xtask load` measures; `cargo xtask
//! soak` lets everything go wrong at once.

mod deny;
mod fuzz;
mod load;
mod paths;
mod schemathesis;
mod servers;
mod sim;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks the dependency tree and runs every test, with whatever real servers they need.
    Test(test::TestOptions),
    /// Fuzzes everything that reads outside input. Needs a nightly compiler.
    Fuzz(fuzz::FuzzOptions),
    /// Tests a running Kite against everything that docs/openapi.json says.
    Schemathesis(schemathesis::SchemathesisOptions),
    /// Simulates the whole write path and the projectors under faults, in one thread and virtual time.
    Sim(sim::SimOptions),
    /// Measures acceptance, the event store and the whole path on this machine.
    Load(load::LoadOptions),
    /// Runs everything under load while all kinds of faults happen, and judges the result.
    Soak(soak::SoakOptions),
    /// The same with Kite as several processes, on PostgreSQL with a standby and a cluster of NATS, all of which die now and then.
    Cluster(soak::cluster::ClusterOptions),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Schemathesis(options) => schemathesis::run(&options),
        Task::Sim(options) => sim::run(&options),
        Task::Load(options) => load::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Cluster(options) => soak::cluster::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
