//! A database for a test, and processes on it.

use anyhow::ensure;
use kite_testkit::operator::{self, Place};
use kite_testkit::postgres::{Database, Server};
use kite_testkit::process::Process;
use kite_testkit::proxy::Proxy;
use std::path::PathBuf;
use std::process::Command;

use super::SOON;
use crate::support::kite;

/// A database with what Kite keeps in it, and the URL of a role that may run instances, over a proxy.
pub(super) struct Ground {
    pub(super) database: Database,
    role: String,
    pub(super) proxy: Proxy,
}

impl Ground {
    pub(super) async fn make() -> anyhow::Result<Self> {
        Self::of(Database::make().await).await
    }

    /// On a server of the test's own.
    pub(super) async fn on(server: &Server) -> anyhow::Result<Self> {
        Self::of(Database::on(server).await).await
    }

    async fn of(database: Database) -> anyhow::Result<Self> {
        let role = format!("instance_{}", database.name());
        database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
        let ground = Self { proxy: Proxy::start(database.address())?, database, role };
        let migrated = ground.migrate()?;
        ensure!(migrated.contains("kite_log is as this program needs it"), "{migrated}");
        Ok(ground)
    }

    /// As the owner of the database does it.
    fn migrate(&self) -> anyhow::Result<String> {
        let mut command = Command::new(kite());
        command.args(["postgres", "migrate", "--instance", &self.role]);
        command.env("KITE_POSTGRES__URL", self.database.url()).env("KITE_POSTGRES__SSLMODE", "disable");
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        Ok(String::from_utf8(said)?)
    }

    /// What a configuration says, after the keys of its beginning.
    pub(super) fn settings(&self, roles: &str) -> String {
        self.settings_at(&self.proxy.address().to_string(), roles)
    }

    /// The same, with read models that are shared.
    pub(super) fn shared_settings(&self, roles: &str) -> String {
        self.shared_settings_at(&self.proxy.address().to_string(), roles)
    }

    /// The same, with the server at another address, or at one of several.
    pub(super) fn shared_settings_at(&self, server: &str, roles: &str) -> String {
        format!("{}[read_models]\nengine = \"postgres\"\n", self.settings_at(server, roles))
    }

    fn settings_at(&self, server: &str, roles: &str) -> String {
        let url = self.database.url_for_at(&self.role, "secret", server);
        format!(
            "roles = [{roles}]\nshutdown_s_max = 60\n[store]\nengine = \"postgres\"\n[postgres]\nurl = \"{url}\"\nsslmode = \"disable\"\n"
        )
    }
}

/// Another process on the same log.
pub(super) struct Other {
    directory: tempfile::TempDir,
    pub(super) process: Process,
}

impl Other {
    pub(super) fn start(settings: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let text = format!("data_dir = {:?}\n{settings}", directory.path().join("data"));
        std::fs::write(directory.path().join("kite.toml"), text)?;
        let process = Self::run(&directory)?;
        Ok(Self { directory, process })
    }

    pub(super) fn run(directory: &tempfile::TempDir) -> anyhow::Result<Process> {
        let mut command = Command::new(kite());
        command.args(["serve", "--config"]).arg(directory.path().join("kite.toml"));
        Process::start("another kite", &mut command)
    }

    pub(super) fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process = Self::run(&self.directory)?;
        Ok(())
    }

    /// SIGTERM, and a start on the same data.
    pub(super) fn stop_and_restart(&mut self) -> anyhow::Result<()> {
        let status = self.process.terminate(SOON)?;
        ensure!(status.success(), "SIGTERM ended with {status}; its log:\n{}", self.process.log());
        self.process = Self::run(&self.directory)?;
        Ok(())
    }

    /// Starts it again if it could not start while its connection was cut, as whoever supervises it does.
    pub(super) fn revive(&mut self) -> anyhow::Result<()> {
        if !self.process.is_running()? {
            self.process = Self::run(&self.directory)?;
        }
        Ok(())
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("kite.toml")
    }

    /// SIGTERM, and its read models are as the log says.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        let status = self.process.terminate(SOON)?;
        ensure!(status.success(), "SIGTERM ended with {status}; its log:\n{}", self.process.log());
        let differs = operator::replay_differs(kite(), &Place::Config(self.config()))?;
        ensure!(differs.is_none(), "{}", differs.unwrap_or_default());
        Ok(())
    }
}
