//! The connection is lost: at every place of an append, and by silence.

use kite_event_store::postgres::PostgresOptions;
use kite_event_store::{
    AppendError, Batch, BatchMode, EventStore, Expected, PostgresEventStore, ReadError, RecordedEvent,
    StreamAppend,
};
use kite_testkit::postgres::Database;
use kite_testkit::proxy::{Proxy, Way};
use kite_testkit::wait::wait_until;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::support::{append, append_one, log_of};
use crate::{PATIENCE, append_until_answered, database, open, options};

/// Places in an append where it is cut, each way.
const PLACES: usize = 15;

/// A database, something between that can be cut, and a store over it.
async fn over_proxy() -> (Database, Proxy, PostgresEventStore) {
    let database = database().await;
    let proxy = Proxy::start(database.address()).unwrap();
    let store = open(&database.url_at(&proxy.address().to_string())).await;
    (database, proxy, store)
}

/// Two streams, together or one by one, with ids that no other round has.
fn batch(mode: BatchMode, round: u64) -> Batch {
    let number = round * 10;
    let appends = vec![
        append("a", Expected::Any, [number, number + 1]),
        append(&format!("b-{round}"), Expected::Version(0), [number + 2]),
    ];
    Batch { mode, appends }
}

/// In each mode, each way, over a connection that is there and over one that has yet to be made.
fn every_way() -> impl Iterator<Item = (BatchMode, Way, bool)> {
    let modes = [BatchMode::Independent, BatchMode::Guarded, BatchMode::Atomic];
    let ways = [(Way::There, true), (Way::There, false), (Way::Back, true), (Way::Back, false)];
    modes.into_iter().flat_map(move |mode| ways.map(|(way, is_connected)| (mode, way, is_connected)))
}

/// Leaves the store without a connection to write over.
async fn unconnected(store: &PostgresEventStore, proxy: &Proxy) {
    proxy.close();
    append_one(store, append("a", Expected::Any, [])).await.unwrap_err();
    proxy.open();
}

