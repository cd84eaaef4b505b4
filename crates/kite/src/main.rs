//! Kite, the one binary: `kite demo`, `kite serve`, `kite replay` and what else an operator needs.

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

/// What the allocator gives back in small pieces the kernel would fill in again, minutes later, to make huge pages of the
/// rest: memory would creep up to the highest that it ever was.
fn keep_pages_small() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        eprintln!("kite: transparent huge pages stay as they are: {error}");
    }
}
