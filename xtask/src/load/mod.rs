//! `cargo xtask load`: how fast Kite is on this machine, stage by stage, and what limits each stage.
//!
//! Everything is measured in one run, so that ratios of the figures are meaningful: a plain file, the event store
//! alone, acceptance alone, the whole path, and the way of a one-time password beside it. Kite and relay-sim are
//! processes of their own, called only over HTTP; the generator (this process) prepares what it needs beforehand.
//!
//! Deliberately absent: pass or fail by figures. A shared machine is too noisy for that; docs/performance.md has the
//! figures that were reached. A run fails if a message is not final, or is counted differently by the relays, or if a
//! genuine request is not answered because of hostile callers.

mod bodies;
mod cluster;
mod generator;
pub(crate) mod measure;
mod platform;
mod profile;
mod report;
mod server;
mod stages;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use kite_testkit::nats::{Options as NatsOptions, Server as NatsServer};
use tokio::signal::unix::{SignalKind, signal};

use crate::paths::{cargo, target};
use crate::servers::{Nats, PostgresServer};
use cluster::{ClusterSize, LoadCluster};
use profile::Profiler;
use report::Report;
use server::LoadServer;
use stages::Plan;

/// Options of `cargo xtask load`.
#[derive(Args)]
pub(crate) struct LoadOptions {
    /// How long the whole path is under load, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Messages a second offered to the whole path.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    rate: u32,
    /// Recipients in one request to the whole path.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    recipients: u32,
    /// Messages that are stored when the growth has been looked at; ten million take about ten minutes.
    #[arg(long, default_value_t = 1_000_000, value_name = "MESSAGES")]
    grow_to: u64,
    /// A flame graph of Kite under the load of the whole path is written here. Needs `perf` (Debian's linux-perf) and
    /// inferno (`cargo install inferno`).
    #[arg(long, value_name = "SVG")]
    flame_graph: Option<PathBuf>,
    /// Some seconds in all, with a small load: shows that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only these stages.
    #[arg(long, value_delimiter = ',', value_name = "STAGE,…")]
    only: Vec<StageName>,
    /// Where log and read models are, one profile after the other in one run.
    #[arg(long, value_delimiter = ',', value_name = "PROFILE,…", default_value = "embedded")]
    profile: Vec<Profile>,
    #[command(flatten)]
    cluster: ClusterSize,
    /// Where data is written; the disk that is measured. Default: below cargo's target directory.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// End with one line that is a JSON object.
    #[arg(long)]
    json: bool,
}

/// Where log and read models are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// In files: the default of Kite.
    Embedded,
    /// In a PostgreSQL server of its own on this machine. The stages store, accept and growth are left out: they are about files.
    Postgres,
    /// The same, with a NATS server for the work queue, and each role of Kite as processes of its own.
    Cluster,
}

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StageName {
    /// A plain file, and the event store alone.
    Store,
    /// Acceptance alone.
    Accept,
    /// The whole path.
    Whole,
    /// The highest rate that the whole path keeps up with.
    Search,
    /// One-time passwords, on an idle system and beside campaigns.
    Otp,
    /// What a message costs when more and more are stored.
    Growth,
    /// Two thousand hostile callers beside two thousand messages a second.
    Hostile,
    /// One-time passwords while each process of a cluster is restarted: only with --profile cluster, and only if it is asked for.
    Restart,
}

/// Builds everything optimised, then measures.
pub(crate) fn run(options: &LoadOptions) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    let directory = options.directory.clone().unwrap_or_else(|| target().join("load"));
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for profile in &options.profile {
        let server = match profile {
            Profile::Embedded => None,
            Profile::Postgres | Profile::Cluster => Some(PostgresServer::start_with(&server::SETTINGS)?),
        };
        let nats = match profile {
            Profile::Embedded | Profile::Postgres => None,
            Profile::Cluster => {
                let nats = Nats::install()?;
                Some(runtime.block_on(NatsServer::start(nats.installation(), NatsOptions::default()))?)
            }
        };
        let load_server =
            server.as_ref().map(|server| LoadServer { url: server.url(), process: server.process() });
        let cluster = nats.as_ref().map(|nats| LoadCluster::new(nats, options.cluster));
        let plan = Plan { cluster, ..plan(options, directory.clone(), load_server) };
        let report = runtime.block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                report = measure_all(&plan, options) => report,
                // What was started ends with this future.
                _ = terminated.recv() => bail!("asked to end"),
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted.map_err(Into::into).and_then(|()| bail!("interrupted"))
                }
            }
        })?;
        server.map_or(Ok(()), PostgresServer::stop)?;
        println!("profile: {profile:?}\n{}", report.table());
        if options.json {
            println!("{}", serde_json::to_string(&report)?);
        }
    }
    Ok(())
}

