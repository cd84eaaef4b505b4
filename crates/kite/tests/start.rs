//! What a process needs before it does anything, and the files that show how to set one up.

use kite_testkit::process::Process;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const ENDS_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn without_its_address_it_says_so_and_does_nothing() -> anyhow::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let files = tempfile::tempdir()?;
    let data = files.path().join("data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kite"));
    command.args(["serve", "--listen", &taken.local_addr()?.to_string(), "--data"]).arg(&data);
    let mut kite = Process::start("kite", &mut command)?;
    assert!(!kite.wait(ENDS_WITHIN)?.success());
    let log = kite.log();
    assert!(log.contains(&format!("cannot listen on {}", taken.local_addr()?)), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(!data.exists(), "nothing was opened, and no worker ran");
    Ok(())
}

#[test]
fn the_relays_of_the_example_push_their_receipts_to_a_path_of_the_api() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(root.join(path))?)?)
    };
    let (scenario, document) = (read("infra/relay-sim/scenario.json")?, read("docs/openapi.json")?);
    let template = "/v1/relays/{relay}/receipts";
    assert!(document["paths"][template]["post"].is_object());
    let relays = scenario["relays"].as_array().unwrap();
    let pushing: Vec<_> =
        relays.iter().filter(|relay| relay["behaviour"]["receipts"]["callback_url"].is_string()).collect();
    assert!(!pushing.is_empty());
    for relay in pushing {
        let url = relay["behaviour"]["receipts"]["callback_url"].as_str().unwrap();
        let path = template.replace("{relay}", relay["id"].as_str().unwrap());
        assert!(url.ends_with(&path), "{url} is not {path}");
    }
    Ok(())
}
