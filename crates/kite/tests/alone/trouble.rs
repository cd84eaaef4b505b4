//! The real binary where a row of a read model cannot be written, and where none can.

use super::house::{Kite, kite};
use anyhow::ensure;
use reqwest::StatusCode;
use rusqlite::Connection;
use serde_json::Value;
use std::path::Path;

/// Starts it. A read model that stands still for a moment makes it unready.
fn start(data: &Path) -> anyhow::Result<Kite> {
    Kite::start(data, &[("KITE_API__READY_STANDSTILL_MS_MAX", "1")])
}

fn sql(data: &Path, statements: &str) -> anyhow::Result<()> {
    Ok(Connection::open(data.join("address_book.db"))?.execute_batch(statements)?)
}

/// The exit code of `kite replay`, and what it printed.
fn replay(data: &Path, mode: &str) -> anyhow::Result<(bool, Value)> {
    let output = kite(data, &["replay", mode, "--json"])?;
    Ok((output.status.success(), serde_json::from_slice(&output.stdout)?))
}

#[tokio::test]
async fn a_row_that_cannot_be_written_raises_an_alarm_and_is_taken_in_after_the_mend() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path();
    let process = start(data)?;
    process.wait_for_ready(StatusCode::OK, "parked", "no events").await?;
    sql(
        data,
        "CREATE TRIGGER unwritable BEFORE INSERT ON tenants WHEN NEW.id = 'bad'
         BEGIN SELECT raise(ABORT, 'never'); END",
    )?;
    process.create_tenant("bad").await?;
    process.create_tenant("good").await?;
    process.wait_for_ready(StatusCode::OK, "parked", "address_book 1").await?;
    let metrics = process.metrics().await?;
    ensure!(metrics.contains("kite_projection_parked_rows{read_model=\"address_book\"} 1"), "{metrics}");
    let log = process.log();
    ensure!(log.contains("an event cannot be applied") && log.contains("never"), "{log}");
    process.stop()?;

    let (is_clean, shown) = replay(data, "--parked")?;
    let parked = &shown["models"][0]["parked"];
    ensure!(
        !is_clean && parked[0]["stream"] == "tenant-bad" && parked[0]["cause"] == "unwritable",
        "{shown}"
    );
    let tenants = |id: &str| -> anyhow::Result<u32> {
        let file = Connection::open(data.join("address_book.db"))?;
        Ok(file.query_row("SELECT count(*) FROM tenants WHERE id = ?1", [id], |row| row.get(0))?)
    };
    ensure!((tenants("bad")?, tenants("good")?) == (0, 1));
    let (is_clean, shown) = replay(data, "--retry-parked")?;
    ensure!(is_clean && shown["models"][0]["parked_before"] == 1, "{shown}");
    ensure!((tenants("bad")?, tenants("good")?) == (1, 1));
    ensure!(replay(data, "--verify")?.0 && replay(data, "--parked")?.0);
    Ok(())
}

#[tokio::test]
async fn a_projector_that_stands_still_makes_the_process_unready_until_it_goes_on() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path();
    let process = start(data)?;
    process.wait_for_ready(StatusCode::OK, "projector:address_book", "at position").await?;
    sql(data, "CREATE TRIGGER full BEFORE UPDATE ON checkpoint BEGIN SELECT raise(ABORT, 'no room'); END")?;
    process.create_tenant("new").await?;
    process.wait_for_ready(StatusCode::SERVICE_UNAVAILABLE, "projector:address_book", "no room").await?;
    sql(data, "DROP TRIGGER full")?;
    process.wait_for_ready(StatusCode::OK, "projector:address_book", "at position").await?;
    process.stop()
}
