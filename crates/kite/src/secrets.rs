//! `kite secrets`: keys that encrypt the credentials of relays.

use kite_commands::clock::{SystemClock, SystemIds};
use kite_commands::directory::Directory;
use kite_commands::manage::Manage;
use kite_commands::vault::Vault;
use kite_commands::{Cause, Clock, Journal};
use reqwest::Method;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{SecretsCommand, SecretsRotateOptions};
use crate::config::Config;
use crate::operator::open_log;
use crate::random::unpredictable;
use crate::running::Running;
use crate::serve::runtime;

/// `kite secrets`.
pub(crate) fn run(command: SecretsCommand) -> anyhow::Result<ExitCode> {
    match command {
        SecretsCommand::Key { id } => {
            let id = id.unwrap_or_else(|| SystemClock.now().format("%Y-%m-%d").to_string());
            let line = Vault::line(&id, &unpredictable());
            Vault::parse(&line)?;
            println!("{line}");
        }
        SecretsCommand::Rotate(options) => {
            let relays = runtime()?.block_on(rotate(&options))?;
            match relays.is_empty() {
                true => println!("every credential was encrypted with the newest key already"),
                false => println!("encrypted with the newest key: {}", relays.join(", ")),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn rotate(options: &SecretsRotateOptions) -> anyhow::Result<Vec<String>> {
    let config = Config::load(options.config.as_deref())?;
    if let Some(data) = &options.data {
        return rotate_in_log(data, config.vault()?).await;
    }
    let running = Running::of(&config, options.url.as_deref())?;
    let answer = running.ask(Method::POST, "/v1/admin/secrets/rotate").await?;
    let relays = answer["relays"].as_array().into_iter().flatten();
    Ok(relays.filter_map(|relay| relay.as_str().map(str::to_owned)).collect())
}

/// In the log of a stopped instance.
async fn rotate_in_log(data: &Path, vault: Vault) -> anyhow::Result<Vec<String>> {
    let store = open_log(data)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let journal = Journal::new(store.clone(), clock, Arc::new(SystemIds));
    let directory = Directory::default();
    let rotated = async {
        directory.catch_up(&journal).await?;
        let manage =
            Manage::new(journal.clone(), directory, Arc::new(unpredictable)).with_vault(Arc::new(vault));
        anyhow::Ok(manage.rotate_secrets(&Cause::new("admin", journal.next_id())).await?)
    };
    let rotated = rotated.await;
    store.close();
    Ok(rotated?.value.iter().map(ToString::to_string).collect())
}
