//! Kite, the one binary: `kite demo`, `kite serve`, `kite replay` and the other commands of an operator.

use clap::Parser;
use kite::cli::Cli;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_pages_small();
    match kite::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The kernel would turn small pieces of memory that the allocator gives back into huge pages again, minutes later,
/// so memory would creep up to the highest value that it ever had.
fn keep_pages_small() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        eprintln!("kite: transparent huge pages stay as they are: {error}");
    }
}
