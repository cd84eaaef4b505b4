//! A Kite process that dies, stands still and comes back on the same data.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};
use kite_testkit::night::Night;
use kite_testkit::process::Process;
use kite_testkit::wait::free_address;

use crate::load::measure::{cpu_seconds, resident_bytes};

pub(super) const ADMIN_KEY: &str = "the-admin-key-of-the-soak";
/// How long a process may take to start or to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Some caches are set small so that they are full within a minute; the others have fixed sizes and fill while the memory
/// is not looked at yet. A breaker comes back within the run.
const SETTINGS: [(&str, &str); 7] = [
    ("KITE_LOTS_IN_MEMORY_MESSAGES_MAX", "10000"),
    ("KITE_STORE__RECENT_BYTES_MAX", "4194304"),
    ("KITE_STORE__STREAMS_IN_MEMORY_MAX", "10000"),
    ("KITE_RELAYS__TEXTS_MAX", "500"),
    ("KITE_RELAYS__NIGHT_SPREAD_S", "15"),
    ("KITE_RELAYS__BREAKER__BACK_OFF_FIRST_MS", "2000"),
    ("KITE_RELAYS__BREAKER__BACK_OFF_MAX_MS", "10000"),
];
/// What a process says that ends because it does not find at its start what others run.
const CANNOT_BEGIN: [&str; 4] = [
    "kite: cannot open the log in PostgreSQL",
    "kite: cannot use the leases",
    "kite: cannot use the read models in PostgreSQL",
    "kite: cannot use the work queue on NATS",
];

/// What a process is to be.
pub(super) struct Seat {
    pub(super) name: String,
    /// Its role; none: all of them.
    pub(super) role: Option<&'static str>,
    /// Where it finds what is not in its data directory, as its configuration says it.
    pub(super) settings: String,
}

impl Seat {
    fn has_api(&self) -> bool {
        self.role.is_none_or(|role| role == "api")
    }

    /// The configuration of a process with this data directory.
    pub(super) fn configuration(&self, data: &Path, address: Option<SocketAddr>) -> String {
        let listen = address.map(|address| format!("listen = \"{address}\"\n"));
        let roles = self.role.map(|role| format!("roles = [\"{role}\"]\n"));
        let [listen, roles] = [listen, roles].map(Option::unwrap_or_default);
        format!("data_dir = {data:?}\n{listen}{roles}{}", self.settings)
    }
}

/// One Kite process.
pub(super) struct Node {
    pub(super) name: String,
    /// Where its configuration and its data are.
    directory: PathBuf,
    binary: PathBuf,
    /// Of its API, if it has one.
    pub(super) address: Option<SocketAddr>,
    night: Night,
    /// None: it does not run.
    kite: Option<Process>,
    stands_still: bool,
    cpu_seconds_before: f64,
}

impl Node {
    /// Writes down what it is to be. It does not run yet.
    pub(super) fn new(seat: &Seat, directory: &Path, binary: &Path, night: Night) -> anyhow::Result<Self> {
        let directory = directory.join("processes").join(&seat.name);
        fs::create_dir_all(&directory)?;
        let address = if seat.has_api() { Some(free_address()?) } else { None };
        let node = Self {
            name: seat.name.clone(),
            directory,
            binary: binary.to_owned(),
            address,
            night,
            kite: None,
            stands_still: false,
            cpu_seconds_before: 0.0,
        };
        fs::write(node.configuration(), seat.configuration(&node.data(), address))?;
        Ok(node)
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.directory.join("kite.toml")
    }

    /// Where it keeps what is its own.
    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(super) fn url(&self) -> Option<String> {
        self.address.map(|address| format!("http://{address}"))
    }

    /// Starts it. It may not answer yet.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.kite.is_none(), "{} runs already", self.name);
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--config"]).arg(self.configuration());
        command.env("KITE_ADMIN_KEY", ADMIN_KEY).envs(SETTINGS);
        command.env("KITE_RELAYS__NIGHT", self.night.setting());
        self.kite = Some(Process::start(&self.name, &mut command)?);
        Ok(())
    }

    /// Its process, if there is one.
    pub(super) fn process(&self) -> Option<u32> {
        self.kite.as_ref().map(Process::id)
    }

    pub(super) fn runs(&self) -> bool {
        self.kite.is_some()
    }

    /// That it has not ended by itself. Whether it had to be started again, because it did not find what it needs when it
    /// began: whoever supervises it does that.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<bool> {
        let Some(kite) = &mut self.kite else { return Ok(false) };
        if kite.is_running()? {
            return Ok(false);
        }
        // Its last lines may not have been read yet.
        kite.wait(PATIENCE)?;
        let printed = kite.log();
        ensure!(could_not_begin(&printed), "{} has ended by itself\n{printed}", self.name);
        self.is_gone()?;
        self.start()?;
        Ok(true)
    }

    pub(super) fn pause(&mut self) -> anyhow::Result<()> {
        let Some(kite) = &mut self.kite else { bail!("{} does not run", self.name) };
        kite.pause()?;
        self.stands_still = true;
        Ok(())
    }

    /// Lets it run on, or starts it.
    pub(super) fn bring_back(&mut self) -> anyhow::Result<()> {
        match &mut self.kite {
            Some(kite) if self.stands_still => kite.resume()?,
            Some(_) => {}
            None => self.start()?,
        }
        self.stands_still = false;
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.cpu_seconds_before = self.cpu_seconds()?;
        if let Some(kite) = &mut self.kite {
            kite.kill()?;
        }
        self.is_gone()
    }

    /// SIGTERM: it has to drain and to end well, if it has begun.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.cpu_seconds_before = self.cpu_seconds()?;
        let Some(kite) = &mut self.kite else { return Ok(()) };
        if !kite.is_running()? {
            kite.wait(PATIENCE)?;
            ensure!(could_not_begin(&kite.log()), "{} has ended by itself\n{}", self.name, kite.log());
            return self.is_gone();
        }
        let status = kite.terminate(PATIENCE)?;
        // One that has not come so far as to listen to signals ends by them.
        let has_begun = !kite.printed().is_empty() && !could_not_begin(&kite.log());
        if !status.success() && has_begun {
            bail!("{} ended with {status} after SIGTERM\n{}", self.name, kite.log());
        }
        self.is_gone()
    }

    /// Keeps what it printed beside its data.
    fn is_gone(&mut self) -> anyhow::Result<()> {
        self.stands_still = false;
        let Some(kite) = self.kite.take() else { return Ok(()) };
        let mut file = OpenOptions::new().create(true).append(true).open(self.directory.join("printed"))?;
        file.write_all(kite.printed().as_bytes())?;
        Ok(())
    }

    /// CPU time that it has used in all its lives.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let now = self.process().map_or(Ok(0.0), cpu_seconds)?;
        Ok(self.cpu_seconds_before + now)
    }

    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.process().map_or(Ok(0), resident_bytes)
    }

    /// What it printed last.
    pub(super) fn log(&self) -> String {
        self.kite.as_ref().map(Process::log).unwrap_or_default()
    }
}

fn could_not_begin(printed: &str) -> bool {
    CANNOT_BEGIN.iter().any(|what| printed.contains(what))
}

impl Drop for Node {
    fn drop(&mut self) {
        // A run that fails keeps what was printed last, if it is kept.
        let _ = self.is_gone();
    }
}
