//! `kite queue` on real servers: what no worker understood; and who is let in.

use anyhow::{Context, ensure};
use kite_nats::{Connection, Login, Server as Known};
use kite_testkit::certificates::Authority;
use kite_testkit::nats::{Installation, Login as Wanted, Options, Server, Tls};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A server, and a configuration that names it.
struct Place {
    server: Server,
    directory: TempDir,
}

impl Place {
    async fn start(options: Options) -> anyhow::Result<Self> {
        let server = Server::start(&Installation::from_environment()?, options).await?;
        Ok(Self { server, directory: tempfile::tempdir()? })
    }

    /// Without the login, which a configuration has elsewhere.
    fn url(&self) -> String {
        let scheme = if self.server.url().starts_with("tls://") { "tls" } else { "nats" };
        format!("{scheme}://localhost:{}", self.server.address().port())
    }

    fn configure(&self, settings: &str) -> anyhow::Result<PathBuf> {
        let text = format!("[queue]\nengine = \"nats\"\n[nats]\nservers = [\"{}\"]\n{settings}", self.url());
        let file = self.directory.path().join("kite.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }
}

fn queue(config: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    Ok(command.arg("queue").args(arguments).arg("--config").arg(config).output()?)
}

/// What it prints, if it ends well.
fn told(config: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = queue(config, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn refused(config: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = queue(config, arguments)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said)?;
    ensure!(!output.status.success(), "{arguments:?} went through: {said}");
    Ok(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_worker_understood_is_listed_shown_published_again_and_dropped() -> anyhow::Result<()> {
    let place = Place::start(Options::default()).await?;
    let config = place.configure("")?;
    ensure!(told(&config, &["list"])?.starts_with("0 in the queue, 0 that were not understood"));
    let known = Known {
        urls: vec![place.server.url()],
        login: Login::Nobody,
        tls: None,
        client_name: "test".to_owned(),
    };
    let somebody = Connection::open(&known).await?;
    for number in 1..=3 {
        let text = format!("{{\"number\":{number}}}");
        somebody
            .publish("kite.dead.alpha.otp", text.into())
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let listed = told(&config, &["list", "--limit", "2"])?;
    ensure!(listed.contains("kite.dispatch.alpha.otp") && listed.contains("… and more"), "{listed}");
    let listed: Value = serde_json::from_str(&told(&config, &["list", "--json"])?)?;
    ensure!(listed["not_understood"] == 3 && listed["items"][2]["job"]["number"] == 3, "{listed}");
    let shown: Value = serde_json::from_str(&told(&config, &["show", "2"])?)?;
    ensure!(shown["number"] == 2 && shown["job"]["number"] == 2, "{shown}");

    ensure!(told(&config, &["retry", "1"])?.contains("1: published again"));
    ensure!(told(&config, &["list"])?.starts_with("1 in the queue, 2 that were not understood"));
    ensure!(refused(&config, &["drop", "1", "2"])?.contains("1: there is no such job\n2: dropped"));
    ensure!(told(&config, &["drop", "--all"])?.contains("3: dropped"));
    ensure!(refused(&config, &["show", "3"])?.contains("there is no job 3"));
    ensure!(refused(&config, &["retry"])?.contains("required"));
    let in_process = place.directory.path().join("other.toml");
    std::fs::write(&in_process, "")?;
    ensure!(refused(&in_process, &["list"])?.contains("the work queue is inside the process"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_want_certificates_and_a_password_get_them() -> anyhow::Result<()> {
    let (servers, clients) = (Authority::new("of servers")?, Authority::new("of clients")?);
    let options = Options {
        tls: Some(Tls { server: servers.sign("localhost")?, clients: Some(clients.pem.clone()) }),
        login: Some(Wanted { user: "kite".to_owned(), password: "secret".to_owned() }),
        ..Options::default()
    };
    let place = Place::start(options).await?;
    let own = clients.sign("kite")?;
    let authorities = place.write("authorities.pem", &servers.pem)?;
    let (certificate, key) = (place.write("own.pem", &own.certificate)?, place.write("own.key", &own.key)?);
    let with_tls = format!("tls = true\nauthorities_file = \"{authorities}\"\n");
    let with_certificate = format!("{with_tls}certificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n");
    let login = "user = \"kite\"\npassword = \"secret\"\n";
    let config = place.configure(&format!("{with_certificate}{login}"))?;
    ensure!(told(&config, &["list"])?.starts_with("0 in the queue"));
    for wrong in [
        with_certificate.clone(),
        format!("{with_certificate}user = \"kite\"\npassword = \"guess\"\n"),
        format!("{with_tls}{login}"),
        format!("tls = true\n{login}"),
        login.to_owned(),
    ] {
        let config = place.configure(&wrong)?;
        let refusal = refused(&config, &["list"]).with_context(|| wrong.clone())?;
        ensure!(refusal.contains("no NATS server can be reached"), "{wrong}: {refusal}");
        ensure!(!refusal.contains("secret") && !refusal.contains("guess"), "{refusal}");
    }
    Ok(())
}
