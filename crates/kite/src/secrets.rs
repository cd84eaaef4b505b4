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
use crate::log::open_log;
use crate::random::unpredictable;
use crate::running::Running;
use crate::serve::runtime;

/// `kite secrets`.
pub(crate) fn run(command: SecretsCommand) -> anyhow::Result<ExitCode> {
    match command {
        SecretsCommand::Key { id } => {
            let id = id.unwrap_or_else(|| {
                let [one, two, three, ..] = unpredictable();
                // Two keys of one day are to be told apart.
                format!("{}-{one:02x}{two:02x}{three:02x}", SystemClock.now().format("%Y-%m-%d"))
            });
            let line = Vault::line(&id, &unpredictable());
            Vault::parse(&line)?;
            println!("{line}");
        }
        SecretsCommand::Rotate(options) => {
            let Rotated { relays, locked } = runtime()?.block_on(rotate(&options))?;
            match (relays.is_empty(), locked.is_empty()) {
                (true, true) => println!("every credential was encrypted with the newest key already"),
                (true, false) => {}
                (false, _) => println!("encrypted with the newest key: {}", relays.join(", ")),
            }
            if !locked.is_empty() {
                eprintln!("cannot be decrypted, and left as it was: {}", locked.join("; "));
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What came of it.
#[derive(Default)]
struct Rotated {
    relays: Vec<String>,
    /// The relays whose credentials cannot be decrypted, and why.
    locked: Vec<String>,
}

async fn rotate(options: &SecretsRotateOptions) -> anyhow::Result<Rotated> {
    let config = Config::load(options.config.as_deref())?;
    if let Some(data) = &options.data {
        return rotate_in_log(data, config.vault()?).await;
    }
    let running = Running::of(&config, options.url.as_deref())?;
    let answer = running.ask(Method::POST, "/v1/admin/secrets/rotate").await?;
    let texts = |list: &serde_json::Value, text: fn(&serde_json::Value) -> Option<String>| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(text).collect()
    };
    let locked =
        |one: &serde_json::Value| Some(format!("{}: {}", one["relay"].as_str()?, one["reason"].as_str()?));
    Ok(Rotated {
        relays: texts(&answer["relays"], |relay| relay.as_str().map(str::to_owned)),
        locked: texts(&answer["locked"], locked),
    })
}

/// In the log of a stopped instance.
async fn rotate_in_log(data: &Path, vault: Vault) -> anyhow::Result<Rotated> {
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
    let rotated = rotated?.value;
    Ok(Rotated {
        relays: rotated.relays.iter().map(ToString::to_string).collect(),
        locked: rotated.locked.iter().map(|(relay, why)| format!("{relay}: {why}")).collect(),
    })
}
