//! Kite as many processes, each with a role of its own, with the work queue on NATS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use kite_testkit::nats::Server;
use kite_testkit::process::Process;
use kite_testkit::wait::free_address;

use tokio::time::Instant;

use super::generator::Start;
use super::measure::cpu_seconds;
use super::platform::{PATIENCE, dress};
use crate::paths::target;

/// How many processes there are of the roles that a load is divided among.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ClusterSize {
    /// With --profile cluster: processes with the role api.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) apis: u8,
    /// With --profile cluster: processes with the role worker.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) workers: u8,
}

/// A NATS server on this machine that nobody else uses, and how many processes of Kite share it.
#[derive(Debug, Clone)]
pub(crate) struct LoadCluster {
    url: String,
    process: u32,
    pub(crate) size: ClusterSize,
}

/// The processes beside the first, which has the role api.
pub(crate) struct Others {
    processes: Vec<Other>,
    /// Where the other processes with the role api listen.
    pub(crate) addresses: Vec<SocketAddr>,
    settings: Vec<(&'static str, String)>,
}

/// A process that was stopped and started again, and between which times that may be felt.
pub(crate) struct Restarted {
    pub(crate) role: &'static str,
    pub(crate) from_us: u64,
    pub(crate) until_us: u64,
}

struct Other {
    role: &'static str,
    data: PathBuf,
    listen: Option<SocketAddr>,
    process: Process,
}

impl LoadCluster {
    /// With this server.
    pub(crate) fn new(server: &Server, size: ClusterSize) -> Self {
        Self { url: server.url(), process: server.process(), size }
    }

    /// What Kite has to be told.
    pub(crate) fn settings(&self) -> [(&'static str, String); 2] {
        [("KITE_QUEUE__ENGINE", "nats".to_owned()), ("KITE_NATS__SERVERS", format!("[\"{}\"]", self.url))]
    }

    /// CPU time of the server.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.process)
    }

    /// Starts all but the first. Of what one process does for all there are two.
    pub(crate) fn start_others(
        &self,
        directory: &Path,
        settings: &[(&'static str, String)],
    ) -> anyhow::Result<Others> {
        let mut roles = ["router,timekeeper", "publisher", "projector"].repeat(2);
        roles.extend((0..self.size.workers).map(|_| "worker"));
        roles.extend((1..self.size.apis).map(|_| "api"));
        let mut others = Others { processes: Vec::new(), addresses: Vec::new(), settings: settings.to_vec() };
        for (number, role) in roles.into_iter().enumerate() {
            let data = directory.join(format!("kite-{number}"));
            let listen = if role == "api" { Some(free_address()?) } else { None };
            others.addresses.extend(listen);
            let process = others.run(role, &data, listen)?;
            others.processes.push(Other { role, data, listen, process });
        }
        Ok(others)
    }
}

impl Others {
    fn run(&self, role: &str, data: &Path, listen: Option<SocketAddr>) -> anyhow::Result<Process> {
        let mut command = Command::new(target().join("release/kite"));
        command.args(["serve", "--roles", role, "--data"]).arg(data);
        if let Some(address) = listen {
            command.args(["--listen", &address.to_string()]);
        }
        dress(&mut command, &self.settings);
        Process::start(role, &mut command)
    }

    /// Stops each of them with SIGTERM and starts it again, one after the other, with so much time between. What comes of a
    /// restart within half of that time counts as its own.
    pub(crate) async fn restart(&mut self, pause: Duration) -> anyhow::Result<Vec<Restarted>> {
        let mut restarted = Vec::new();
        for place in 0..self.processes.len() {
            tokio::time::sleep_until(Instant::now() + pause).await;
            let from_us = Start::now().epoch_us();
            let other = &mut self.processes[place];
            let status = other.process.terminate(PATIENCE)?;
            ensure!(status.success(), "{} ended with {status}\n{}", other.role, other.process.log());
            let Other { role, data, listen, .. } = &self.processes[place];
            let process = self.run(role, data, *listen)?;
            self.processes[place].process = process;
            let until_us = Start::now().epoch_us() + pause.as_micros() as u64 / 2;
            restarted.push(Restarted { role: self.processes[place].role, from_us, until_us });
        }
        Ok(restarted)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.processes.len() as u32
    }

    /// CPU time so far, of each by its role.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let used = |other: &Other| Ok((other.role, cpu_seconds(other.process.id())?));
        self.processes.iter().map(used).collect()
    }

    /// What they have printed last.
    pub(crate) fn log(&self) -> String {
        let log = |other: &Other| format!("{}:\n{}", other.role, other.process.log());
        self.processes.iter().map(log).collect::<Vec<_>>().join("\n")
    }

    /// All of them, to ask them to end.
    pub(crate) fn into_processes(self) -> impl Iterator<Item = Process> {
        self.processes.into_iter().map(|other| other.process)
    }
}
