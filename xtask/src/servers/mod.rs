//! The real servers that tests talk to. For now: a mail server.

mod certificates;
mod python;
mod smtp;

use std::process::Command;

use smtp::SmtpServer;

/// Everything that runs while the tests do.
pub(crate) struct Servers {
    smtp: SmtpServer,
}

impl Servers {
    /// Installs what is missing and starts all.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Ok(Self { smtp: SmtpServer::start()? })
    }

    /// Tells the tests where the servers are.
    pub(crate) fn tell(&self, tests: &mut Command) {
        self.smtp.tell(tests);
    }

    /// Stops all. One that has ended by itself meanwhile is an error.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.smtp.stop()
    }
}
