//! Logs of an earlier shape: read and copied as they are, and brought into the newest shape by whoever writes them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use kite_event_store::sqlite::{CopyError, SqliteLogFile, SqliteOptions, copy_log};
use kite_event_store::{
    EventStore, Expected, Filter, LogIndex, RecordedEvent, SqliteEventStore, StreamAppend, TraceParent,
};
use rusqlite::Connection;
use std::path::Path;
use support::{append, append_one, id, log_of, open};

/// The tables as version 1 made them. Never changed.
const SHAPE_1: &str = include_str!("support/shape_1.sql");
const APPLICATION_ID: i64 = 0x4b49_5445;
const COLUMNS: &str =
    "position, stream, version, id, kind, schema_version, time, tenant, actor, correlation, causation, data";

/// Three events in a log of shape 1.
async fn log_of_shape_1(directory: &Path) -> (std::path::PathBuf, Vec<RecordedEvent>) {
    let (newest, file) = (directory.join("newest.sqlite"), directory.join("log.sqlite"));
    let store = open(&newest);
    append_one(&store, append("a", Expected::Any, [1, 2])).await.unwrap();
    append_one(&store, append("b", Expected::Any, [3])).await.unwrap();
    let events = log_of(&store).await;
    store.close();
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch(SHAPE_1).unwrap();
    connection.execute("ATTACH DATABASE ?1 AS newest", [newest.to_str().unwrap()]).unwrap();
    connection
        .execute_batch(&format!(
            "INSERT INTO streams SELECT * FROM newest.streams; INSERT INTO words SELECT * FROM newest.words;
             INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM newest.events;
             PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;"
        ))
        .unwrap();
    (file, events)
}

fn traced(append: StreamAppend) -> StreamAppend {
    let mut append = append;
    append.metadata.traceparent = TraceParent::new([0xab; 16], [0xcd; 8], 1);
    append
}

fn shape(file: &Path) -> i64 {
    Connection::open(file).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_log_of_the_first_shape_is_read_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (file, events) = log_of_shape_1(directory.path()).await;
    let log = SqliteLogFile::open(&file).unwrap();
    assert_eq!(log.read_all(0, 10, &Filter::everything()).await.unwrap().events, events);
    assert_eq!(log.read_stream("a", 1, 10).await.unwrap(), events[1..2]);
    assert_eq!(log.last_of("b").unwrap().as_ref(), events.last());
    let correlated = log.read_correlation(events[2].metadata.correlation, 0, 10).await.unwrap();
    assert_eq!(correlated, events[2..]);
    let kept = log.read_kept(0, 10).await.unwrap().events;
    assert!(kept.into_iter().map(|one| one.event.unwrap()).eq(events));
    assert_eq!(shape(&file), 1, "whoever reads it leaves it as it is");
}

#[tokio::test]
async fn a_copy_of_the_first_shape_holds_the_same_events_in_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let (file, events) = log_of_shape_1(directory.path()).await;
    let copy = directory.path().join("copy.sqlite");
    assert_eq!(copy_log(&file, &copy, &mut |_| true).unwrap().events, 3);
    assert_eq!((shape(&file), shape(&copy)), (1, 2));
    assert_eq!(log_of(&open(&copy)).await, events);
}

#[tokio::test]
async fn a_log_of_the_first_shape_is_brought_into_the_newest_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (file, before) = log_of_shape_1(directory.path()).await;
    let digests: Vec<_> = before.iter().map(RecordedEvent::digest).collect();
    for repeats in 0..2 {
        let store = open(&file);
        let log = log_of(&store).await;
        assert_eq!(log[..3], before);
        assert!(log[..3].iter().map(RecordedEvent::digest).eq(digests.iter().copied()), "seals hold");
        append_one(&store, traced(append("a", Expected::Version(2 + repeats), [4 + repeats]))).await.unwrap();
        store.close();
    }
    let told: Vec<Option<String>> = {
        let connection = Connection::open(&file).unwrap();
        let mut told = connection.prepare("SELECT traceparent FROM log ORDER BY position").unwrap();
        told.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let text = "00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01";
    let expected = [None, None, None, Some(text), Some(text)];
    assert!(told.iter().map(Option::as_deref).eq(expected), "{told:?}");
    let last = log_of(&open(&file)).await.pop().unwrap();
    assert_eq!((last.id, last.metadata.traceparent.unwrap().to_string()), (id(5), text.to_owned()));
}

