//! Kite, the one binary: `kite demo`, `kite serve`, `kite replay` and what else an operator needs.

use clap::Parser;
use kite::cli::Cli;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match kite::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kite: {error:#}");
            ExitCode::FAILURE
        }
    }
}
