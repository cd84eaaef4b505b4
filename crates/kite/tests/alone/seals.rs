//! The real binary and a log that somebody has changed behind its back.

use super::house::{Kite, kite};
use anyhow::ensure;
use reqwest::StatusCode;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::Path;

/// Starts it, with its seals kept elsewhere too.
fn start(data: &Path) -> anyhow::Result<Kite> {
    Kite::start(data, &[("KITE_SEALS_FILE", &data.with_extension("seals").display().to_string())])
}

/// Whether the log is as it was sealed, and the first difference.
fn verify(data: &Path, more: &[&str]) -> anyhow::Result<(bool, Value)> {
    let output = kite(data, &[&["audit", "--verify", "--json"], more].concat())?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["is_clean"] == output.status.success(), "{report}");
    Ok((output.status.success(), report))
}

fn sql(data: &Path, statements: &str) -> anyhow::Result<()> {
    let statements = format!("PRAGMA foreign_keys = OFF; {statements}");
    Ok(Connection::open(data.join("events.db"))?.execute_batch(&statements)?)
}

/// Does something to a copy of the log and answers the first difference that is found.
fn found(data: &Path, statements: &str) -> anyhow::Result<Value> {
    let copy = tempfile::tempdir()?;
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
    }
    sql(copy.path(), statements)?;
    let (is_clean, report) = verify(copy.path(), &[])?;
    ensure!(!is_clean, "nothing was found after {statements}");
    let rebuilt = kite(copy.path(), &["replay", "--rebuild"])?;
    ensure!(!rebuilt.status.success(), "read models were made from a log that does not hold");
    let rebuilt = kite(copy.path(), &["replay", "--rebuild", "--unverified"])?;
    ensure!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    Ok(report["first_differences"][0].clone())
}

#[tokio::test]
async fn what_is_done_to_the_log_is_found_and_has_its_place() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let process = start(&data)?;
    for name in ["first", "second", "third", "fourth"] {
        process.create_tenant(name).await?;
    }
    // The seal itself is the fifth event.
    process.wait_for_ready(StatusCode::OK, "seals", "up to position 4").await?;
    process.stop()?;
    let (is_clean, report) = verify(&data, &[])?;
    ensure!(is_clean && report["events"] == 4 && report["seals"] == 1 && report["unsealed"] == 1, "{report}");

    let changed = "UPDATE events SET data = CAST(replace(CAST(data AS TEXT), 'second', 'secund') AS BLOB)";
    ensure!(found(&data, changed)? == json!({"what": "changed", "position": 2}));
    let moved = "UPDATE events SET position = 99 WHERE position = 2;
                 UPDATE events SET position = 2 WHERE position = 3;
                 UPDATE events SET position = 3 WHERE position = 99";
    ensure!(found(&data, moved)? == json!({"what": "moved", "position": 2}));
    let missing = "DELETE FROM events WHERE position = 3";
    ensure!(found(&data, missing)? == json!({"what": "missing", "after": 2}));
    let added = "UPDATE events SET position = position + 10 WHERE position > 4;
                 UPDATE events SET position = 5 WHERE position = 4;
                 INSERT INTO events SELECT 4, stream + 100, 1, randomblob(16), kind, schema_version, time, tenant, actor,
                     correlation, causation, data, trace FROM events WHERE position = 3;
                 INSERT INTO streams SELECT stream, 'tenant-added' FROM events WHERE position = 4;
                 UPDATE events SET data = CAST(replace(CAST(data AS TEXT), '\"until\":4', '\"until\":5') AS BLOB)
                     WHERE position > 10";
    ensure!(found(&data, added)? == json!({"what": "added", "position": 4}));
    let new_time = "UPDATE events SET time = time + 1 WHERE position = 1";
    ensure!(found(&data, new_time)? == json!({"what": "changed", "position": 1}));

    // What no seal covers: positions have no gaps, and there is none before the first.
    let unsealed = "DELETE FROM events WHERE position = 3; DELETE FROM events WHERE position > 4";
    ensure!(found(&data, unsealed)? == json!({"what": "missing", "after": 2}));
    let before = "INSERT INTO events SELECT 0, stream, version + 50, randomblob(16), kind, schema_version, time, tenant,
                      actor, correlation, causation, data, trace FROM events WHERE position = 3";
    sql(&data, before)?;
    let refused = kite(&data, &["audit", "--verify"])?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && words.contains("there is an event at position 0"), "{words}");
    sql(&data, "DELETE FROM events WHERE position = 0")?;

    // Whoever cuts off the end and makes the seals anew is found by the copy of their digests elsewhere.
    sql(&data, "DELETE FROM events WHERE position > 3")?;
    for entry in std::fs::read_dir(&data)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events")) {
            std::fs::remove_file(path)?;
        }
    }
    let process = start(&data)?;
    // So it is when a process begins that writes to the same file.
    let words = "the seal up to position 4 is not the one that was kept elsewhere";
    process.wait_for_ready(StatusCode::SERVICE_UNAVAILABLE, "seals", words).await?;
    process.stop()?;
    ensure!(verify(&data, &[])?.0, "the new seal holds");
    let kept = data.with_extension("seals");
    let (is_clean, report) = verify(&data, &["--seals", &kept.display().to_string()])?;
    ensure!(!is_clean && report["not_as_kept_elsewhere"] == json!([4]), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_process_says_that_its_log_was_changed() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let process = start(&data)?;
    process.create_tenant("first").await?;
    process.wait_for_ready(StatusCode::OK, "seals", "up to position 1").await?;
    process.stop()?;
    sql(&data, "UPDATE events SET time = time + 1 WHERE position = 1")?;
    let process = start(&data)?;
    process
        .wait_for_ready(StatusCode::SERVICE_UNAVAILABLE, "seals", "the event at position 1 was changed")
        .await?;
    process.stop()
}

