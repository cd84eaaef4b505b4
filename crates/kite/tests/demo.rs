//! `kite demo` as a script runs it: what it prints, that it can be repeated, and that its log can be replayed.

use anyhow::{Context, ensure};
use kite_testkit::wait::block_for;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Far longer than it takes: a demo that hangs fails the test instead of holding it.
const WITHIN: Duration = Duration::from_secs(240);

const TOTALS: [&str; 11] = [
    "accepted",
    "delivered",
    "undelivered",
    "expired",
    "open",
    "failed_over",
    "delivered_twice",
    "seconds",
    "messages_per_second",
    "final_before",
    "accept_p99_ms",
];
const PER_RELAY: [&str; 10] =
    ["relay", "channel", "weight", "planned", "routed", "delivered", "failed", "p50_ms", "p99_ms", "cost"];
/// What a repetition of the same campaign must not change.
const OUTCOME: [&str; 7] =
    ["accepted", "delivered", "undelivered", "expired", "open", "failed_over", "delivered_twice"];

/// What a command came to.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs the built binary to its end. What it prints goes to files, so that no full pipe can hold it up.
fn kite(arguments: &[&str], scratch: &Path) -> anyhow::Result<Ended> {
    let (stdout, stderr) = (scratch.join("stdout"), scratch.join("stderr"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_kite"))
        .args(arguments)
        .stdout(std::fs::File::create(&stdout)?)
        .stderr(std::fs::File::create(&stderr)?)
        .spawn()?;
    let ended = block_for("the end of kite", WITHIN, || child.try_wait().transpose());
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let read = |path| std::fs::read_to_string(path).context("what it printed");
    let (stdout, stderr) = (read(stdout)?, read(stderr)?);
    let status = ended.with_context(|| format!("{arguments:?}:\n{stdout}\n{stderr}"))??;
    Ok(Ended { status, stdout, stderr })
}

fn succeeded(arguments: &[&str], scratch: &Path) -> anyhow::Result<String> {
    let Ended { status, stdout, stderr } = kite(arguments, scratch)?;
    ensure!(status.success(), "{arguments:?} ended with {status}:\n{stdout}\n{stderr}");
    Ok(stdout)
}

/// The one object that the demo prints.
fn demo(data: &str, scratch: &Path) -> anyhow::Result<Value> {
    let arguments = [
        "demo",
        "--messages",
        "400",
        "--seed",
        "3",
        "--exit",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data,
    ];
    let printed = succeeded(&arguments, scratch)?;
    let report: Value =
        serde_json::from_str(&printed).with_context(|| format!("not one JSON object: {printed}"))?;
    ensure!(report.is_object(), "not an object: {printed}");
    Ok(report)
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {object}"))
}

fn relays(report: &Value) -> &[Value] {
    report["relays"].as_array().unwrap_or_else(|| panic!("no relays in {report}"))
}

fn assert_complete(report: &Value) {
    for key in TOTALS {
        number(report, key);
    }
    for relay in relays(report) {
        for key in PER_RELAY {
            assert!(relay.get(key).is_some(), "{key} is missing in {relay}");
        }
    }
}

/// Every message has one end, and law 3 holds at every relay of every channel.
fn assert_adds_up(report: &Value) {
    let ends: f64 =
        ["delivered", "undelivered", "expired", "open"].iter().map(|key| number(report, key)).sum();
    assert_eq!(number(report, "accepted"), 400.0, "{report}");
    assert_eq!(ends, 400.0, "{report}");
    assert_eq!(number(report, "open"), 0.0, "{report}");
    assert_eq!(number(report, "delivered_twice"), 0.0, "{report}");
    let delivered: f64 = relays(report).iter().map(|relay| number(relay, "delivered")).sum();
    assert_eq!(delivered, number(report, "delivered"), "{report}");
    let routed: f64 = relays(report).iter().map(|relay| number(relay, "routed")).sum();
    assert_eq!(routed, 400.0, "{report}");
    for relay in relays(report) {
        let off = (number(relay, "routed") - number(relay, "planned")).abs();
        assert!(off < 1.0, "{off} messages off the ratio: {relay}");
    }
}

/// Who takes part, so that the checks of each relay cannot pass over nothing.
fn assert_everyone_takes_part(report: &Value) {
    let mut sms: Vec<(&str, f64)> = relays(report)
        .iter()
        .filter(|relay| relay["channel"] == "sms")
        .map(|relay| (relay["relay"].as_str().unwrap_or_default(), number(relay, "weight")))
        .collect();
    sms.sort_by(|left, right| left.0.cmp(right.0));
    assert_eq!(sms, [("alpha", 50.0), ("beta", 30.0), ("gamma", 20.0)]);
    for channel in ["lms", "email"] {
        assert!(relays(report).iter().any(|relay| relay["channel"] == channel), "no {channel} in {report}");
    }
}

#[test]
fn the_demo_adds_up_can_be_repeated_and_replayed() -> anyhow::Result<()> {
    let (kept, scratch) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let data = kept.path().to_str().context("a path of plain letters")?;
    let scratch = scratch.path();

    let first = demo(data, scratch)?;
    assert_complete(&first);
    assert_everyone_takes_part(&first);
    assert_adds_up(&first);

    // The same requests under the same idempotency keys: the same answers, and nothing is sent again.
    let second = demo(data, scratch)?;
    assert_complete(&second);
    assert_adds_up(&second);
    for key in OUTCOME {
        assert_eq!(second[key], first[key], "{key}");
    }
    assert_eq!(second["relays"], first["relays"]);
    assert_eq!((number(&first, "final_before"), number(&second, "final_before")), (0.0, 400.0));
    assert!(number(&first, "messages_per_second") > 0.0, "{first}");
    assert_eq!(number(&second, "messages_per_second"), 0.0, "none of them in this run: {second}");

    for mode in ["--verify", "--rebuild", "--verify"] {
        succeeded(&["replay", mode, "--data", data], scratch)?;
    }
    Ok(())
}
