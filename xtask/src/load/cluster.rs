//! Kite as many processes, each with a role of its own, with the work queue on NATS.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use kite_testkit::nats::Server;
use kite_testkit::process::Process;
use kite_testkit::wait::free_address;

use super::measure::cpu_seconds;
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
    processes: Vec<(&'static str, Process)>,
    /// Where the other processes with the role api listen.
    pub(crate) addresses: Vec<SocketAddr>,
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

    /// Starts all but the first.
    pub(crate) fn start_others(
        &self,
        directory: &Path,
        dress: impl Fn(&mut Command),
    ) -> anyhow::Result<Others> {
        let mut roles = vec!["router,timekeeper", "publisher", "projector"];
        roles.extend((0..self.size.workers).map(|_| "worker"));
        roles.extend((1..self.size.apis).map(|_| "api"));
        let mut others = Others { processes: Vec::new(), addresses: Vec::new() };
        for (number, role) in roles.into_iter().enumerate() {
            let mut command = Command::new(target().join("release/kite"));
            command.args(["serve", "--roles", role, "--data"]).arg(directory.join(format!("kite-{number}")));
            if role == "api" {
                let address = free_address()?;
                command.args(["--listen", &address.to_string()]);
                others.addresses.push(address);
            }
            dress(&mut command);
            others.processes.push((role, Process::start(role, &mut command)?));
        }
        Ok(others)
    }
}

impl Others {
    /// CPU time so far, of each by its role.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.processes.iter().map(|(role, process)| Ok((*role, cpu_seconds(process.id())?))).collect()
    }

    /// What they have printed last.
    pub(crate) fn log(&self) -> String {
        let logs = self.processes.iter().map(|(role, process)| format!("{role}:\n{}", process.log()));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// All of them, to ask them to end.
    pub(crate) fn into_processes(self) -> impl Iterator<Item = Process> {
        self.processes.into_iter().map(|(_, process)| process)
    }
}