/// What is in the log of an append, seen past the proxy.
async fn written(direct: &PostgresEventStore, append: &StreamAppend) -> usize {
    let stream: Vec<RecordedEvent> = direct.read_stream(&append.stream, 0, usize::MAX).await.unwrap();
    append.events.iter().filter(|event| stream.iter().any(|read| read.id == event.id)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_an_append_is_cut_it_is_known_what_became_of_it_or_said_that_it_is_not() {
    let (database, proxy, store) = over_proxy().await;
    let direct = open(&database.url()).await;
    let mut round = 0;
    let (mut lost, mut unreached, mut lost_and_written) = (0, 0, 0);
    for (mode, way, is_connected) in every_way() {
        // How long one is that is not cut.
        if !is_connected {
            unconnected(&store, &proxy).await;
        }
        proxy.passed(way);
        round += 1;
        for answer in store.append(batch(mode, round)).await {
            answer.unwrap();
        }
        let bytes = proxy.passed(way);
        assert!(bytes > PLACES, "{bytes}");
        for place in (0..bytes).step_by(bytes / PLACES) {
            let case = (mode, way, is_connected, place);
            round += 1;
            let batch = batch(mode, round);
            if !is_connected {
                unconnected(&store, &proxy).await;
            }
            proxy.cut_after(way, place);
            let answers = store.append(batch.clone()).await;
            proxy.spare();
            for (append, answer) in batch.appends.iter().zip(&answers) {
                let written = written(&direct, append).await;
                let is_whole = written == append.events.len();
                match answer {
                    Ok(appended) => assert!(is_whole && !appended.repeated, "{case:?}"),
                    Err(AppendError::AnswerLost) => {
                        lost += 1;
                        lost_and_written += usize::from(is_whole);
                        assert!(is_whole || written == 0, "{case:?}");
                    }
                    Err(AppendError::Unavailable(_)) => {
                        unreached += 1;
                        assert_eq!(written, 0, "{case:?}");
                    }
                    Err(error) => panic!("{case:?}: {error:?}"),
                }
            }
            for append in batch.appends {
                append_until_answered(&store, append).await;
            }
        }
    }
    // The cuts were where they should be.
    assert!(lost > 0 && unreached > 0 && lost_and_written > 0, "{lost} {unreached} {lost_and_written}");
    let log = log_of(&direct).await;
    assert_eq!(log.len() as u64, round * 3, "each event once");
    assert!(store.stopped().borrow().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_for_a_while_loses_nothing() {
    let (_database, proxy, store) = over_proxy().await;
    append_until_answered(&store, append("a", Expected::Version(0), [1])).await;
    proxy.close();
    let refused = store.append(batch(BatchMode::Independent, 1)).await;
    for answer in refused {
        // What was under way when the connection ended, or what came after it.
        assert!(matches!(answer, Err(AppendError::Unavailable(_) | AppendError::AnswerLost)), "{answer:?}");
    }
    let refused = store.append(batch(BatchMode::Independent, 2)).await;
    for answer in refused {
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    }
    let read = store.read_stream("a", 0, 10).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    proxy.open();
    let (appended, _) = append_until_answered(&store, append("a", Expected::Version(1), [2])).await;
    assert_eq!(appended.version, 2);
    crate::until_head(&store, appended.position).await;
    assert_eq!(store.read_stream("a", 0, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_reached_and_says_nothing_keeps_nobody_waiting() {
    let database = database().await;
    let proxy = Proxy::start(database.address()).unwrap();
    let url = database.url_at(&proxy.address().to_string());
    let patience = Duration::from_secs(2);
    let store =
        PostgresEventStore::open(PostgresOptions { call_timeout: patience, ..options(&url) }).await.unwrap();
    let store = Arc::new(store);
    unconnected(&store, &proxy).await;
    proxy.hold();
    let mut waiting = JoinSet::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        waiting.spawn(async move { append_one(&*store, append("a", Expected::Any, [number])).await });
    }
    // Each by itself would take two seconds.
    let answers = tokio::time::timeout(Duration::from_secs(60), waiting.join_all()).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Err(AppendError::Unavailable(_)))), "{answers:?}");
    proxy.release();
    append_until_answered(&store, append("a", Expected::Version(0), [1_000])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_too_long_for_others_has_written_nothing_and_leaves_no_session_behind() {
    let database = database().await;
    let patience = Duration::from_millis(600);
    let options = PostgresOptions { call_timeout: patience, ..options(&database.url()) };
    let store = PostgresEventStore::open(options).await.unwrap();
    // Somebody holds the head for a while.
    let url = database.url();
    let held = JoinSet::from_iter([async move {
        let hold = "BEGIN; SELECT * FROM kite_log.head FOR UPDATE; SELECT pg_sleep(2); ROLLBACK";
        Database::attempt(&url, hold).await
    }]);
    let mut refused = 0;
    wait_until("a refusal", PATIENCE, async || {
        refused += 1;
        let answer = append_one(&store, append("a", Expected::Any, [1_000 + refused])).await;
        matches!(answer, Err(AppendError::Unavailable(_)))
    })
    .await
    .unwrap();
    held.join_all().await.into_iter().for_each(|held| held.unwrap());
    append_until_answered(&store, append("b", Expected::Version(0), [2])).await;
    let waiting = "DO $$ BEGIN ASSERT (SELECT count(*) = 0 FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'); END $$";
    database.execute(waiting).await;
    // The last of the first ones was refused, and is not in the log.
    assert_eq!(store.read_stream("a", 0, 10_000).await.unwrap().len() as u64, refused - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_is_lost_and_a_repeat_finds_out() {
    let database = database().await;
    let proxy = Proxy::start(database.address()).unwrap();
    let url = database.url_at(&proxy.address().to_string());
    let patience = Duration::from_millis(300);
    let store =
        PostgresEventStore::open(PostgresOptions { call_timeout: patience, ..options(&url) }).await.unwrap();
    append_until_answered(&store, append("a", Expected::Version(0), [1])).await;
    proxy.hold();
    let answer = append_one(&store, append("a", Expected::Version(1), [2])).await;
    assert_eq!(answer, Err(AppendError::AnswerLost));
    proxy.release();
    let (appended, _) = append_until_answered(&store, append("a", Expected::Version(1), [2])).await;
    assert_eq!(appended.version, 2);
    assert_eq!(log_of(&open(&database.url()).await).await.len(), 2);
}
