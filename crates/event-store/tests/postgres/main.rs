//! What is particular to the log in PostgreSQL. The promises of every adapter are in `contract.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod cuts;
mod damage;
mod failover;
mod flush;
#[cfg(target_os = "linux")]
mod full;
mod opening;
mod plans;
mod rights;
mod several;
#[expect(dead_code, reason = "shared with the tests of the other adapter")]
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod waiting;

use kite_event_store::postgres::{PostgresOptions, SCHEMA};
use kite_event_store::{AppendError, Appended, EventStore, PostgresEventStore, StreamAppend};
use kite_postgres::Server;
use kite_testkit::postgres::Database;
use std::time::Duration;

/// For what takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store at this URL of a database whose log is made.
async fn open(url: &str) -> PostgresEventStore {
    PostgresEventStore::open(options(url)).await.unwrap()
}

fn server(url: &str) -> Server {
    Server { url: url.to_owned(), tls: None }
}

fn options(url: &str) -> PostgresOptions {
    PostgresOptions { readers: 2, ..PostgresOptions::at(server(url)) }
}

/// A database with an empty log.
async fn database() -> Database {
    let database = Database::make().await;
    SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap();
    database
}

/// Appends until there is an answer; says whether one was lost on the way.
#[expect(clippy::disallowed_methods, reason = "between two tries at a server that is away")]
async fn append_until_answered(store: &PostgresEventStore, append: StreamAppend) -> (Appended, bool) {
    let mut was_lost = false;
    loop {
        match support::append_one(store, append.clone()).await {
            Ok(appended) => return (appended, was_lost),
            Err(AppendError::AnswerLost) => was_lost = true,
            Err(AppendError::Unavailable(_) | AppendError::Busy) => {}
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the store has heard of this position.
async fn until_head(store: &PostgresEventStore, position: u64) {
    let mut head = store.head();
    tokio::time::timeout(PATIENCE, head.wait_for(|head| *head >= position))
        .await
        .expect("the head is told")
        .unwrap();
}
