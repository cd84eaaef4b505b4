//! `kite serve`: all parts, or some, until Ctrl-C or SIGTERM.

use anyhow::Context;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::ServeOptions;
use crate::config::Config;
use crate::instance::Instance;
use crate::telemetry;

/// How long the end of a process may take over exporting spans.
const SPANS_AT_END_MAX: Duration = Duration::from_secs(5);

/// Runs until it is asked to stop.
pub(crate) fn run(options: ServeOptions) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(options.config.as_deref())?;
    if let Some(data) = options.data {
        config.data_dir = data;
    }
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    if !options.roles.is_empty() {
        config.roles = options.roles.into_iter().collect();
        config.check_roles().context("--roles")?;
    }
    config.check_admin_key()?;
    config.check_backup_dir()?;
    config.check_store()?;
    let runtime = runtime()?;
    let spans = telemetry::start("info", &config.tracing, runtime.handle())?;
    let served = runtime.block_on(serve(config));
    // The runtime still sends what was made at the very end.
    if let Some(spans) = spans {
        spans.end(SPANS_AT_END_MAX);
    }
    served
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    // Before anything works: whoever is asked to stop while it begins ends as it should, too.
    let mut signals = Signals::listen()?;
    let instance = Instance::start(config).await?;
    if let (Some(address), Some(url)) = (instance.address(), instance.url()) {
        tracing::info!(%address, url, "ready");
    }
    if let Some(url) = instance.admin_url() {
        tracing::info!(url, "administration and metrics");
    }
    let end = tokio::select! {
        signal = signals.asked_to_stop() => signal,
        reason = instance.failed() => Err(anyhow::anyhow!(reason)),
    };
    let has_drained = instance.shut_down().await;
    end?;
    Ok(if has_drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The async runtime of the process. It has more threads than cores, so that a long piece of work (a thousand
/// recipients) does not hold up a short one (a password).
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores * 2)
        .enable_all()
        .thread_name("kite")
        .build()
}

/// Ctrl-C and SIGTERM, from when this is made.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they are ours.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for either.
    pub(crate) async fn asked_to_stop(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        Ok(())
    }
}
