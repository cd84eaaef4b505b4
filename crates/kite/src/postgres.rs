//! `kite postgres`: what the owner of the database does.

use anyhow::Context;
use kite_commands::lease::POSTGRES_SCHEMA as LEASES;
use kite_event_store::postgres::SCHEMA as LOG;
use std::process::ExitCode;

use crate::cli::PostgresCommand;
use crate::config::Config;
use crate::serve::runtime;

/// Runs the command.
pub(crate) fn run(command: PostgresCommand) -> anyhow::Result<ExitCode> {
    let PostgresCommand::Migrate { config, instances } = command;
    let server = Config::load(config.as_deref())?.postgres.server()?;
    for schema in [&LOG, &LEASES] {
        runtime()?
            .block_on(schema.migrate(&server, &instances))
            .with_context(|| format!("the schema {} is as it was", schema.name))?;
        println!("the schema {} is as this program needs it", schema.name);
    }
    for role in instances {
        println!("{role} may run instances");
    }
    Ok(ExitCode::SUCCESS)
}
