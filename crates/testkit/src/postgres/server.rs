//! A server of one's own: started, killed, copied to a standby, promoted.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use tempfile::TempDir;

use super::installation::Installation;
use crate::certificates::Made;
use crate::process::{Process, output};
use crate::wait::free_address;

/// How long a server may take to start, to stop or to be copied.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries to start one.
const PAUSE: Duration = Duration::from_millis(50);
/// Who owns its databases. Nobody else reaches the server, and it holds nothing.
const USER: &str = "kite";
const PASSWORD: &str = "of-a-test";

/// What all servers of tests are like. They keep what they have acknowledged, as a real one does.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=300",
    "shared_buffers=64MB",
    "max_wal_size=512MB",
    "wal_keep_size=64MB",
    "hot_standby_feedback=on",
    "log_checkpoints=off",
    "lc_messages=C",
];

/// A running server. Its data goes with it.
pub struct Server {
    installation: Installation,
    process: Process,
    address: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// Makes and starts one on a free port, with more settings (`name=value`).
    ///
    /// # Errors
    /// When it does not start; shows what it printed.
    pub fn start(installation: &Installation, settings: &[&str]) -> anyhow::Result<Self> {
        Self::make(installation, None, settings)
    }

    /// Makes and starts one that can be talked to with TLS.
    ///
    /// # Errors
    /// See [`Server::start`].
    pub fn start_with_tls(installation: &Installation, tls: &Made) -> anyhow::Result<Self> {
        Self::make(
            installation,
            Some(tls),
            &["ssl=on", "ssl_cert_file=server.crt", "ssl_key_file=server.key"],
        )
    }

    fn make(installation: &Installation, tls: Option<&Made>, settings: &[&str]) -> anyhow::Result<Self> {
        let directory = installation.directory()?;
        let password = directory.path().join("password");
        fs::write(&password, PASSWORD)?;
        installation.give(&password)?;
        let mut init = installation.program("initdb");
        init.args(["--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", "--no-instructions"]);
        init.arg(format!("--username={USER}")).arg(format!("--pwfile={}", password.display()));
        init.arg("--pgdata").arg(data(&directory));
        output(&mut init)?;
        if let Some(tls) = tls {
            for (name, content) in [("server.crt", &tls.certificate), ("server.key", &tls.key)] {
                let file = data(&directory).join(name);
                fs::write(&file, content)?;
                fs::set_permissions(&file, Permissions::from_mode(0o600))?;
                installation.give(&file)?;
            }
        }
        Self::run(installation.clone(), directory, free_address()?, settings)
    }

    /// Copies this server to another one, which follows it at this address (its own, or something between) until it is
    /// promoted.
    ///
    /// # Errors
    /// See [`Server::start`].
    pub fn standby(&self, at: SocketAddr) -> anyhow::Result<Self> {
        let directory = self.installation.directory()?;
        let mut copy = self.installation.program("pg_basebackup");
        copy.arg("--pgdata").arg(data(&directory)).arg("--dbname").arg(url(&at.to_string(), "postgres"));
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]);
        output(&mut copy)?;
        Self::run(self.installation.clone(), directory, free_address()?, &[])
    }

    fn run(
        installation: Installation,
        directory: TempDir,
        address: SocketAddr,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let process = process(&installation, &directory, address, settings)?;
        Ok(Self { installation, process, address, directory })
    }

    /// Starts it again after it was killed or has ended, on the same port and data.
    ///
    /// # Errors
    /// See [`Server::start`].
    #[expect(clippy::disallowed_methods, reason = "processes of the system end in real time")]
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            match process(&self.installation, &self.directory, self.address, &[]) {
                Ok(process) => {
                    self.process = process;
                    return Ok(());
                }
                // Those that served its connections outlive it for a moment.
                Err(error) if is_still_in_use(&error) && begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process that all others of it come from.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// The URL of a database, for the owner of all. (By name: so a certificate for `localhost` is right.)
    pub fn url(&self, database: &str) -> String {
        url(&format!("localhost:{}", self.address.port()), database)
    }

    /// Lets it follow nobody any more, and take writes.
    ///
    /// # Errors
    /// When it does not within a minute or two.
    pub fn promote(&self) -> anyhow::Result<()> {
        let mut promote = self.installation.program("pg_ctl");
        output(promote.args(["promote", "--wait", "-D"]).arg(data(&self.directory))).map(drop)
    }

    /// Lets no file grow beyond this for whoever connects from now on; none: as far as there is room. A write beyond it fails, which is
    /// to PostgreSQL like a full disk.
    ///
    /// # Errors
    /// When there is no program `prlimit`, or it refuses.
    pub fn limit_files(&self, bytes_max: Option<u64>) -> anyhow::Result<()> {
        let bytes_max = bytes_max.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let mut limit = self.installation.run_as_owner("prlimit");
        limit.args(["--pid", &self.process.id().to_string(), &format!("--fsize={bytes_max}:")]);
        output(&mut limit).map(drop)
    }

    /// Kills it at once, as a machine that loses its power.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not in time; shows what it printed.
    pub fn wait_for_end(&mut self) -> anyhow::Result<()> {
        self.process.wait(PATIENCE).map(drop)
    }

    /// Stops it: connections are ended, what was written is kept.
    ///
    /// # Errors
    /// When it does not end in time, or has ended by itself before; shows what it printed.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let status = self.process.interrupt(PATIENCE)?;
        if !status.success() {
            bail!("the PostgreSQL server ended with {status}:\n{}", self.process.log());
        }
        Ok(())
    }
}

fn is_still_in_use(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("still in use")
}

/// The URL of a database behind an address, for the owner of all.
pub(super) fn url(address: &str, database: &str) -> String {
    format!("postgres://{USER}:{PASSWORD}@{address}/{database}")
}

fn data(directory: &TempDir) -> PathBuf {
    directory.path().join("data")
}

/// The server's process, once it takes connections.
fn process(
    installation: &Installation,
    directory: &TempDir,
    address: SocketAddr,
    settings: &[&str],
) -> anyhow::Result<Process> {
    let mut server = installation.program("postgres");
    server.arg("-D").arg(data(directory)).arg("-p").arg(address.port().to_string());
    for setting in SETTINGS.iter().chain(settings) {
        server.args(["-c", setting]);
    }
    let process = Process::start("PostgreSQL server", &mut server)?;
    process
        .wait_for_line("that it is ready", PATIENCE, |line| line.contains("ready to accept").then_some(()))?;
    Ok(process)
}
