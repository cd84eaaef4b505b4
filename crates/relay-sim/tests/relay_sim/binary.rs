//! The binary: says where it listens, and ends well.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

#[test]
fn it_prints_its_addresses_and_ends_with_0_on_sigterm() {
    let relay = json!({ "id": "alpha", "api_key": "k", "channels": ["sms"] });
    let mail = json!({ "id": "mail", "kind": "smtp", "api_key": "", "channels": ["email"], "smtp_listen": "127.0.0.1:0" });
    let scenario = json!({ "seed": 1, "listen": "127.0.0.1:1", "relays": [relay, mail] });
    let path = std::env::temp_dir().join(format!("relay-sim-{}.json", std::process::id()));
    std::fs::write(&path, scenario.to_string()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_relay-sim"))
        .args(["--listen", "127.0.0.1:0", "--scenario"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addresses: Value = serde_json::from_str(&line).unwrap();
    assert!(addresses["relays"]["alpha"].as_str().unwrap().ends_with("/relays/alpha"), "{line}");
    assert!(addresses["relays"]["mail"].as_str().unwrap().starts_with("smtp://127.0.0.1:"), "{line}");
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_bad_scenario_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_relay-sim"))
        .args(["--scenario", "/nonexistent.json"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent.json"));
}
