//! The PostgreSQL server that tests share. Its programs are those of the system; on Debian, as root, they are installed.

use std::process::Command;

use anyhow::{Context, bail};
use kite_testkit::postgres::{Installation, Server};

use super::python::output;
use crate::paths::target;

/// A running server.
pub(crate) struct PostgresServer {
    installation: Installation,
    server: Server,
}

impl PostgresServer {
    /// Installs it unless it is there, and starts one with its data under `target/servers/`.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let data = target().join("servers").join("postgres");
        let installation = match Installation::find(&data)? {
            Some(found) => found,
            None => {
                install()?;
                Installation::find(&data)?.context("installed, but PostgreSQL 15 or newer is not found")?
            }
        };
        let server = Server::start(&installation, &[])?;
        Ok(Self { installation, server })
    }

    /// Where it is, without a database.
    pub(crate) fn url(&self) -> String {
        self.server.url("")
    }

    /// Sets the variables that `kite_testkit::postgres` reads.
    pub(crate) fn tell(&self, tests: &mut Command) {
        let (name, url) = self.server.environment();
        tests.env(name, url).envs(self.installation.environment());
    }

    /// Stops it. One that has ended by itself is an error.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.server.stop()
    }
}

/// Debian's package. It needs root; whoever is not root is told what to do.
fn install() -> anyhow::Result<()> {
    eprintln!("installing postgresql");
    let apt = |arguments: &[&str]| {
        output(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = ["install", "--yes", "--no-install-recommends", "postgresql"];
    if apt(&install).is_ok() {
        return Ok(());
    }
    if let Err(error) = apt(&["update"]).and_then(|_| apt(&install)) {
        bail!(
            "tests need PostgreSQL 15 or newer, and it cannot be installed: {error:#}\n\
             Debian: apt-get install postgresql. Elsewhere: put the directory of its programs on PATH."
        );
    }
    Ok(())
}