/// Nobody is there to seal what comes in the last seconds of a process, so it does so itself, whatever its roles are.
#[tokio::test]
async fn the_end_of_a_process_leaves_nothing_unsealed() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let process = Kite::start(&data, &[("KITE_ROLES", "[api, projector]")])?;
    process.create_tenant("first").await?;
    process.create_tenant("second").await?;
    process.stop()?;
    let (is_clean, report) = verify(&data, &[])?;
    // The seal itself is in the next one, whenever there is one.
    let head = report["sealed_until"].as_u64();
    ensure!(is_clean && head >= Some(2) && report["unsealed"] == 1, "{report}");
    Ok(())
}

#[tokio::test]
async fn a_newest_seal_that_cannot_be_read_is_told_and_everything_goes_on() -> anyhow::Result<()> {
    let seal = "stream = (SELECT id FROM streams WHERE name = 'log-seals')";
    let far = "data = CAST('{' AS BLOB), version = 1000000000000000";
    for broken in ["data = CAST('{' AS BLOB)", "time = 9223372036854775807", "id = x'00'", far] {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        let process = Kite::start(&data, &[])?;
        process.create_tenant("first").await?;
        process.stop()?;
        sql(&data, &format!("UPDATE events SET {broken} WHERE {seal}"))?;
        let (_, report) = verify(&data, &[])?;
        let position = report["first_differences"][0]["position"].as_u64();
        ensure!(report["differences"] == 1 && position >= Some(2), "{report}");
        let position = position.unwrap_or_default();

        let process = Kite::start(&data, &[])?;
        let words = format!("the event at position {position} was changed: it cannot be read");
        process.wait_for_ready(StatusCode::SERVICE_UNAVAILABLE, "seals", &words).await?;
        let told = format!("kite_log_first_difference_position {position}");
        ensure!(process.metrics().await?.contains(&told), "{}", process.metrics().await?);
        ensure!(process.log().contains(&words), "{}", process.log());
        process.create_tenant("second").await?;
        process.stop()?;
        let (_, report) = verify(&data, &[])?;
        let places: Vec<_> = report["first_differences"].as_array().into_iter().flatten().collect();
        ensure!(places.len() == 1 && places[0]["position"] == position, "{report}");
        ensure!(report["unsealed"] == 1, "sealing goes on: {report}");
        let backup = directory.path().join("backup");
        let evidence = kite(&data, &["backup", "--to", &backup.display().to_string()])?;
        ensure!(evidence.status.success(), "{}", String::from_utf8_lossy(&evidence.stderr));
    }
    Ok(())
}

#[tokio::test]
async fn whoever_asks_for_what_is_not_there_is_told_so() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let process = start(&data)?;
    process.create_tenant("first").await?;
    process.stop()?;
    let audit = |arguments: &[&str]| -> anyhow::Result<(bool, usize, String)> {
        let output = kite(&data, &[&["audit"], arguments].concat())?;
        let lines = String::from_utf8(output.stdout)?.lines().count();
        Ok((output.status.success(), lines, String::from_utf8(output.stderr)?))
    };
    let head = audit(&[])?.1;
    ensure!(head >= 2);
    let (is_there, lines, words) = audit(&["--after", "1000000"])?;
    let expected = format!("there is no position 1000000: the log ends at position {head}");
    ensure!(!is_there && lines == 0 && words.contains(&expected), "{words}");
    let (is_there, lines, words) = audit(&["--stream", "lot-nowhere-0"])?;
    ensure!(!is_there && lines == 0 && words.contains("there is no stream lot-nowhere-0"), "{words}");
    for of_stream in [&[][..], &["--stream", "log-seals"]] {
        let (is_there, lines, words) = audit(&[of_stream, &["--after", &head.to_string()]].concat())?;
        ensure!(is_there && lines == 0 && words.contains("holds nothing after position"), "{words}");
    }
    sql(&data, "UPDATE events SET data = CAST('{' AS BLOB) WHERE position = 1")?;
    sql(&data, "UPDATE events SET correlation = x'00' WHERE position = 2")?;
    let (is_there, lines, words) = audit(&[])?;
    ensure!(is_there && lines == head, "events that cannot be read keep no other from being told: {words}");
    Ok(())
}