/// Compiles this program, Kite and relay-sim with optimisation, in one go, and becomes the optimised program.
pub(crate) fn run_optimised() -> anyhow::Result<()> {
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        "xtask",
        "--package",
        "kite",
        "--package",
        "kite-relay-sim",
    ]);
    // Standard output belongs to the figures.
    if !build.stdout(Stdio::null()).status()?.success() {
        bail!("the release build failed");
    }
    let error = Command::new(target().join("release/xtask")).args(std::env::args_os().skip(1)).exec();
    Err(error).context("the optimised program cannot be started")
}

fn plan(options: &LoadOptions, directory: PathBuf, postgres: Option<LoadServer>) -> Plan {
    let quick = Plan {
        directory,
        postgres,
        cluster: None,
        store_seconds: 1,
        accept_seconds: 2,
        whole_seconds: options.seconds.min(3),
        messages_per_second: options.rate.min(2_000),
        recipients: options.recipients.min(200),
        stored_messages_max: 10_000,
        look_messages: 10_000,
        search_seconds: 2,
        search_steps_max: 1,
        otps: 20,
        campaign_messages: 5_000,
        hostile_callers: 200,
        hostile_seconds: 3,
    };
    if options.quick {
        return quick;
    }
    Plan {
        store_seconds: 5,
        accept_seconds: 10,
        whole_seconds: options.seconds,
        messages_per_second: options.rate,
        recipients: options.recipients,
        stored_messages_max: options.grow_to,
        look_messages: 200_000,
        search_seconds: options.seconds.min(15),
        search_steps_max: 10,
        otps: 400,
        campaign_messages: 100_000,
        hostile_callers: 2_000,
        hostile_seconds: options.seconds,
        ..quick
    }
}

async fn measure_all(plan: &Plan, options: &LoadOptions) -> anyhow::Result<Report> {
    let is_left_out = |stage| {
        plan.postgres.is_some() && matches!(stage, StageName::Store | StageName::Accept | StageName::Growth)
    };
    if let Some(stage) = options.only.iter().find(|stage| is_left_out(**stage)) {
        bail!("there is no stage {stage:?} of a log in PostgreSQL");
    }
    let is_wanted = |stage: StageName| match options.only.is_empty() {
        _ if is_left_out(stage) => false,
        true if stage == StageName::Restart => false,
        true => stage != StageName::Search || !options.quick,
        false => options.only.contains(&stage),
    };
    let wanted = |stage: StageName| {
        if is_wanted(stage) {
            eprintln!("measuring: {stage:?}");
        }
        is_wanted(stage)
    };
    let mut report = Report::default();
    if wanted(StageName::Store) {
        stages::disk::measure(plan, &mut report).await.context("stage store")?;
    }
    if wanted(StageName::Accept) {
        stages::acceptance::measure(plan, &mut report).await.context("stage accept")?;
    }
    if [StageName::Whole, StageName::Search, StageName::Otp, StageName::Restart].into_iter().any(is_wanted) {
        let mut platform = platform::Platform::start(plan, platform::Roles::All).await?;
        if wanted(StageName::Whole) {
            let profiler =
                options.flame_graph.as_deref().map(|svg| Profiler::start(platform.kite_process(), svg));
            let profiler = profiler.transpose()?;
            stages::whole::measure(plan, &platform, &mut report).await.context("stage whole")?;
            if let Some(profiler) = profiler {
                report.stages = profiler.draw()?;
            }
        }
        if wanted(StageName::Search) {
            stages::whole::search(plan, &platform, &mut report).await.context("stage search")?;
        }
        if wanted(StageName::Otp) {
            stages::otp::measure(plan, &platform, &mut report).await.context("stage otp")?;
        }
        if wanted(StageName::Restart) {
            stages::restart::measure(&mut platform, &mut report).await.context("stage restart")?;
        }
        platform.stop()?;
    }
    if wanted(StageName::Growth) {
        let platform = platform::Platform::start(plan, platform::Roles::All).await?;
        stages::growth::measure(plan, &platform, &mut report).await.context("stage growth")?;
        platform.stop()?;
    }
    if wanted(StageName::Hostile) {
        stages::hostile::measure(plan, &mut report).await.context("stage hostile")?;
    }
    report.divide();
    Ok(report)
}
