//! How many events a second an adapter makes durable, beside what the disk itself gives: a plain file to which the same bytes are
//! appended, with an fdatasync after each group of as many events as the store put in a commit.
//!
//! `cargo run --release -p kite-event-store --example append_rate -- --clients 256 --bytes 300 --seconds 5`
//!
//! Each client waits for its append before it sends the next. `--streams new` gives each append a stream of its
//! own (as sendings and their lots do); `--streams one` (the default) lets each client go on with its own.
//!
//! The log is a file of SQLite, or in a database of PostgreSQL: `--postgres postgres://user:password@host/database`, which gets a
//! log if it has none.

use chrono::DateTime;
use kite_event_store::postgres::{PostgresOptions, SCHEMA};
use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{
    Batch, BatchMode, EventStore, Expected, Metadata, NewEvent, PostgresEventStore, SqliteEventStore,
    StreamAppend,
};
use kite_postgres::Server;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
struct Settings {
    clients: usize,
    events: usize,
    bytes: usize,
    seconds: u64,
    streams: String,
    directory: PathBuf,
    postgres: Option<String>,
}

fn settings() -> Result<Settings, Failure> {
    let mut settings = Settings {
        clients: 256,
        events: 1,
        bytes: 300,
        seconds: 5,
        streams: "one".to_owned(),
        directory: std::env::temp_dir(),
        postgres: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--clients" => settings.clients = value.parse()?,
            "--events" => settings.events = value.parse()?,
            "--bytes" => settings.bytes = value.parse()?,
            "--seconds" => settings.seconds = value.parse()?,
            "--streams" => settings.streams = value,
            "--directory" => settings.directory = value.into(),
            "--postgres" => settings.postgres = Some(value),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(settings)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Time-ordered and different for each client and number.
fn id(started: Instant, client: usize, number: u64) -> Uuid {
    let mut rest = [0; 10];
    rest[..2].copy_from_slice(&(client as u16).to_be_bytes());
    rest[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(1_780_000_000_000 + started.elapsed().as_millis() as u64, &rest)
        .into_uuid()
}

enum Log {
    Sqlite(Arc<SqliteEventStore>),
    Postgres(Arc<PostgresEventStore>),
}

impl Log {
    async fn open(settings: &Settings, file: &Path) -> Result<Self, Failure> {
        let Some(url) = &settings.postgres else {
            return Ok(Self::Sqlite(Arc::new(SqliteEventStore::open(file, SqliteOptions::default())?)));
        };
        let server = Server { url: url.clone(), tls: None };
        SCHEMA.migrate(&server, &[]).await?;
        let options = PostgresOptions::at(server);
        Ok(Self::Postgres(Arc::new(PostgresEventStore::open(options).await?)))
    }

    fn store(&self) -> Arc<dyn EventStore> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close(),
            Self::Postgres(store) => store.close().await,
        }
    }
}

async fn client(
    store: Arc<dyn EventStore>,
    settings: Settings,
    client: usize,
    started: Instant,
) -> Result<Vec<Duration>, Failure> {
    let until = Duration::from_secs(settings.seconds);
    let data = bytes::Bytes::from(vec![b'x'; settings.bytes]);
    let mut latencies = Vec::new();
    let mut number = 0;
    let mut version = 0;
    let mut stream = smol_str::format_smolstr!("lot-{}-0", id(started, client, number).simple());
    while started.elapsed() < until {
        if settings.streams == "new" {
            stream = smol_str::format_smolstr!("lot-{}-0", id(started, client, number).simple());
            version = 0;
        }
        let events = (0..settings.events)
            .map(|_| {
                number += 1;
                let id = id(started, client, number);
                NewEvent { id, kind: "MessagesRouted".into(), schema_version: 1, data: data.clone() }
            })
            .collect();
        let metadata = Metadata {
            time: DateTime::from_timestamp_millis(1_780_000_000_000).ok_or("time")?,
            tenant: Some("acme".into()),
            correlation: id(started, client, number),
            causation: None,
            actor: "router".into(),
            traceparent: None,
        };
        let append =
            StreamAppend { stream: stream.clone(), expected: Expected::Version(version), metadata, events };
        let sent = now();
        let results = store.append(Batch::new(BatchMode::Independent, vec![append])).await;
        latencies.push(sent.elapsed());
        version = results.into_iter().next().ok_or("no answer")??.version;
    }
    Ok(latencies)
}

/// Events a second that appending to a plain file reaches in groups of this many, in a second.
fn plain_file(directory: &Path, event_bytes: usize, group: usize) -> Result<f64, Failure> {
    let mut file = tempfile::tempfile_in(directory)?;
    let piece = vec![b'x'; event_bytes * group];
    let started = now();
    let mut groups = 0;
    while started.elapsed() < Duration::from_secs(1) {
        file.write_all(&piece)?;
        file.sync_data()?;
        groups += 1;
    }
    Ok((groups * group) as f64 / started.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let settings = settings()?;
    let directory = tempfile::tempdir_in(&settings.directory)?;
    let file = directory.path().join("events.sqlite");
    let log = Log::open(&settings, &file).await?;
    let store = log.store();
    let before = *store.head().borrow();

    let mut commits = store.head();
    let started = now();
    let mut clients = JoinSet::new();
    for number in 0..settings.clients {
        clients.spawn(client(Arc::clone(&store), settings.clone(), number, started));
    }
    let commit_count = JoinSet::from_iter([async move {
        let mut count = 0_u64;
        while commits.changed().await.is_ok() {
            count += 1;
        }
        count
    }]);
    let mut latencies = Vec::new();
    while let Some(finished) = clients.join_next().await {
        latencies.extend(finished??);
    }
    let elapsed = started.elapsed();
    let head = *store.head().borrow() - before;
    let closing = now();
    log.close().await;
    let closing = closing.elapsed();
    // Changes of the head that fall together are seen as one, so this is a lower bound.
    let commits = commit_count.join_all().await.into_iter().sum::<u64>().max(1);

    latencies.sort_unstable();
    let rank = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let rate = head as f64 / elapsed.as_secs_f64();
    let group = (head / commits).max(1) as usize;
    println!("{} clients, {} events each of {} bytes", settings.clients, settings.events, settings.bytes);
    println!("store: {rate:.0} events/s, {head} events, about {group} events a commit");
    println!(
        "latency: p50 {:.2?} p99 {:.2?} p99.9 {:.2?} max {:.2?}",
        rank(0.5),
        rank(0.99),
        rank(0.999),
        rank(1.0)
    );
    println!("close: {closing:.2?}");
    if let Ok(kept) = std::fs::metadata(&file) {
        println!("{} bytes an event", kept.len() / head.max(1));
    }
    for group in [1, group, 256, 1024] {
        let plain = plain_file(directory.path(), settings.bytes, group)?;
        println!(
            "plain file, {group} a sync: {plain:.0} events/s; the store reaches {:.2} of it",
            rate / plain
        );
    }
    Ok(())
}
