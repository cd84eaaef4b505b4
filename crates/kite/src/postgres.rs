//! `kite postgres`: what the owner of the database does.

use anyhow::Context;
use kite_commands::lease::POSTGRES_SCHEMA as LEASES;
use kite_event_store::postgres::SCHEMA as LOG;
use kite_postgres::Connector;
use kite_projections::postgres::{SCHEMA as READ_MODELS, make_first};
use std::process::ExitCode;
use tokio_postgres::Client;

use crate::cli::PostgresCommand;
use crate::config::Config;
use crate::serve::runtime;

/// Runs the command.
pub(crate) fn run(command: PostgresCommand) -> anyhow::Result<ExitCode> {
    let PostgresCommand::Migrate { config, mut instances, readers } = command;
    let server = Config::load(config.as_deref())?.postgres.server()?;
    // Before anything is made anew, with which a right may be lost.
    let known = runtime()?.block_on(LOG.instances(&server)).context("nothing was changed")?;
    instances.extend(known.into_iter().filter(|role| !instances.contains(role)).collect::<Vec<_>>());
    for schema in [&LOG, &LEASES, &READ_MODELS] {
        runtime()?
            .block_on(schema.migrate(&server, &instances))
            .with_context(|| format!("the schema {} is as it was", schema.name))?;
        println!("the schema {} is as this program needs it", schema.name);
    }
    let making = async {
        let make = async |client: &mut Client| make_first(client, &instances, &readers).await;
        Connector::new(&server, "kite")?.once(make).await
    };
    runtime()?.block_on(making).context("the tables of the read models are as they were")?;
    println!("the tables of the read models are there, and the views in the schema kite");
    for role in readers {
        println!("{role} may read the views");
    }
    for role in instances {
        println!("{role} may run instances, and has been given its rights to all that is there");
    }
    Ok(ExitCode::SUCCESS)
}
