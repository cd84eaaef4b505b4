//! `kite demo`: everything in one process with simulated relays, used through the public HTTP API, so that a person can
//! see it work and believe it.

mod campaign;
mod client;
mod progress;
mod relays;
mod report;
mod scene;

use anyhow::Context;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::DemoOptions;
use crate::config::Config;
use crate::instance::Instance;
use crate::serve::{Signals, runtime};
use crate::telemetry;
use client::Client;
use report::Report;

/// How long the read models of a kept data directory may take to show the messages of an earlier run.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Runs the demo.
pub(crate) fn run(options: DemoOptions) -> anyhow::Result<ExitCode> {
    telemetry::start_logging("warn");
    let data = DataDir::open(options.data.as_deref())?;
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let simulators = relays::start(options.seed).await?;
        let place = Place::choose(options.listen)?;
        let instance = Instance::start(configuration(place.listen, data.path())?).await?;
        let end = tokio::select! {
            end = show(&options, &place, &instance, &simulators, data.path()) => end,
            signal = signals.asked_to_stop() => signal,
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
    place: &Place,
    instance: &Instance,
    simulators: &kite_relay_sim::RelaySim,
    data: &Path,
) -> anyhow::Result<()> {
    let base_url = instance.url().context("the demo runs the API")?;
    let client = Client::new(&base_url, scene::ADMIN_KEY)?;
    let scene = scene::set_up(&client, simulators, &base_url, data, options).await?;
    let tenant = client.with_key(&scene.api_key);
    if let Some(note) = &place.note {
        eprintln!("{note} The API is at {base_url}");
    }
    instance.catch_up(CATCH_UP_MAX).await;
    let progress = progress::Progress::start(options, instance.read_models().clone()).await?;
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
        // Whoever waits for this also waits for a signal.
        false => std::future::pending().await,
    }
}

/// Where the API is to listen.
struct Place {
    listen: SocketAddr,
    /// What to tell the user about it.
    note: Option<String>,
}

impl Place {
    /// The address that the user asked for; otherwise that of the default configuration, or any free port if that one
    /// is taken.
    fn choose(wanted: Option<SocketAddr>) -> anyhow::Result<Self> {
        if let Some(listen) = wanted {
            return Ok(Self { listen, note: None });
        }
        Ok(Self::beside_others(Config::compiled_in()?.listen))
    }

    fn beside_others(usual: SocketAddr) -> Self {
        match std::net::TcpListener::bind(usual) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => Self {
                listen: SocketAddr::new(usual.ip(), 0),
                note: Some(format!("Port {} is taken by another program.", usual.port())),
            },
            Ok(_) | Err(_) => Self { listen: usual, note: None },
        }
    }
}

fn configuration(listen: SocketAddr, data: &Path) -> anyhow::Result<Config> {
    let mut config = Config::compiled_in()?;
    config.data_dir = data.to_owned();
    config.listen = listen;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one_unless_it_was_asked_for() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let place = Place::beside_others(address);
        assert_eq!(place.listen, SocketAddr::new(address.ip(), 0));
        let note = place.note.unwrap();
        assert!(note.contains(&address.port().to_string()), "{note}");
        let asked_for = Place::choose(Some(address)).unwrap();
        assert_eq!((asked_for.listen, asked_for.note), (address, None));
    }
}
