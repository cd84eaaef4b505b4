//! The real servers that tests talk to, and the tools that drive ours: a mail server, PostgreSQL,
//! NATS, and Schemathesis.

mod certificates;
mod nats;
mod postgres;
mod python;
mod smtp;

use std::process::Command;

use kite_testkit::process::output;

pub(crate) use nats::Nats;
pub(crate) use postgres::PostgresServer;
use python::Python;
use smtp::SmtpServer;

/// Installs a package of Debian. It needs root.
fn apt_install(package: &str) -> anyhow::Result<()> {
    let apt = |arguments: &[&str]| {
        output(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = ["install", "--yes", "--no-install-recommends", package];
    if apt(&install).is_err() {
        apt(&["update"])?;
        apt(&install)?;
    }
    Ok(())
}

/// Everything that runs, or has to be there, while the tests run.
pub(crate) struct Servers {
    smtp: SmtpServer,
    postgres: PostgresServer,
    nats: Nats,
    schemathesis: Schemathesis,
}

impl Servers {
    /// Installs what is missing and starts all.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Ok(Self {
            schemathesis: Schemathesis::install()?,
            nats: Nats::install()?,
            postgres: PostgresServer::start()?,
            smtp: SmtpServer::start()?,
        })
    }

    /// Tells the tests where the servers are.
    pub(crate) fn tell(&self, tests: &mut Command) {
        self.smtp.tell(tests);
        self.postgres.tell(tests);
        self.nats.tell(tests);
        self.schemathesis.tell(tests);
    }

    /// Stops all. One that has ended by itself meanwhile is an error.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.postgres.stop()?;
        self.smtp.stop()
    }
}

/// What drives the API through its OpenAPI document.
pub(crate) struct Schemathesis {
    python: Python,
}

impl Schemathesis {
    /// Installs it, unless it is there.
    pub(crate) fn install() -> anyhow::Result<Self> {
        Ok(Self { python: Python::with_requirements("infra/schemathesis/requirements.txt")? })
    }

    /// Sets the variables that `crates/kite/tests/openapi.rs` reads.
    pub(crate) fn tell(&self, tests: &mut Command) {
        self.python.tell(tests, "TEST_SCHEMATHESIS_PYTHON", "TEST_SCHEMATHESIS_PACKAGES");
    }
}
