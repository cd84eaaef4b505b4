//! A server of one's own: started, killed, copied to a standby, promoted.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::database::{Database, is_so};
use super::installation::Installation;
use crate::certificates::Made;
use crate::process::{Process, output};
use crate::wait::{block_for, free_address, wait_until};

/// How long a server may take to start, to stop or to be copied.
const PATIENCE: Duration = Duration::from_secs(120);
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
    /// Beside those of all.
    settings: Vec<String>,
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

    /// Makes a standby that the server waits for at every commit, so that it has whatever was acknowledged.
    ///
    /// # Errors
    /// See [`Server::start`]; or the server refuses.
    pub async fn synchronous_standby(&self) -> anyhow::Result<Self> {
        let standby = self.standby(self.address)?;
        // Outside of a transaction, so each by itself.
        for sql in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            Database::attempt(&self.url("postgres"), sql).await?;
        }
        self.wait_until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'").await?;
        Ok(standby)
    }

    /// Waits until this is so of the server.
    ///
    /// # Errors
    /// When it is not within a minute or two.
    pub async fn wait_until(&self, condition: &str) -> anyhow::Result<()> {
        let url = self.url("postgres");
        wait_until(condition, PATIENCE, async || is_so(&url, condition).await).await
    }

    fn run(
        installation: Installation,
        directory: TempDir,
        address: SocketAddr,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let process = process(&installation, &directory, address, settings)?;
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Ok(Self { installation, process, address, directory, settings })
    }

    /// Starts it again after it was killed or has ended, on the same port and data and with the same settings.
    ///
    /// # Errors
    /// See [`Server::start`].
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        self.process = process(&self.installation, &self.directory, self.address, &settings)?;
        Ok(())
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

    /// Kills it at once with all that it has started, as a machine that loses its power.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        // Standing still it starts no more.
        self.process.pause()?;
        let id = self.process.id();
        block_for("the server to stand still", PATIENCE, || {
            state(id).is_none_or(|state| state == 'T').then_some(())
        })?;
        let started = children(id);
        // Before the first one: whoever sees it end waits for no standby any more, and shows what only this server has to all that are
        // left.
        for process in started.iter().filter_map(|id| Pid::from_raw(*id as i32)) {
            // One may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        self.process.kill()?;
        // While one of them is left the data belongs to it. Nobody may have asked yet how it ended.
        let has_ended = |id: &u32| state(*id).is_none_or(|state| state == 'Z');
        block_for("the end of all", PATIENCE, || started.iter().all(has_ended).then_some(()))
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

/// The URL of a database behind an address, for the owner of all.
pub(super) fn url(address: &str, database: &str) -> String {
    format!("postgres://{USER}:{PASSWORD}@{address}/{database}")
}

fn data(directory: &TempDir) -> PathBuf {
    directory.path().join("data")
}

/// What a process has started, as far as the system tells.
fn children(of: u32) -> Vec<u32> {
    let told = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    told.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// The letter for what a process is doing, as far as the system tells.
fn state(process: u32) -> Option<char> {
    let told = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    told.rsplit_once(") ")?.1.chars().next()
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
