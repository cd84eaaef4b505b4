//! The real binary with a certificate: over HTTPS, with a new certificate while it runs, and what an operator sees of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use kite_testkit::certificates::{Authority, Made};
use kite_testkit::process::Process;
use kite_testkit::wait::{free_address, wait_for};
use reqwest::{Certificate, Client, Version};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "an admin key for a test of certificates";

/// A directory with a configuration and the files that it names.
struct Installation {
    directory: TempDir,
    address: SocketAddr,
    authority: Authority,
}

impl Installation {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address().unwrap();
        let installed = Self { directory, address, authority: Authority::new("Authority").unwrap() };
        let config = format!(
            "data_dir = {:?}\nlisten = \"{address}\"\n[tls]\ncertificate_file = {:?}\nkey_file = {:?}\n",
            installed.at("data"),
            installed.at("chain.pem"),
            installed.at("key.pem"),
        );
        std::fs::write(installed.at("kite.toml"), config).unwrap();
        installed
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sign(&self, name: &str, until: i32) -> Made {
        self.authority.sign_until("localhost", name, until).unwrap()
    }

    fn put(&self, made: &Made) {
        std::fs::write(self.at("chain.pem"), &made.certificate).unwrap();
        std::fs::write(self.at("key.pem"), &made.key).unwrap();
    }

    fn kite(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
        command.args(arguments).arg("--config").arg(self.at("kite.toml")).env("KITE_ADMIN_KEY", ADMIN_KEY);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.kite(arguments).output().unwrap()
    }

    fn client(&self) -> Client {
        let authority = Certificate::from_pem(self.authority.pem.as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([authority]).timeout(WITHIN).build().unwrap()
    }

    /// Waits until the check `certificate` of `/readyz` says this. Every time over a new connection.
    async fn wait_for_certificate(&self, process: &Process, words: &str) {
        let url = format!("https://localhost:{}/readyz", self.address.port());
        let mut last = String::new();
        let found = wait_for(words, WITHIN, async || {
            let answer = match self.client().get(&url).bearer_auth(ADMIN_KEY).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    last = format!("{error:?}");
                    return None;
                }
            };
            assert_eq!(answer.version(), Version::HTTP_2);
            let ready: Value = answer.json().await.ok()?;
            let checks = ready["checks"].as_array()?;
            let check = checks.iter().find(|one| one["name"] == "certificate")?;
            assert_eq!(check["is_ready"], true, "{check}");
            last = check["detail"].to_string();
            last.contains(words).then_some(())
        });
        found.await.unwrap_or_else(|error| panic!("{error:#}; {last}; its log:\n{}", process.log()));
    }
}

#[tokio::test]
async fn a_certificate_makes_it_speak_https_and_a_new_one_is_taken_in_while_it_runs() {
    let house = Installation::new();
    house.put(&house.sign("first", 2090));
    assert!(house.run(&["config", "check"]).status.success());
    let mut process = Process::start("kite", &mut house.kite(&["serve"])).unwrap();
    house.wait_for_certificate(&process, "CN=first holds until 2090-01-01").await;
    // It answers a moment before it says so.
    let url = format!("https://{}", house.address);
    let told =
        wait_for("its address in its log", WITHIN, async || process.log().contains(&url).then_some(()));
    told.await.unwrap_or_else(|error| panic!("{error:#}; its log:\n{}", process.log()));

    // The operator's commands find it, although it is called by its address and the authority is unknown to the system.
    let listed = house.run(&["relays", "list", "--json"]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), r#"{"relays":[]}"#);

    house.put(&house.sign("second", 2091));
    house.wait_for_certificate(&process, "CN=second holds until 2091-01-01").await;

    std::fs::write(house.at("key.pem"), "no key").unwrap();
    house.wait_for_certificate(&process, "CN=second holds until 2091-01-01").await;
    house.wait_for_certificate(&process, "a new one is not taken: tls.key_file: ").await;
    let metrics = house
        .client()
        .get(format!("https://localhost:{}/metrics", house.address.port()))
        .bearer_auth(ADMIN_KEY)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("kite_tls_certificate_refused 1"), "{metrics}");
    assert!(metrics.contains("kite_tls_certificate_ends_in_seconds "), "{metrics}");

    let told = Client::builder().no_proxy().build().unwrap().get(format!("http://{}/readyz", house.address));
    let told = told.send().await.unwrap();
    assert_eq!(told.status(), 400);
    assert_eq!(told.json::<Value>().await.unwrap()["code"], "https-expected");
    assert!(process.terminate(WITHIN).unwrap().success(), "{}", process.log());
}

#[test]
fn files_that_cannot_be_used_are_named_before_and_at_the_start() {
    let house = Installation::new();
    let refusal = |arguments: &[&str]| {
        let output = house.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for command in [&["config", "check"] as &[&str], &["serve"]] {
        let told = refusal(command);
        assert!(told.contains("tls.certificate_file: cannot read ") && told.contains("chain.pem"), "{told}");
    }
    house.put(&house.sign("first", 2090));
    std::fs::write(house.at("key.pem"), house.sign("other", 2090).key).unwrap();
    for command in [&["config", "check"] as &[&str], &["serve"]] {
        let told = refusal(command);
        assert!(
            told.contains("tls.key_file: ") && told.contains("is not the key of the certificate"),
            "{told}"
        );
    }
    house.put(&house.sign("ended", 2021));
    let told = refusal(&["config", "check"]);
    assert!(told.contains("CN=ended ended at 2021-01-01"), "{told}");
}

#[tokio::test]
async fn a_certificate_that_has_ended_does_not_keep_it_from_starting_and_is_told_of() {
    let house = Installation::new();
    house.put(&house.sign("ended", 2021));
    let mut process = Process::start("kite", &mut house.kite(&["serve"])).unwrap();
    let url = format!("https://localhost:{}/readyz", house.address.port());
    let careless = Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
    let ready = wait_for("an answer", WITHIN, async || {
        let request = careless.get(&url).bearer_auth(ADMIN_KEY);
        request.send().await.ok()?.error_for_status().ok()?.text().await.ok()
    });
    let ready = ready.await.unwrap_or_else(|error| panic!("{error:#}; its log:\n{}", process.log()));
    assert!(ready.contains("CN=ended ended at 2021-01-01"), "{ready}");
    wait_for("a line of the log", WITHIN, async || process.log().contains("CN=ended ended at").then_some(()))
        .await
        .unwrap();
    assert!(process.terminate(WITHIN).unwrap().success(), "{}", process.log());
}
