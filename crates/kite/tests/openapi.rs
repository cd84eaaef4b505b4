//! The real binary, driven by Schemathesis through everything that docs/openapi.json says of it: no defect, no answer that is
//! not in the document, nothing refused that it allows, nothing taken that it forbids.
//!
//! `cargo xtask test` installs Schemathesis and says where it is. Without it this test fails: it is never skipped.
//! `cargo xtask schemathesis` runs the same for longer.

use anyhow::{Context, ensure};
use kite_testkit::process::Process;
use kite_testkit::senders::{approval, approval_path};
use kite_testkit::wait::{free_address, wait_until_ready};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ADMIN_KEY: &str = "the-admin-key-of-the-openapi-test";
const RECEIPT_SECRET: &str = "whsec_b3BlbmFwaS10ZXN0LXJlY2VpcHQtc2VjcmV0ISE=";
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Requests made for each operation and kind of data, unless `TEST_SCHEMATHESIS_EXAMPLES` says otherwise.
const EXAMPLES: &str = "5";

/// A variable that `cargo xtask test` sets.
fn from_xtask(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`, which installs Schemathesis"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[tokio::test]
async fn the_api_is_what_its_document_says() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let address = free_address()?;
    let mut kite = start(data.path(), address)?;
    wait_until_ready(&format!("http://{address}/readyz"), READY_WITHIN).await.with_context(|| kite.log())?;
    let tenant_key = set_up(address).await?;

    let output = schemathesis(address, &tenant_key, data.path()).output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    ensure!(
        output.status.success(),
        "the API and its document differ; see above\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(report.contains("Selected: ") && !report.contains("Tested: 0"), "nothing was tested");
    let status = kite.terminate(READY_WITHIN)?;
    ensure!(status.success(), "Kite ended with {status}\n{}", kite.log());
    Ok(())
}

fn start(data: &Path, address: SocketAddr) -> anyhow::Result<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.arg("serve").arg("--data").arg(data.join("kite")).arg("--listen").arg(address.to_string());
    command.env("KITE_ADMIN_KEY", ADMIN_KEY).env("KITE_LOG", "warn");
    // Wrong keys on purpose, and each is to be told so.
    command.env("KITE_SERVER__WRONG_KEYS_PER_ADDRESS_MAX", u32::MAX.to_string());
    Process::start("kite", &mut command)
}

/// Two relays that nobody can reach, and a tenant who may send through them: what is asked of the API is the same.
async fn set_up(address: SocketAddr) -> anyhow::Result<String> {
    let admin = Caller { address, key: ADMIN_KEY.to_owned() };
    for relay in ["alpha", "beta"] {
        let body = json!({
            "name": relay, "endpoint": {"protocol": "http", "base_url": "http://127.0.0.1:9"},
            "channels": {"sms": {"price_milliwon": 9_000}, "lms": {"price_milliwon": 25_000}, "email": {"price_milliwon": 500}},
            "batch_max": 100, "receipts": "push", "codes": "solapi", "deduplicates": true, "answers_status": true,
            "credentials": {"api_key": "relay-key", "receipt_secret": RECEIPT_SECRET},
        });
        admin.write(Method::PUT, &format!("/v1/admin/relays/{relay}"), &body).await?;
    }
    admin.write(Method::POST, "/v1/admin/tenants", &json!({"tenant": "acme", "name": "Acme"})).await?;
    let issued = admin.write(Method::POST, "/v1/admin/tenants/acme/keys", &json!({"label": "test"})).await?;
    let key = issued["key"].as_str().context("a key")?.to_owned();
    let tenant = Caller { address, key: key.clone() };
    let sender = json!({
        "address": "02-1234-5678", "brand": "카이트", "refusal_number": "080-123-4567", "relays": ["alpha", "beta"],
    });
    tenant.write(Method::POST, "/v1/senders", &sender).await?;
    let approved = approval(&["alpha", "beta"]);
    admin.write(Method::POST, &approval_path("acme", "0212345678"), &approved).await?;
    let weights = json!([{"relay": "alpha", "weight": 7_000}, {"relay": "beta", "weight": 3_000}]);
    tenant.write(Method::PUT, "/v1/policies/sms", &json!({"objective": "ratio", "weights": weights})).await?;
    Ok(key)
}

struct Caller {
    address: SocketAddr,
    key: String,
}

impl Caller {
    async fn write(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = Client::new().request(method, format!("http://{}{path}", self.address));
        let response = request.bearer_auth(&self.key).json(body).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

/// The same requests every time: nothing is drawn at random, and nothing is kept from run to run.
fn schemathesis(address: SocketAddr, tenant_key: &str, scratch: &Path) -> Command {
    let given = root().join("infra/schemathesis");
    let packages = std::env::var("TEST_SCHEMATHESIS_PACKAGES").unwrap_or_default();
    let examples = std::env::var("TEST_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let mut command = Command::new(from_xtask("TEST_SCHEMATHESIS_PYTHON"));
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(given.join("schemathesis.toml"));
    command.arg("run").arg(root().join("docs/openapi.json"));
    command.args(["--url", &format!("http://{address}"), "--max-examples", &examples]);
    command.args(["--generation-deterministic", "--workers", "1", "--continue-on-failure", "--no-color"]);
    command.current_dir(scratch);
    command.env(
        "PYTHONPATH",
        std::env::join_paths([given, packages.into()]).expect("no colon in a path of ours"),
    );
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("SCHEMATHESIS_HOOKS", "hooks");
    command.env("OPENAPI_ADMIN_KEY", ADMIN_KEY).env("OPENAPI_TENANT_KEY", tenant_key);
    command.env("OPENAPI_RECEIPT_SECRET", RECEIPT_SECRET);
    command
}
