//! The speed of the disk, and of the event store on it: events of 300 bytes, durable one by one for many clients at
//! once, and the same bytes appended to a plain file with an fdatasync after each group of the size of the store's
//! own commits.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use chrono::DateTime;
use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{
    Batch, BatchMode, EventStore, Expected, Metadata, NewEvent, SqliteEventStore, StreamAppend,
};
use smol_str::format_smolstr;
use tokio::task::JoinSet;
use uuid::{Builder, Uuid};

use super::Plan;
use crate::load::generator::Start;
use crate::load::report::{Events, Report};

const EVENT_BYTES: usize = 300;
/// Each waits for its event to be durable before it appends the next.
const CLIENTS: u16 = 256;
/// Time in the events: it has to look like time, and costs the same whatever it is.
const TIME_MS: u64 = 1_780_000_000_000;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(&plan.directory)?;
    let duration = Duration::from_secs(plan.store_seconds);
    let (store_per_second, group) = store(directory.path(), duration).await?;
    let path = directory.path().join("plain");
    let file_per_second = tokio::task::spawn_blocking(move || plain_file(&path, group, duration)).await??;
    report.store = Some(Events { events_per_second: store_per_second.round() });
    report.file = Some(Events { events_per_second: file_per_second.round() });
    report.note("events in a commit of the store, and in a group of the file", group as f64);
    Ok(())
}

/// Events a second, and how many there were in a commit.
async fn store(directory: &Path, duration: Duration) -> anyhow::Result<(f64, usize)> {
    let store = Arc::new(SqliteEventStore::open(&directory.join("events.db"), SqliteOptions::default())?);
    let start = Start::now();
    let mut head = store.head();
    let mut commits = JoinSet::new();
    // Two commits between two looks count as one, so this is a lower bound.
    commits.spawn(async move {
        let mut count = 0_u64;
        while head.changed().await.is_ok() {
            count += 1;
        }
        count
    });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(append(Arc::clone(&store), number, start, duration));
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let elapsed = start.instant.elapsed().as_secs_f64();
    let events = *store.head().borrow();
    tokio::task::spawn_blocking(move || store.close()).await?;
    let commits = commits.join_next().await.context("commits are counted")??;
    Ok((events as f64 / elapsed, (events / commits.max(1)).max(1) as usize))
}

/// One client: each append begins a stream, as sendings and lots do.
async fn append(
    store: Arc<SqliteEventStore>,
    client: u16,
    start: Start,
    duration: Duration,
) -> anyhow::Result<()> {
    let data = Bytes::from(vec![b'x'; EVENT_BYTES]);
    let mut number = 0;
    while start.instant.elapsed() < duration {
        let id = time_ordered(start.instant.elapsed(), client, number);
        number += 1;
        let metadata = Metadata {
            time: DateTime::from_timestamp_millis(TIME_MS as i64).context("a time")?,
            tenant: Some("load".into()),
            correlation: id,
            causation: None,
            traceparent: None,
            actor: "load".into(),
        };
        let event = NewEvent { id, kind: "LoadMeasured".into(), schema_version: 1, data: data.clone() };
        let append = StreamAppend {
            stream: format_smolstr!("load-{}", id.simple()),
            expected: Expected::Version(0),
            metadata,
            events: vec![event],
        };
        let results = store.append(Batch::new(BatchMode::Independent, vec![append])).await;
        for result in results {
            result?;
        }
    }
    Ok(())
}

fn time_ordered(elapsed: Duration, client: u16, number: u64) -> Uuid {
    let mut rest = [0; 10];
    rest[..2].copy_from_slice(&client.to_be_bytes());
    rest[2..].copy_from_slice(&number.to_be_bytes());
    Builder::from_unix_timestamp_millis(TIME_MS + elapsed.as_millis() as u64, &rest).into_uuid()
}

/// Events a second that appending to a file gives, one fdatasync a group.
fn plain_file(path: &Path, group: usize, duration: Duration) -> anyhow::Result<f64> {
    let mut file = File::create(path)?;
    let bytes = vec![b'x'; EVENT_BYTES * group];
    let start = Start::now();
    let mut groups = 0_u64;
    while start.instant.elapsed() < duration {
        file.write_all(&bytes)?;
        file.sync_data()?;
        groups += 1;
    }
    Ok((groups * group as u64) as f64 / start.instant.elapsed().as_secs_f64())
}
