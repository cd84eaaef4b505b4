//! The PostgreSQL server that tests share. Its programs are those of the system; on Debian, as root, they are installed.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;
use kite_testkit::postgres::{Installation, Server};

use super::apt_install;
use crate::paths::target;

/// A running server.
pub(crate) struct PostgresServer {
    installation: Installation,
    server: Server,
}

impl PostgresServer {
    /// Installs it unless it is there, and starts one with its data under `target/servers/`.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with more settings (`name=value`).
    pub(crate) fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        let data = target().join("servers").join("postgres");
        let installation = match Installation::find(&data)? {
            Some(found) => found,
            None => {
                eprintln!("installing postgresql");
                apt_install("postgresql").context(
                    "tests need PostgreSQL 15 or newer, and it cannot be installed. Debian: apt-get install postgresql. \
                     Elsewhere: put the directory of its programs on PATH.",
                )?;
                Installation::find(&data)?.context("installed, but PostgreSQL 15 or newer is not found")?
            }
        };
        let server = Server::start(&installation, settings)?;
        Ok(Self { installation, server })
    }

    /// Where it is, without a database.
    pub(crate) fn url(&self) -> String {
        self.server.url("")
    }

    /// The process that all others of it come from.
    pub(crate) fn process(&self) -> u32 {
        self.server.process()
    }

    /// Sets the variables that `kite_testkit::postgres` reads.
    pub(crate) fn tell(&self, tests: &mut Command) {
        let (name, url) = self.server.environment();
        tests.env(name, url).envs(self.installation.environment());
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Kills it at once, as a machine that loses its power, and starts it again on the same data.
    pub(crate) fn kill_and_start_again(&mut self) -> anyhow::Result<()> {
        self.server.kill()?;
        self.server.start_again()
    }

    /// The server itself, for more that may be done with it.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Stops it. One that has ended by itself is an error.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.server.stop()
    }
}
