//! What the server does for each statement.

use kite_event_store::{
    Batch, BatchMode, EventStore, Expected, Filter, LogIndex, PostgresEventStore, StreamName, Tail,
};
use kite_testkit::postgres::Database;
use kite_testkit::wait::wait_until;

use crate::support::{append, id, log_of};
use crate::{PATIENCE, database, open};

/// Enough for a server to go by an index if it can.
const STREAMS: u64 = 6_000;
const STREAMS_AT_ONCE: u64 = 500;

/// A log of streams with one event each.
async fn fill(store: &PostgresEventStore) {
    for first in (0..STREAMS).step_by(STREAMS_AT_ONCE as usize) {
        let streams = first..first + STREAMS_AT_ONCE;
        let appends = streams.map(|number| append(&format!("s-{number}"), Expected::Version(0), [number]));
        let batch = Batch::new(BatchMode::Independent, appends.collect());
        assert!(store.append(batch).await.iter().all(Result::is_ok));
    }
}

/// Everything that is ever asked of a log; often enough for the server to settle how it answers.
async fn ask_everything(store: &PostgresEventStore) {
    for number in 0..12 {
        let stream = StreamName::from(format!("s-{number}").as_str());
        let again = append(&stream, Expected::Version(0), [number]);
        let next = append(&stream, Expected::Version(1), [STREAMS + number]);
        let batch = Batch::new(BatchMode::Independent, vec![again, next]);
        assert!(store.append(batch).await.iter().all(Result::is_ok));
        assert_eq!(store.read_stream(&stream, 0, 10).await.unwrap().len(), 2);
        let other = StreamName::from("s-99");
        let many = [Tail { stream: &stream, after_version: 0 }, Tail { stream: &other, after_version: 0 }];
        assert_eq!(store.read_many(&many, 10).await.unwrap().len(), 2);
        let kinds = Filter::kinds(["Happened"]);
        assert_eq!(store.read_all(number * 100, 50, &kinds).await.unwrap().events.len(), 50);
        let correlation = id(1_000_000_000 + number);
        assert_eq!(store.read_correlation(correlation, 0, 10).await.unwrap().len(), 1);
    }
}

/// A connection that has ended has handed in what it counted.
async fn wait_until_alone(database: &Database) {
    let alone = "SELECT count(*) = 1 FROM pg_stat_activity
                 WHERE datname = current_database() AND backend_type = 'client backend'";
    wait_until("the end of all connections", PATIENCE, async || database.is_so(alone).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_goes_through_the_whole_log() {
    let database = database().await;
    // It never learns how many rows there are.
    let tables = ["kite_log.events", "kite_log.streams", "kite_log.head"];
    for table in tables {
        database.execute(&format!("ALTER TABLE {table} SET (autovacuum_enabled = off)")).await;
    }
    fill(&open(&database.url()).await).await;
    wait_until_alone(&database).await;
    database.execute("SELECT pg_stat_reset()").await;
    // Another process, which has nothing in memory.
    let store = open(&database.url()).await;
    ask_everything(&store).await;
    assert_eq!(log_of(&store).await.len() as u64, STREAMS + 12);
    drop(store);
    wait_until_alone(&database).await;
    let of_both = "FROM pg_stat_user_tables WHERE relname IN ('events', 'streams')";
    assert!(database.is_so(&format!("SELECT sum(idx_scan) > 6000 {of_both}")).await, "nothing was counted");
    let none = format!("SELECT sum(seq_tup_read) = 0 {of_both}");
    assert!(database.is_so(&none).await, "a table was read from one end to the other");
}
