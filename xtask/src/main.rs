//! `cargo xtask`: what a developer or CI does with this workspace beyond cargo itself.
//!
//! `cargo xtask test` runs every test with the real servers that they need; `cargo xtask load` measures.

mod load;
mod paths;
mod servers;
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
    /// Runs every test, with whatever real servers they need.
    Test(test::TestOptions),
    /// Measures acceptance, the event store and the whole path on this machine.
    Load(load::LoadOptions),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Load(options) => load::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