#[tokio::test]
async fn an_event_that_is_damaged_and_a_view_that_is_gone_do_not_keep_a_log_from_being_brought_into_the_newest_shape()
 {
    let directory = tempfile::tempdir().unwrap();
    let (file, before) = log_of_shape_1(directory.path()).await;
    {
        // Not even SQLite would take such a row for one of this table.
        let of_table = |from: &str, to: &str| {
            let connection = Connection::open(&file).unwrap();
            connection.pragma_update(None, "writable_schema", "ON").unwrap();
            let changed = connection
                .execute(
                    "UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2) WHERE name = 'events'",
                    [from, to],
                )
                .unwrap();
            assert_eq!(changed, 1);
        };
        of_table("data           BLOB NOT NULL", "data           BLOB");
        let connection = Connection::open(&file).unwrap();
        assert_eq!(connection.execute("UPDATE events SET data = NULL WHERE position = 2", []).unwrap(), 1);
        connection.execute_batch("DROP VIEW IF EXISTS log").unwrap();
        drop(connection);
        of_table("data           BLOB", "data           BLOB NOT NULL");
    }
    let store = open(&file);
    let kept = store.read_kept(0, 10).await.unwrap().events;
    assert_eq!(kept.iter().map(|one| one.event.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    append_one(&store, traced(append("b", Expected::Version(1), [4]))).await.unwrap();
    assert_eq!(store.read_stream("b", 0, 10).await.unwrap()[0], before[2]);
    store.close();
    let connection = Connection::open(&file).unwrap();
    let said: i64 = connection
        .query_row("SELECT count(*) FROM log WHERE traceparent IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(said, 1);
}

#[tokio::test]
async fn a_log_whose_change_of_shape_is_broken_off_stays_as_it_was_and_is_changed_later() {
    let directory = tempfile::tempdir().unwrap();
    let (file, events) = log_of_shape_1(directory.path()).await;
    // Where the view belongs is something else, which comes to light after the table was changed.
    let in_the_way = |sql: &str| Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    in_the_way("DROP VIEW IF EXISTS log; CREATE TABLE log (other)");
    assert!(SqliteEventStore::open(&file, SqliteOptions::default()).is_err());
    assert_eq!(shape(&file), 1);
    let log = SqliteLogFile::open(&file).unwrap();
    assert_eq!(log.read_all(0, 10, &Filter::everything()).await.unwrap().events, events);
    in_the_way("DROP TABLE log");
    assert_eq!(log_of(&open(&file)).await, events);
    assert_eq!(shape(&file), 2);
}

#[tokio::test]
async fn a_log_in_the_newest_shape_is_whole_to_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = log_of_shape_1(directory.path()).await;
    open(&file).close();
    let connection = Connection::open(&file).unwrap();
    let said: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
}

#[tokio::test]
async fn a_log_of_a_newer_program_is_called_so() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = log_of_shape_1(directory.path()).await;
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 900).unwrap();
    let refused = SqliteLogFile::open(&file).err().unwrap().to_string();
    assert!(refused.contains("shape 900"), "{refused}");
    let copied = copy_log(&file, &directory.path().join("copy.sqlite"), &mut |_| true);
    assert!(matches!(copied, Err(CopyError::OtherShape)), "{copied:?}");
}

#[tokio::test]
async fn a_trace_that_nobody_has_written_is_told_and_keeps_no_other_event_from_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.sqlite");
    let store = open(&file);
    append_one(&store, traced(append("a", Expected::Any, [1, 2]))).await.unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute("UPDATE events SET trace = x'00' WHERE position = 1", []).unwrap();
    let kept = store.read_kept(0, 10).await.unwrap().events;
    assert_eq!(kept.iter().map(|one| one.event.is_ok()).collect::<Vec<_>>(), [false, true]);
    store.close();
    let reopened = SqliteEventStore::open(&file, SqliteOptions::default()).unwrap();
    assert!(reopened.read_stream("a", 0, 10).await.is_err());
    assert_eq!(reopened.read_stream("a", 1, 10).await.unwrap().len(), 1);
}
