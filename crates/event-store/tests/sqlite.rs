//! What the SQLite adapter promises beyond the contract: it survives, it refuses, it stops.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use bytes::Bytes;
use kite_event_store::sqlite::{OpenError, SqliteLogFile, SqliteOptions};
use kite_event_store::{
    AppendError, Batch, BatchMode, EventStore, Expected, Filter, ReadError, SqliteEventStore, StreamAppend,
};
use std::sync::Arc;
use support::{append, append_one, log_of, open};

/// One event with so many bytes of data.
fn padded(stream: &str, number: u64, bytes: usize) -> StreamAppend {
    let mut padded = append(stream, Expected::Any, [number]);
    padded.events[0].data = Bytes::from(vec![b'x'; bytes]);
    padded
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a/directory/that/is/made/log.sqlite");
    let store = open(&file);
    for number in 0..20 {
        append_one(&store, append(&format!("s-{}", number % 3), Expected::Any, [number])).await.unwrap();
    }
    let before = log_of(&store).await;
    store.close();

    let store = open(&file);
    assert_eq!(*store.head().borrow(), 20);
    assert_eq!(log_of(&store).await, before);
    let next = append_one(&store, append("s-0", Expected::Version(7), [20])).await.unwrap();
    assert_eq!((next.version, next.position), (8, 21));
    let again = append_one(&store, append("s-1", Expected::Any, [1])).await.unwrap();
    assert_eq!((again.version, again.position, again.repeated), (1, 2, true), "ids are remembered");
}

#[tokio::test]
async fn a_closed_store_refuses_and_lets_another_in() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.sqlite");
    let store = open(&file);
    append_one(&store, append("a", Expected::Any, [1])).await.unwrap();

    let second = SqliteEventStore::open(&file, SqliteOptions::default());
    let Err(error @ OpenError::InUse { .. }) = second else { panic!("{second:?}") };
    assert!(error.to_string().contains("log.sqlite.lock"), "{error}");

    store.close();
    store.close();
    let refused = append_one(&store, append("a", Expected::Any, [2])).await;
    assert_eq!(refused, Err(AppendError::stopped("it was closed")));
    let unread = store.read_stream("a", 0, 10).await;
    assert_eq!(unread, Err(ReadError::stopped("it was closed")));
    let mut head = store.head();
    head.mark_unchanged();
    assert!(head.changed().await.is_err(), "who waits for the head hears that there will be nothing more");
    assert!(!directory.path().join("log.sqlite-wal").metadata().is_ok_and(|wal| wal.len() > 0));
    assert_eq!(log_of(&open(&file)).await.len(), 1);
}

#[tokio::test]
async fn closing_writes_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.sqlite");
    let store = Arc::new(open(&file));
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        waiting.spawn(async move {
            append_one(&*store, append(&format!("s-{number}"), Expected::Any, [number])).await
        });
    }
    // The first answer: others are on their way or not even sent.
    let first = waiting.join_next().await.unwrap().unwrap();
    let closing = Arc::clone(&store);
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
    let mut acknowledged = usize::from(first.is_ok());
    while let Some(result) = waiting.join_next().await {
        match result.unwrap() {
            Ok(_) => acknowledged += 1,
            Err(error) => assert_eq!(error, AppendError::stopped("it was closed")),
        }
    }
    assert_eq!(log_of(&open(&file)).await.len(), acknowledged, "answered with Ok and written are the same");
}

#[tokio::test]
async fn other_databases_and_later_shapes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let foreign = directory.path().join("foreign.sqlite");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection.execute_batch("CREATE TABLE something (else_entirely TEXT)").unwrap();
    drop(connection);
    let refused = SqliteEventStore::open(&foreign, SqliteOptions::default());
    assert!(matches!(refused, Err(OpenError::NotAnEventStore)), "{refused:?}");

    let later = directory.path().join("later.sqlite");
    open(&later).close();
    let connection = rusqlite::Connection::open(&later).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(connection);
    let refused = SqliteEventStore::open(&later, SqliteOptions::default());
    assert!(matches!(refused, Err(OpenError::OtherSchema { found: 99, known: 2 })), "{refused:?}");

    let garbage = directory.path().join("garbage.sqlite");
    std::fs::write(&garbage, "not a database, but long enough to be looked at ".repeat(100)).unwrap();
    let refused = SqliteEventStore::open(&garbage, SqliteOptions::default());
    assert!(matches!(refused, Err(OpenError::Engine(_))), "{refused:?}");
}

/// What stands where the lock or the write-ahead log belongs is left as it is.
#[tokio::test]
async fn a_lock_or_a_write_ahead_log_that_is_no_file_is_refused() {
    for name in ["log.sqlite.lock", "log.sqlite-wal"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log.sqlite");
        std::fs::create_dir(directory.path().join(name)).unwrap();
        let refused = SqliteEventStore::open(&file, SqliteOptions::default());
        assert!(matches!(refused, Err(OpenError::Files(_))), "{name}: {refused:?}");
        assert!(!file.exists(), "{name}");
        std::fs::remove_dir(directory.path().join(name)).unwrap();
        open(&file).close();
    }
}

