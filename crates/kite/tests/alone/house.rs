//! A Kite process without relays, and what an operator sees of it.

use anyhow::ensure;
use kite_testkit::process::Process;
use kite_testkit::wait::{free_address, wait_for};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "an admin key for a test of one process";

/// A running process.
pub(super) struct Kite {
    process: Process,
    http: Client,
    url: String,
}

impl Kite {
    /// Starts it on this directory, with these variables of the environment.
    pub(super) fn start(data: &Path, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_kite")), data, variables)
    }

    /// Starts it where everybody may read what is written, unless the process itself sees to it.
    pub(super) fn start_where_files_are_open_to_all(data: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_kite")]);
        Self::start_as(command, data, &[])
    }

    fn start_as(mut command: Command, data: &Path, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let address = free_address()?;
        command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(data);
        command.env("KITE_ADMIN_KEY", ADMIN_KEY).envs(variables.iter().copied());
        let process = Process::start("kite", &mut command)?;
        let http = Client::builder().no_proxy().timeout(WITHIN).build()?;
        Ok(Self { process, http, url: format!("http://{address}") })
    }

    /// The operator asks, as soon as the process answers.
    pub(super) async fn admin(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(ADMIN_KEY);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = wait_for(path, WITHIN, async || request.try_clone()?.send().await.ok()).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Creates a tenant, as soon as the process answers.
    pub(super) async fn create_tenant(&self, name: &str) -> anyhow::Result<()> {
        let body = json!({ "tenant": name, "name": name });
        self.admin(Method::POST, "/v1/admin/tenants", Some(&body)).await.map(drop)
    }

    /// Waits until `/readyz` answers so, and a check says so.
    pub(super) async fn wait_for_ready(
        &self,
        status: StatusCode,
        check: &str,
        words: &str,
    ) -> anyhow::Result<()> {
        let what = format!("{status} and {words:?} in the check {check}; the log:\n{}", self.log());
        wait_for(&what, WITHIN, async || {
            let request = self.http.get(format!("{}/readyz", self.url)).bearer_auth(ADMIN_KEY);
            let answer = request.send().await.ok()?;
            let found = answer.status();
            let ready: Value = answer.json().await.ok()?;
            let checks = ready["checks"].as_array()?;
            let is_it = |one: &&Value| {
                one["name"] == check && one["detail"].as_str().is_some_and(|detail| detail.contains(words))
            };
            checks.iter().find(is_it).filter(|_| found == status).map(|_| ())
        })
        .await
    }

    /// What `/metrics` says.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        let request = self.http.get(format!("{}/metrics", self.url)).bearer_auth(ADMIN_KEY);
        Ok(request.send().await?.error_for_status()?.text().await?)
    }

    /// What it has printed.
    pub(super) fn log(&self) -> String {
        self.process.log()
    }

    /// SIGTERM; it has exited with 0.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        let status = self.process.terminate(WITHIN)?;
        ensure!(status.success(), "it ended with {status}:\n{}", self.process.log());
        Ok(())
    }
}

/// An operator's command on this directory.
pub(super) fn kite(data: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_kite")).args(arguments).arg("--data").arg(data).output()?)
}
