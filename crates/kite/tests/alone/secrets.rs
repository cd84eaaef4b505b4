//! The real binary, and the credentials of relays in its files.

use super::house::{Kite, kite};
use anyhow::{Context, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const KEY: &str = "a-key-that-opens-an-account";

/// A line for the file of keys, by the operator's command.
fn key(id: &str) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_kite")).args(["secrets", "key", "--id", id]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether these words are in any file of the directory.
fn holds(data: &Path, words: &str) -> anyhow::Result<bool> {
    for entry in std::fs::read_dir(data)? {
        let bytes = std::fs::read(entry?.path())?;
        if bytes.windows(words.len()).any(|window| window == words.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn define(process: &Kite, relay: &str, key: Option<&str>) -> anyhow::Result<Value> {
    let mut body = json!({
        "name": relay, "endpoint": {"protocol": "http", "base_url": "http://127.0.0.1:9"},
        "channels": {"sms": {"price_milliwon": 8000, "receipt_deadline_seconds": 90000}}, "reaches": ["korean_mobile"],
        "receipts": "pull", "codes": "solapi"
    });
    if let Some(key) = key {
        body["credentials"] = json!({ "api_key": key });
    }
    process.admin(Method::PUT, &format!("/v1/admin/relays/{relay}"), Some(&body)).await
}

#[tokio::test]
async fn with_a_key_no_credential_lies_in_the_files_and_a_new_key_takes_over() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let keys = directory.path().join("keys");
    let keys_file = keys.display().to_string();
    let variables = [("KITE_SECRETS_KEYS_FILE", keys_file.as_str())];
    let first = key("first")?;
    std::fs::write(&keys, &first)?;
    let process = Kite::start(&data, &variables)?;
    process.wait_for_ready(StatusCode::OK, "secrets", "credentials are encrypted").await?;
    let shown = define(&process, "alpha", Some(KEY)).await?;
    ensure!(shown["credentials_set"] == json!(["api_key"]), "{shown}");
    let shown = define(&process, "alpha", None).await?;
    ensure!(shown["credentials_set"] == json!(["api_key"]), "what is left out stays: {shown}");
    process.wait_for_ready(StatusCode::OK, "secrets", "credentials are encrypted").await?;
    ensure!(!process.log().contains(KEY));
    process.stop()?;
    ensure!(!holds(&data, KEY)? && holds(&data, "encrypted:1:first:")?);

    // The second key first, the other behind it.
    std::fs::write(&keys, format!("{}{first}", key("second")?))?;
    let process = Kite::start(&data, &variables)?;
    process.wait_for_ready(StatusCode::OK, "secrets", "an older key (kite secrets rotate): alpha").await?;
    let rotated = process.admin(Method::POST, "/v1/admin/secrets/rotate", None).await?;
    ensure!(rotated["relays"] == json!(["alpha"]), "{rotated}");
    let again = process.admin(Method::POST, "/v1/admin/secrets/rotate", None).await?;
    ensure!(again["relays"] == json!([]), "{again}");
    process.wait_for_ready(StatusCode::OK, "secrets", "credentials are encrypted").await?;
    process.stop()?;
    ensure!(holds(&data, "encrypted:1:second:")?);

    // Without its key a relay stays closed, and it is said which key is missing.
    std::fs::write(&keys, key("third")?)?;
    let process = Kite::start(&data, &variables)?;
    let words = "alpha: credentials.api_key is encrypted with the key \"second\"";
    process.wait_for_ready(StatusCode::OK, "secrets", words).await?;
    define(&process, "beta", Some(KEY)).await?;
    process.stop()?;

    // A lost key keeps no other from being exchanged, nor does another key under its id pass for it.
    std::fs::write(&keys, format!("{}{}", key("fourth")?, std::fs::read_to_string(&keys)?))?;
    let config = directory.path().join("kite.toml");
    std::fs::write(&config, format!("secrets_keys_file = {keys:?}\n"))?;
    let rotate = || kite(&data, &["secrets", "rotate", "--config", config.to_str().context("a path")?]);
    let rotated = rotate()?;
    let [out, err] = [rotated.stdout, rotated.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(!rotated.status.success() && out.contains("encrypted with the newest key: beta"), "{out}{err}");
    ensure!(
        err.contains("left as it was: alpha: credentials.api_key is encrypted with the key \"second\""),
        "{err}"
    );
    std::fs::write(&keys, key("fourth")?)?;
    let rotated = rotate()?;
    let err = String::from_utf8_lossy(&rotated.stderr).into_owned();
    ensure!(
        !rotated.status.success() && err.contains("beta: credentials.api_key cannot be decrypted"),
        "{err}"
    );

    std::fs::write(&keys, "# none\n")?;
    let refused = rotate()?;
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && err.contains("holds no key"), "{err}");
    Ok(())
}

#[tokio::test]
async fn what_lay_in_the_clear_is_said_and_encrypted_from_then_on() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let process = Kite::start(&data, &[])?;
    process.wait_for_ready(StatusCode::OK, "secrets", "there is no key to encrypt credentials with").await?;
    define(&process, "alpha", Some(KEY)).await?;
    process.wait_for_ready(StatusCode::OK, "secrets", "in the clear: alpha").await?;
    process.stop()?;

    let rotated = kite(&data, &["secrets", "rotate"])?;
    let words = String::from_utf8_lossy(&rotated.stderr).into_owned();
    ensure!(!rotated.status.success() && words.contains("no key to encrypt"), "{words}");
    let config = directory.path().join("kite.toml");
    std::fs::write(&config, format!("secrets_keys = \"\"\"\n{}\"\"\"\n", key("k1")?))?;
    let config = config.to_str().context("a path")?;
    let rotated = kite(&data, &["secrets", "rotate", "--config", config])?;
    let words = String::from_utf8_lossy(&rotated.stdout).into_owned();
    ensure!(rotated.status.success() && words.contains("encrypted with the newest key: alpha"), "{words}");
    let audit = kite(&data, &["audit", "--stream", "relay-alpha"])?;
    ensure!(!String::from_utf8_lossy(&audit.stdout).contains(KEY), "the audit shows a credential");
    Ok(())
}