#[tokio::test]
async fn an_append_over_the_bound_is_refused_alone() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { append_bytes_max: 1000, ..SqliteOptions::default() };
    let store = SqliteEventStore::open(&directory.path().join("log.sqlite"), options).unwrap();
    let appends = vec![padded("a", 1, 1001), padded("b", 2, 1000), append("a", Expected::Version(0), [3])];
    let results = store.append(Batch::new(BatchMode::Independent, appends)).await;
    assert_eq!(results[0], Err(AppendError::TooLarge { bytes: 1001, limit: 1000 }));
    assert!(results[1].is_ok() && results[2].is_ok());
}

/// Nobody may count on it: other adapters look at a stream alone.
#[tokio::test]
async fn an_id_that_stands_anywhere_is_refused_also_where_it_came_with_the_same_batch() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("log.sqlite"));
    append_one(&store, append("a", Expected::Version(0), [1])).await.unwrap();
    let conflict = Err(AppendError::Conflict { actual: 0 });
    assert_eq!(append_one(&store, append("b", Expected::Version(0), [1])).await, conflict, "from before");
    for mode in [BatchMode::Atomic, BatchMode::Independent] {
        let appends = vec![append("a", Expected::Version(1), [2]), append("b", Expected::Version(0), [2])];
        let results = store.append(Batch::new(mode, appends)).await;
        assert_eq!(results[0].is_ok(), mode == BatchMode::Independent, "{results:?}");
        assert_eq!(results[1], conflict);
    }
    append_one(&store, append("b", Expected::Version(0), [3])).await.unwrap();
    let log = log_of(&store).await;
    let streams: Vec<&str> = log.iter().map(|event| event.stream.as_str()).collect();
    assert_eq!(streams, ["a", "a", "b"]);
}

/// More callers than may wait: some are told at once to come back, and what was refused is not written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_answers_busy() {
    for options in [
        SqliteOptions { queue_requests_max: 2, ..SqliteOptions::default() },
        SqliteOptions { queue_bytes_max: 600_000, ..SqliteOptions::default() },
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteEventStore::open(&directory.path().join("log.sqlite"), options).unwrap());
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..200 {
            let store = Arc::clone(&store);
            callers.spawn(async move {
                append_one(&*store, padded(&format!("s-{number}"), number, 100_000)).await
            });
        }
        let results = callers.join_all().await;
        let written = results.iter().filter(|result| result.is_ok()).count();
        let busy = results.iter().filter(|result| **result == Err(AppendError::Busy)).count();
        assert_eq!(written + busy, 200, "{results:?}");
        assert!(busy > 0 && written > 0);
        assert_eq!(log_of(&*store).await.len(), written);
    }
}

/// A batch over the queue's bound is taken when nothing else waits, and spread over commits.
#[tokio::test]
async fn a_batch_over_the_bounds_is_spread_over_commits() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { queue_bytes_max: 1000, commit_bytes_max: 1000, ..SqliteOptions::default() };
    let store = SqliteEventStore::open(&directory.path().join("log.sqlite"), options).unwrap();
    let appends = (0..30).map(|number| padded(&format!("s-{number}"), number, 100_000)).collect();
    let results = store.append(Batch::new(BatchMode::Guarded, appends)).await;
    let positions: Vec<_> = results.into_iter().map(|result| result.unwrap().position).collect();
    assert_eq!(positions, (1..=30).collect::<Vec<_>>());
}

/// The newest events come from memory, older ones from the database: the same either way.
#[tokio::test]
async fn the_seam_between_memory_and_database_does_not_show() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions { recent_bytes_max: 5_000, ..SqliteOptions::default() };
    let store = SqliteEventStore::open(&directory.path().join("log.sqlite"), options).unwrap();
    for number in 0..60 {
        append_one(&store, append(&format!("s-{}", number % 5), Expected::Any, [number])).await.unwrap();
    }
    let whole = log_of(&store).await;
    assert_eq!(whole.len(), 60);
    for after in 0..=60 {
        let page = store.read_all(after, 7, &Filter::everything()).await.unwrap();
        let expected = &whole[after as usize..whole.len().min(after as usize + 7)];
        assert_eq!(page.events, expected, "after {after}");
        assert_eq!(page.next, expected.last().map_or(after, |last| last.position));
    }
}

