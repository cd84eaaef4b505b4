//! The mail server of `infra/test-servers/smtp_server.py`.

use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use kite_testkit::process::Process;
use serde::Deserialize;
use tempfile::TempDir;

use super::certificates::Certificates;
use super::python::Python;
use crate::paths::root;

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running mail server.
pub(crate) struct SmtpServer {
    process: Process,
    addresses: Addresses,
    certificates: Certificates,
    /// What it has taken is in here, one file per message.
    mail: TempDir,
    /// The certificates are in here.
    _keys: TempDir,
}

#[derive(Deserialize)]
struct Addresses {
    plain: String,
    starttls: String,
}

impl SmtpServer {
    /// Installs what it needs, starts it on free ports and waits until it listens.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let python = Python::with_requirements("infra/test-servers/requirements.txt")?;
        let (mail, keys) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let certificates = Certificates::make(keys.path()).context("no certificate for the mail server")?;
        let mut command = python.command();
        command.arg(root().join("infra/test-servers/smtp_server.py"));
        command.args([mail.path(), &certificates.certificate, &certificates.key]);
        let process = Process::start("mail server", &mut command)?;
        let addresses =
            process.wait_for_line("its addresses", PATIENCE, |line| serde_json::from_str(line).ok())?;
        Ok(Self { process, addresses, certificates, mail, _keys: keys })
    }

    /// Sets the variables that `crates/relay/tests/smtp_real_server.rs` reads. Their names must not begin with `KITE_`:
    /// those are configuration.
    pub(crate) fn tell(&self, tests: &mut Command) {
        tests.env("TEST_SMTP", &self.addresses.plain);
        tests.env("TEST_SMTP_TLS", &self.addresses.starttls);
        tests.env("TEST_SMTP_MAIL", self.mail.path());
        tests.env("SSL_CERT_FILE", &self.certificates.trusted);
    }

    /// Stops it.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.process.terminate(PATIENCE)?;
        Ok(())
    }
}
