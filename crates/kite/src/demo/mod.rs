//! `kite demo`: everything in one process with simulated relays, used through the public HTTP API, so that a person can
//! see it work and believe it.

mod campaign;
mod client;
mod progress;
mod relays;
mod report;
mod scene;

use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::DemoOptions;
use crate::config::Config;
use crate::instance::Instance;
use crate::serve::{asked_to_stop, runtime};
use crate::telemetry;
use client::Client;
use report::Report;

/// Runs the demo.
pub(crate) fn run(options: DemoOptions) -> anyhow::Result<ExitCode> {
    telemetry::start_logging("warn");
    let data = DataDir::open(options.data.as_deref())?;
    runtime()?.block_on(async {
        let simulators = relays::start(options.seed).await?;
        let instance = Instance::start(configuration(&options, data.path())?).await?;
        let end = tokio::select! {
            end = show(&options, &instance, &simulators, data.path()) => end,
            signal = asked_to_stop() => signal,
            reason = instance.failed() => Err(anyhow::anyhow!(reason)),
        };
        let has_drained = instance.shut_down().await;
        simulators.shutdown().await;
        end?;
        Ok(if has_drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Sends, watches, reports; then serves until somebody asks it to stop.
async fn show(
    options: &DemoOptions,
    instance: &Instance,
    simulators: &kite_relay_sim::RelaySim,
    data: &Path,
) -> anyhow::Result<()> {
    let address = instance.address().context("the demo runs the API")?;
    let base_url = format!("http://{address}");
    let client = Client::new(&base_url, scene::ADMIN_KEY)?;
    let scene = scene::set_up(&client, simulators, &base_url, data, options).await?;
    let tenant = client.with_key(&scene.api_key);
    let progress = progress::Progress::new(options, instance.read_models().clone());
    let watching = progress.watch();
    let (sent, watched) = tokio::join!(campaign::send(&tenant, &scene, options), watching);
    let (sent, watched) = (sent?, watched?);
    let report = Report::read(instance.read_models(), &scene.tenant, &sent, &watched)?;
    if options.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.table());
        println!("{}", scene.hints(&base_url, options));
    }
    match options.exit {
        true => Ok(()),
        false => asked_to_stop().await,
    }
}

fn configuration(options: &DemoOptions, data: &Path) -> anyhow::Result<Config> {
    let mut config = Config::compiled_in()?;
    config.data_dir = data.to_owned();
    config.listen = options.listen;
    config.admin_key = scene::ADMIN_KEY.to_owned();
    Ok(config)
}

/// Where the demo keeps its data: a directory that stays, or one that goes with the process.
enum DataDir {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl DataDir {
    fn open(kept: Option<&Path>) -> anyhow::Result<Self> {
        match kept {
            Some(path) => {
                std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
                Ok(Self::Kept(path.to_owned()))
            }
            None => Ok(Self::Temporary(tempfile::Builder::new().prefix("kite-demo-").tempdir()?)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}