/// Commits go on while the write-ahead log is copied, and it does not grow for ever.
#[tokio::test]
async fn the_write_ahead_log_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.sqlite");
    let options = SqliteOptions { checkpoint_pages: 50, ..SqliteOptions::default() };
    let store = SqliteEventStore::open(&file, options).unwrap();
    let mut largest = 0;
    for number in 0..3000 {
        append_one(&store, padded("a", number, 2000)).await.unwrap();
        largest = largest.max(directory.path().join("log.sqlite-wal").metadata().unwrap().len());
    }
    // Every append writes at least four pages, so never starting anew would come to over 48 MB.
    assert!(largest < 24_000_000, "the write-ahead log grew to {largest} bytes");
    assert_eq!(log_of(&store).await.len(), 3000);
}

#[tokio::test]
async fn the_log_can_be_read_with_plain_sql() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.sqlite");
    let store = open(&file);
    append_one(&store, append("a", Expected::Any, [1, 2])).await.unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    let row: (String, i64, String, String, String) = connection
        .query_row("SELECT stream, version, kind, time, data FROM log WHERE position = 2", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .unwrap();
    let expected = ("a", 2, "Happened", "2026-05-28T20:26:40.001Z", r#"{"number":2}"#);
    assert_eq!((&*row.0, row.1, &*row.2, &*row.3, &*row.4), expected);
}

/// The positions of what lies in the store, and whether it can be read.
async fn kept(store: &dyn EventStore) -> Vec<(u64, bool)> {
    let (mut kept, mut after) = (Vec::new(), 0);
    loop {
        let page = store.read_kept(after, 3).await.unwrap();
        if page.next == after {
            return kept;
        }
        after = page.next;
        kept.extend(page.events.iter().map(|one| (one.position, one.event.is_ok())));
    }
}

#[tokio::test]
async fn what_lies_in_the_file_is_read_although_it_is_in_memory_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.sqlite");
    let store = open(&file);
    for number in 0..8 {
        append_one(&store, append("a", Expected::Any, [number])).await.unwrap();
    }
    assert!(kept(&store).await.iter().all(|(_, is_readable)| *is_readable));
    let somebody = rusqlite::Connection::open(&file).unwrap();
    let sql = "PRAGMA foreign_keys = OFF;
        UPDATE events SET data = x'00' WHERE position = 2;
        UPDATE events SET correlation = x'00' WHERE position = 4;
        UPDATE events SET kind = 999 WHERE position = 5;
        UPDATE events SET time = 9223372036854775807 WHERE position = 7";
    somebody.execute_batch(sql).unwrap();
    assert!(
        !log_of(&store).await[1].data.starts_with(b"\0"),
        "readers at the end of the log are served from memory"
    );
    let second = store.read_kept(1, 1).await.unwrap().events.remove(0);
    assert_eq!(second.event.unwrap().data, Bytes::from_static(b"\0"));
    let expected = [1, 2, 3, 4, 5, 6, 7, 8].map(|position| (position, ![4, 5, 7].contains(&position)));
    assert_eq!(kept(&store).await, expected);
    let stream = store.read_kept_stream("a", 2, 3).await.unwrap();
    let found: Vec<_> = stream.iter().map(|one| (one.version, one.event.is_ok())).collect();
    assert_eq!(found, [(3, true), (4, false), (5, false)]);

    somebody.execute_batch("UPDATE words SET word = 'another' WHERE word = 'router'").unwrap();
    let first = store.read_kept(0, 1).await.unwrap().events.remove(0);
    assert_eq!(first.event.unwrap().metadata.actor, "another", "names are no better known than the rest");
}

#[tokio::test]
async fn a_page_of_the_file_that_is_none_any_more_costs_only_its_own_events() {
    const PAGE: usize = 4096;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("log.sqlite");
    let store = open(&file);
    for number in 0..6 {
        let mut one = padded("a", number, 3_000);
        one.events[0].data = Bytes::from(vec![b'a' + number as u8; 3_000]);
        append_one(&store, one).await.unwrap();
    }
    store.close();
    let mut bytes = std::fs::read(&file).unwrap();
    for letter in [b'c', b'd'] {
        let place = bytes.windows(100).position(|window| window == [letter; 100]).unwrap();
        bytes[place / PAGE * PAGE] = 0;
    }
    std::fs::write(&file, bytes).unwrap();
    let expected = [1, 2, 3, 4, 5, 6].map(|position| (position, ![3, 4].contains(&position)));
    assert_eq!(kept(&SqliteLogFile::open(&file).unwrap()).await, expected);
    let store = open(&file);
    assert_eq!(kept(&store).await, expected);

    let stream = store.read_kept_stream("a", 0, 10).await.unwrap();
    let found: Vec<_> = stream.iter().map(|one| (one.position, one.event.is_ok())).collect();
    assert_eq!(found, expected, "nor do they keep others of their stream from being read");
    assert!(stream.iter().all(|one| one.version == one.position));
    let two = store.read_kept_stream("a", 1, 2).await.unwrap();
    assert_eq!(two.iter().map(|one| one.version).collect::<Vec<_>>(), [2, 3]);
    assert!(store.read_kept_stream("a", 6, 2).await.unwrap().is_empty());
}
