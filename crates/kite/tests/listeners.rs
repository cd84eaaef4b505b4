//! Administration and metrics at a listener of their own.

use anyhow::Context;
use kite_testkit::process::Process;
use kite_testkit::wait::{free_address, wait_until_ready};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(60);
const ADMIN_KEY: &str = "an admin key for two listeners";

#[tokio::test]
async fn administration_and_metrics_are_at_their_own_listener_and_nowhere_else() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let (public, admin) = (free_address()?, free_address()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.args(["serve", "--listen", &public.to_string(), "--data"]).arg(data.path());
    command.env("KITE_ADMIN_KEY", ADMIN_KEY).env("KITE_ADMIN_LISTEN", admin.to_string());
    let mut process = Process::start("kite", &mut command)?;
    for address in [public, admin] {
        let ready = wait_until_ready(&format!("http://{address}/readyz"), WITHIN).await;
        ready.with_context(|| format!("{address} is not ready; the log:\n{}", process.log()))?;
    }
    let http = Client::builder().no_proxy().timeout(WITHIN).build()?;
    let status = async |address, path: &str| -> anyhow::Result<StatusCode> {
        let request = http.get(format!("http://{address}{path}")).bearer_auth(ADMIN_KEY);
        Ok(request.send().await?.status())
    };
    for path in ["/v1/admin/relays", "/v1/admin/operator-keys", "/metrics"] {
        assert_eq!(status(public, path).await?, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(status(admin, path).await?, StatusCode::OK, "{path}");
    }
    assert_eq!(status(public, "/v1/audit/events").await?, StatusCode::FORBIDDEN);
    let tenant = http.post(format!("http://{admin}/v1/admin/tenants")).bearer_auth(ADMIN_KEY);
    tenant.json(&json!({"tenant": "acme", "name": "Acme"})).send().await?.error_for_status()?;
    let issue = http.post(format!("http://{admin}/v1/admin/tenants/acme/keys")).bearer_auth(ADMIN_KEY);
    let issued: Value =
        issue.json(&json!({"label": "shop"})).send().await?.error_for_status()?.json().await?;
    let read = http.get(format!("http://{public}/v1/sendings")).bearer_auth(issued["key"].as_str().unwrap());
    read.send().await?.error_for_status()?;
    let metrics = http.get(format!("http://{admin}/metrics")).send().await?.text().await?;
    for listener in ["public", "admin"] {
        let bound = format!("kite_http_connections_max{{listener=\"{listener}\"}}");
        assert!(metrics.contains(&bound), "{bound} is missing");
    }
    assert!(
        metrics.contains("kite_http_connections_max{listener=\"admin\"} 64"),
        "it has a bound of its own"
    );
    // The operator's command finds the listener by the configuration, and takes a key of one's own.
    let mut relays = Command::new(env!("CARGO_BIN_EXE_kite"));
    relays.args(["relays", "list", "--json"]).env("KITE_ADMIN_LISTEN", admin.to_string());
    let output = relays.env("KITE_KEY", ADMIN_KEY).output()?;
    assert_eq!(String::from_utf8(output.stdout)?.trim(), "{\"relays\":[]}");
    assert!(process.terminate(WITHIN)?.success(), "{}", process.log());
    Ok(())
}

#[tokio::test]
async fn a_listener_for_administration_that_cannot_be_had_keeps_the_process_from_starting()
-> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    command.env("KITE_ADMIN_LISTEN", taken.local_addr()?.to_string());
    let mut process = Process::start("kite", &mut command)?;
    let status = process.wait(WITHIN)?;
    let log = process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("admin_listen: cannot listen on {}", taken.local_addr()?)), "{log}");
    Ok(())
}
