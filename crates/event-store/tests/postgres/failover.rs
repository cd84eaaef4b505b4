//! The primary dies and a standby takes its place.

use kite_event_store::postgres::{PostgresOptions, SCHEMA};
use kite_event_store::{AppendError, EventStore, Expected, PostgresEventStore, ReadError, describe};
use kite_testkit::postgres::{Database, Installation, Server};
use kite_testkit::proxy::Proxy;
use kite_testkit::wait::wait_until;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{append, append_one, id, log_of};
use crate::{PATIENCE, append_until_answered, open, options, server, until_head};

const WRITERS: u64 = 4;
/// Shorter than anybody waits for a server that can be reached and says nothing.
const SOON: Duration = Duration::from_secs(10);
/// So it is of a server whose standby has everything.
const HAS_ALL: &str = "SELECT bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication";

/// The database at either of two servers, whichever may be written to.
fn at_either(database: &Database, one: &Server, other: &Server) -> String {
    let [one, other] = [one, other].map(|server| server.address().port());
    database.url_at(&format!("localhost:{one},localhost:{other}"))
}

/// Several write while something happens to the server. What was acknowledged before and after it is in the log, each once and where it
/// was said to be.
async fn loses_nothing(store: PostgresEventStore, blow: impl FnOnce()) {
    let store = Arc::new(store);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (going_on, goes_on) = tokio::sync::watch::channel(true);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, acknowledged, goes_on) = (Arc::clone(&store), Arc::clone(&acknowledged), goes_on.clone());
        writers.spawn(async move {
            let (mut written, mut lost) = (Vec::new(), 0);
            for round in 0.. {
                if !*goes_on.borrow() {
                    break;
                }
                let number = round * WRITERS + writer;
                let next = append(&format!("s-{writer}"), Expected::Version(round), [number]);
                let (appended, was_lost) = append_until_answered(&store, next).await;
                written.push((number, appended.position));
                lost += u64::from(was_lost);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            (written, lost)
        });
    }
    let count = || acknowledged.load(Ordering::Relaxed);
    wait_until("writing", PATIENCE, async || count() > 200).await.unwrap();
    blow();
    let before = count();
    wait_until("writing again", PATIENCE, async || count() > before + 200).await.unwrap();
    going_on.send_replace(false);
    let mut written = Vec::new();
    let mut lost = 0;
    while let Some(ended) = writers.join_next().await {
        let (of_one, lost_of_one) = ended.unwrap();
        written.extend(of_one);
        lost += lost_of_one;
    }
    assert!(store.stopped().borrow().is_none());
    let log = log_of(&*store).await;
    assert_eq!(log.len(), written.len(), "each event once; {lost} answers were lost");
    for (number, position) in written {
        assert_eq!(log[position as usize - 1].id, id(number), "where it was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_when_a_synchronous_standby_takes_over() {
    let installation = Installation::from_environment().unwrap();
    let mut primary = Server::start(&installation, &[]).unwrap();
    let database = Database::on(&primary).await;
    SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap();
    let standby = primary.synchronous_standby().await.unwrap();
    let store = open(&at_either(&database, &primary, &standby)).await;
    loses_nothing(store, || {
        primary.kill().unwrap();
        standby.promote().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_when_a_server_is_killed_and_started_again() {
    let mut server = Server::start(&Installation::from_environment().unwrap(), &[]).unwrap();
    let database = Database::on(&server).await;
    SCHEMA.migrate(&crate::server(&database.url()), &[]).await.unwrap();
    let store = open(&database.url()).await;
    loses_nothing(store, || {
        server.kill().unwrap();
        server.start_again().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_has_lost_what_was_acknowledged_is_not_gone_on_with() {
    let installation = Installation::from_environment().unwrap();
    let mut primary = Server::start(&installation, &[]).unwrap();
    let database = Database::on(&primary).await;
    SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap();
    let between = Proxy::start(primary.address()).unwrap();
    let standby = primary.standby(between.address()).unwrap();
    let store = open(&at_either(&database, &primary, &standby)).await;
    append_one(&store, append("a", Expected::Version(0), [1])).await.unwrap();
    primary.wait_until(HAS_ALL).await.unwrap();
    between.close();
    append_one(&store, append("a", Expected::Version(1), [2])).await.unwrap();
    primary.kill().unwrap();
    standby.promote().unwrap();
    let stopped = wait_until("stopped", PATIENCE, async || {
        let answer = append_one(&store, append("a", Expected::Version(2), [3])).await;
        match answer {
            Err(AppendError::Stopped(reason)) => {
                let said = describe(&reason);
                assert!(said.contains("position 1") && said.contains("up to 2"), "{said}");
                true
            }
            Err(AppendError::AnswerLost | AppendError::Unavailable(_)) => false,
            answer => panic!("{answer:?}"),
        }
    });
    stopped.await.unwrap();
    assert!(store.stopped().borrow().is_some());
    assert!(store.has_lost_something());
    let read = store.read_stream("a", 0, 10).await;
    assert!(matches!(read, Err(ReadError::Stopped(_))), "{read:?}");
    // Whoever starts anew goes on with what there is.
    let anew = open(&at_either(&database, &primary, &standby)).await;
    assert_eq!(log_of(&anew).await.len(), 1);
    append_one(&anew, append("a", Expected::Version(1), [4])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_others_have_gone_on_with_after_it_had_gone_back_is_not_gone_on_with() {
    let database = crate::database().await;
    let between = Proxy::start(database.address()).unwrap();
    let store = open(&database.url_at(&between.address().to_string())).await;
    append_one(&store, append("a", Expected::Version(0), [1, 2])).await.unwrap();
    between.close();
    // As long as it was, but with something else at its end.
    database
        .execute(
            "DELETE FROM kite_log.events WHERE position = 2; UPDATE kite_log.streams SET version = 1;
             UPDATE kite_log.head SET position = 1",
        )
        .await;
    let other = open(&database.url()).await;
    append_one(&other, append("a", Expected::Version(1), [3])).await.unwrap();
    append_one(&other, append("a", Expected::Version(2), [4])).await.unwrap();
    between.open();
    let mut stopped = store.stopped();
    let reason = stopped.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let said = describe(&reason);
    assert!(said.contains("at position 2 of the log stands another event"), "{said}");
    let answer = append_one(&store, append("a", Expected::Any, [5])).await;
    assert!(matches!(answer, Err(AppendError::Stopped(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_alone_takes_no_appends_until_it_is_promoted() {
    let installation = Installation::from_environment().unwrap();
    let mut primary = Server::start(&installation, &[]).unwrap();
    let database = Database::on(&primary).await;
    SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap();
    let standby = primary.standby(primary.address()).unwrap();
    let store = open(&at_either(&database, &primary, &standby)).await;
    append_one(&store, append("a", Expected::Version(0), [1])).await.unwrap();
    primary.wait_until(HAS_ALL).await.unwrap();
    primary.kill().unwrap();
    let is_away = |answer: &Result<_, AppendError>| matches!(answer, Err(AppendError::Unavailable(_)));
    wait_until("away", PATIENCE, async || {
        is_away(&append_one(&store, append("a", Expected::Version(1), [2])).await)
    })
    .await
    .unwrap();
    for _ in 0..3 {
        let answer = append_one(&store, append("a", Expected::Version(1), [2])).await;
        assert!(is_away(&answer), "{answer:?}");
    }
    standby.promote().unwrap();
    let (appended, _) = append_until_answered(&store, append("a", Expected::Version(1), [2])).await;
    assert_eq!((appended.version, appended.position), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_says_nothing_keeps_nobody_from_the_one_that_answers() {
    let database = crate::database().await;
    // It can be reached, and nobody is there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = format!("{},{}", silent.local_addr().unwrap(), database.address());
    let working = async {
        let store = open(&database.url_at(&hosts)).await;
        append_one(&store, append("a", Expected::Version(0), [1])).await.unwrap();
        assert_eq!(store.read_stream("a", 0, 10).await.unwrap().len(), 1);
        // What another one writes is heard of.
        let other = open(&database.url()).await;
        append_one(&other, append("a", Expected::Version(1), [2])).await.unwrap();
        until_head(&store, 2).await;
        assert_eq!(log_of(&store).await.len(), 2);
    };
    timeout(SOON, working).await.expect("nobody waits for the one that says nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_server_falls_silent_another_one_is_written_to_and_read_from() {
    let database = crate::database().await;
    let [old, new] = [(); 2].map(|()| Proxy::start(database.address()).unwrap());
    new.close();
    let url = database.url_at(&format!("{},{}", old.address(), new.address()));
    let call_timeout = Duration::from_secs(1);
    let store = PostgresEventStore::open(PostgresOptions { call_timeout, ..options(&url) }).await.unwrap();
    append_one(&store, append("a", Expected::Version(0), [1])).await.unwrap();
    store.read_stream("a", 0, 10).await.unwrap();
    old.hold();
    new.open();
    let going_on = async {
        append_until_answered(&store, append("a", Expected::Version(1), [2])).await;
        store.read_stream("a", 0, 10).await.unwrap()
    };
    let read = timeout(SOON, going_on).await.expect("nobody waits for the one that says nothing");
    assert_eq!(read.len(), 2);
}
