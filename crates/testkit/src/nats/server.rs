//! A server of one's own: started, killed, paused, started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::installation::Installation;
use super::monitoring::Monitoring;
use super::options::{Login, Options, Seat};
use crate::process::Process;
use crate::wait::{free_addresses, wait_for};

/// How long a server may take to start or to stop, or a cluster to find a leader.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// A server that works greets whoever connects at once.
const GREETING_WITHIN: Duration = Duration::from_secs(5);
/// What it greets with.
const GREETING: &[u8] = b"INFO ";

/// A running server. Its data goes with it.
pub struct Server {
    installation: Installation,
    process: Process,
    monitoring: Monitoring,
    seat: Seat,
    login: Option<Login>,
    /// `tls` if that is the only way to talk to it, otherwise `nats`.
    scheme: &'static str,
    configuration: PathBuf,
    state: State,
    /// The configuration and the data are in here.
    _directory: TempDir,
}

/// What whoever holds a server has let it do last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Runs,
    StandsStill,
    Ended,
}

impl Server {
    /// Makes and starts one on a free port, and waits until it takes connections and, if it has any, JetStream works.
    ///
    /// # Errors
    /// When it does not start; shows what it printed.
    pub async fn start(installation: &Installation, options: Options) -> anyhow::Result<Self> {
        let ports = free_addresses(2)?;
        let seat = Seat { name: "alone".to_owned(), address: ports[0], monitoring: ports[1], routes: None };
        let mut server = Self::launch(installation, &options, seat)?;
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Makes and starts one. It may not take connections yet.
    pub(super) fn launch(installation: &Installation, options: &Options, seat: Seat) -> anyhow::Result<Self> {
        let directory = installation.directory()?;
        let configuration = options.write(&seat, directory.path())?;
        Ok(Self {
            process: process(installation, &seat, &configuration)?,
            monitoring: Monitoring::at(seat.monitoring)?,
            installation: installation.clone(),
            seat,
            login: options.login.clone(),
            scheme: if options.tls.is_some() { "tls" } else { "nats" },
            configuration,
            state: State::Runs,
            _directory: directory,
        })
    }

    /// Starts it again after it was killed or has ended, on the same port and data and with the same options, and waits until it takes
    /// connections. One by itself then has all its streams; one of a cluster may still have to catch up
    /// ([`Cluster::wait_until_current`](super::Cluster::wait_until_current)).
    ///
    /// # Errors
    /// See [`Server::start`]; or it still runs.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        ensure!(!self.process.is_running()?, "the NATS server {} still runs", self.seat.name);
        self.process = process(&self.installation, &self.seat, &self.configuration)?;
        self.state = State::Runs;
        self.wait_until_ready().await
    }

    /// Waits until it takes connections and, if it is by itself, all is well with its streams.
    pub(super) async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let Self { process, monitoring, seat, .. } = self;
        let look = async || match process.is_running() {
            Ok(true) => {
                let is_ready = greets(seat.address).await
                    // Others may have to be there before all is well.
                    && (seat.routes.is_some() || monitoring.is_well("/healthz").await);
                is_ready.then_some(Ok(()))
            }
            Ok(false) => Some(Err(anyhow!("it has ended"))),
            Err(error) => Some(Err(error)),
        };
        let waited = wait_for("a NATS server to be ready", PATIENCE, look).await;
        waited.flatten().with_context(|| self.process.log())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.seat.address
    }

    /// Its URL, with the login if it wants one. (By name: so a certificate for `localhost` is right.)
    pub fn url(&self) -> String {
        self.url_at(self.seat.address)
    }

    /// Its URL over something between, which listens on this machine.
    pub fn url_at(&self, between: SocketAddr) -> String {
        let login = self.login.as_ref().map(|Login { user, password }| format!("{user}:{password}@"));
        format!("{}://{}localhost:{}", self.scheme, login.unwrap_or_default(), between.port())
    }

    /// Its name in its cluster.
    pub fn name(&self) -> &str {
        &self.seat.name
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// The last lines that it printed, for a failure message.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What it answers over HTTP to a question how it is, such as `/varz`, `/connz` or `/jsz?streams=true`.
    ///
    /// # Errors
    /// When it stands still, does not run, or answers that something is wrong.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        ensure!(self.runs(), "the NATS server {} does not run", self.seat.name);
        self.monitoring.ask(path).await
    }

    pub(super) fn monitoring(&self) -> &Monitoring {
        &self.monitoring
    }

    /// Whether it runs, as far as whoever holds it has let it.
    pub(super) fn runs(&self) -> bool {
        self.state == State::Runs
    }

    /// Kills it at once with SIGKILL. Its data stays.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.state = State::Ended;
        Ok(())
    }

    /// Stops it with SIGTERM: connections are ended, what was written is kept.
    ///
    /// # Errors
    /// When it does not end in time, or has ended by itself before; shows what it printed.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.end(Signal::TERM)
    }

    /// Lets it leave in peace (lame duck mode): it hands over whatever it leads, takes no more connections, tells its clients to go
    /// elsewhere, and ends when they have had a second or more for it.
    ///
    /// # Errors
    /// See [`Server::stop`].
    pub fn leave(&mut self) -> anyhow::Result<()> {
        self.end(Signal::USR2)
    }

    fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)?;
        let status = self.process.wait(PATIENCE)?;
        self.state = State::Ended;
        ensure!(status.success(), "the NATS server ended with {status}:\n{}", self.process.log());
        Ok(())
    }

    /// Lets it stand still until [`Server::resume`]: what talks to it sees neither an answer nor an end. The system still takes connections
    /// for it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.process.pause()?;
        self.state = State::StandsStill;
        Ok(())
    }

    /// Lets it run on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.process.resume()?;
        self.state = State::Runs;
        Ok(())
    }
}

/// Whether a server says that it takes connections.
async fn greets(address: SocketAddr) -> bool {
    let greeting = async {
        let mut greeting = [0; GREETING.len()];
        TcpStream::connect(address).await?.read_exact(&mut greeting).await?;
        std::io::Result::Ok(greeting)
    };
    matches!(timeout(GREETING_WITHIN, greeting).await, Ok(Ok(greeting)) if greeting == *GREETING)
}

/// The server's process. It may not take connections yet.
fn process(installation: &Installation, seat: &Seat, configuration: &Path) -> anyhow::Result<Process> {
    let mut server = installation.program();
    server.arg("--config").arg(configuration);
    Process::start(&format!("NATS server {}", seat.name), &mut server)
}
