//! The parts of Kite put together: configuration, wiring, roles, life cycle, telemetry, and the demo.
//!
//! Nothing is decided here about messages; the crates that this one connects do that.

mod backup;
pub mod cli;
pub mod config;
mod data_dir;
mod demo;
mod instance;
mod log;
mod operator;
mod own_client;
mod postgres;
mod private;
mod queue;
mod random;
mod relays;
mod running;
mod runtime;
mod seal_file;
mod secrets;
mod serve;
mod server;
mod spans;
mod telemetry;
mod vitals;

use std::process::ExitCode;

/// Runs a command line to its end.
///
/// # Errors
/// Whatever keeps the command from doing its work, with its causes.
pub fn run(cli: cli::Cli) -> anyhow::Result<ExitCode> {
    // Two TLS providers in one process fail at run time; this one is installed before anything can ask.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    private::keep_to_ourselves();
    match cli.command {
        cli::Command::Demo(options) => demo::run(options),
        cli::Command::Serve(options) => serve::run(options),
        cli::Command::Replay(options) => operator::replay(options),
        cli::Command::Audit(options) => operator::audit(options),
        cli::Command::Backup(options) => backup::backup(options),
        cli::Command::Restore(options) => backup::restore(options),
        cli::Command::Relays(command) => relays::run(command),
        cli::Command::Secrets(command) => secrets::run(command),
        cli::Command::Postgres(command) => postgres::run(command),
        cli::Command::Queue(command) => queue::run(command),
        cli::Command::Config(command) => operator::config(command),
    }
}
