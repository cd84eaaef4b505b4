//! What commits wait for: the disk, a standby, others that append.

use kite_event_store::postgres::{PostgresOptions, SCHEMA};
use kite_event_store::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, PostgresEventStore, ReadError, Urgency,
};
use kite_testkit::postgres::{Database, Installation, Server};
use kite_testkit::wait::wait_until;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{append, append_one, id, log_of};
use crate::{PATIENCE, append_until_answered, options, server, until_head};

/// The lock that whoever appends something ordinary waits for before the head.
const TURN: i64 = 7_739_845_413_354_368_871;

async fn open(url: &str, call_timeout: Duration) -> PostgresEventStore {
    PostgresEventStore::open(PostgresOptions { call_timeout, ..options(url) }).await.unwrap()
}

async fn append_urgent(store: &PostgresEventStore, number: u64) -> Result<Appended, AppendError> {
    let appends = vec![append(&format!("urgent-{number}"), Expected::Version(0), [number])];
    let batch = Batch { urgency: Urgency::Urgent, ..Batch::new(BatchMode::Independent, appends) };
    store.append(batch).await.pop().unwrap()
}

/// Which standbys each commit of the server waits for.
async fn wait_for_standbys(server: &Server, names: &str) {
    // Outside of a transaction, so each by itself.
    let names = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
    for sql in [&*names, "SELECT pg_reload_conf()"] {
        Database::attempt(&server.url("postgres"), sql).await.unwrap();
    }
    let now = "SELECT count(*) = 1 FROM pg_settings WHERE name = 'synchronous_standby_names' AND NOT pending_restart";
    server.wait_until(now).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_standby_is_away_what_is_durable_is_read_and_nothing_is_begun_and_no_sessions_pile_up() {
    const TRIES: u64 = 8;
    let primary = Server::start(&Installation::from_environment().unwrap(), &[]).unwrap();
    let database = Database::on(&primary).await;
    SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap();
    let store = open(&database.url(), Duration::from_secs(1)).await;
    append_until_answered(&store, append("a", Expected::Version(0), [1])).await;
    append_urgent(&store, 100).await.unwrap();
    wait_for_standbys(&primary, "away").await;

    // Each of the two sessions that are there commits once, and its answer is lost.
    wait_until("a lost answer", PATIENCE, async || {
        let answer = append_one(&store, append("a", Expected::Version(1), [2])).await;
        answer == Err(AppendError::AnswerLost)
    })
    .await
    .unwrap();
    wait_until("a lost answer", PATIENCE, async || {
        append_urgent(&store, 101).await == Err(AppendError::AnswerLost)
    })
    .await
    .unwrap();
    for number in 0..TRIES {
        let ordinary = append_one(&store, append("b", Expected::Any, [1_000 + number])).await;
        assert!(matches!(ordinary, Err(AppendError::Unavailable(_))), "{ordinary:?}");
        let urgent = append_urgent(&store, 2_000 + number).await;
        assert!(matches!(urgent, Err(AppendError::Unavailable(_))), "{urgent:?}");
        assert_eq!(store.read_stream("a", 0, 1).await.unwrap().len(), 1, "what is durable is read");
        if number < 2 {
            let read = store.read_stream("a", 0, 10).await;
            assert!(matches!(read, Err(ReadError::Unavailable(_))), "what is not is not told: {read:?}");
        }
    }
    // Two that would write, one that follows, and those that are just being given up.
    let few = "SELECT count(*) <= 6 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    primary.wait_until(few).await.unwrap();
    assert!(store.silent_for() < Duration::from_secs(30), "the server answers");
    assert!(store.stopped().borrow().is_none());

    wait_for_standbys(&primary, "").await;
    let (appended, _) = append_until_answered(&store, append("c", Expected::Version(0), [3])).await;
    until_head(&store, appended.position).await;
    assert_eq!(store.read_stream("a", 0, 10).await.unwrap().len(), 2);
    assert!(store.read_stream("b", 0, 10).await.unwrap().is_empty());
    let ids: Vec<_> = log_of(&store).await.iter().map(|event| event.id).collect();
    assert_eq!(ids, [1, 100, 2, 101, 3].map(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_wait_for_the_disk_has_failed_is_in_doubt() {
    let database = Database::make().await;
    let role = format!("instance_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    SCHEMA.migrate(&server(&database.url()), std::slice::from_ref(&role)).await.unwrap();
    let store = open(&database.url_for(&role, "secret"), Duration::from_secs(30)).await;
    append_until_answered(&store, append("a", Expected::Version(0), [1])).await;
    let waiting = "pg_catalog.pg_logical_emit_message(boolean, text, text)";
    database.execute(&format!("REVOKE EXECUTE ON FUNCTION {waiting} FROM PUBLIC")).await;
    let answer = append_one(&store, append("a", Expected::Version(1), [2])).await;
    assert_eq!(answer, Err(AppendError::AnswerLost), "it is written");
    let refused = append_one(&store, append("a", Expected::Version(2), [3])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    database.execute(&format!("GRANT EXECUTE ON FUNCTION {waiting} TO PUBLIC")).await;
    let (appended, _) = append_until_answered(&store, append("a", Expected::Version(1), [2])).await;
    assert!(appended.repeated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_its_turn_and_then_for_the_head_is_refused_in_time() {
    let database = crate::database().await;
    let patience = Duration::from_secs(6);
    let [first, second] =
        [open(&database.url(), patience).await, open(&database.url(), patience).await].map(Arc::new);
    let url = database.url();
    let held = JoinSet::from_iter([async move {
        let hold = "BEGIN; SELECT * FROM kite_log.head FOR UPDATE; SELECT pg_sleep(20); ROLLBACK";
        Database::attempt(&url, hold).await
    }]);
    let is_held = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    wait_until("the head held", PATIENCE, async || database.is_so(is_held).await).await.unwrap();
    let mut waiting = JoinSet::new();
    for (number, store) in (1..).zip([first, second]) {
        waiting.spawn(async move { append_one(&*store, append("a", Expected::Any, [number])).await });
    }
    for answer in waiting.join_all().await {
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_urgent_does_not_wait_for_its_turn() {
    let database = crate::database().await;
    let store = Arc::new(open(&database.url(), Duration::from_secs(60)).await);
    let url = database.url();
    let held = JoinSet::from_iter([async move {
        Database::attempt(&url, &format!("SELECT pg_advisory_lock({TURN}), pg_sleep(300)")).await
    }]);
    let is_held = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    wait_until("the turn held", PATIENCE, async || database.is_so(is_held).await).await.unwrap();
    let ordinary = {
        let store = Arc::clone(&store);
        JoinSet::from_iter([async move { append_one(&*store, append("a", Expected::Any, [1])).await }])
    };
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    wait_until("one that waits", PATIENCE, async || database.is_so(waits).await).await.unwrap();
    timeout(PATIENCE, append_urgent(&store, 2)).await.unwrap().unwrap();
    assert!(database.is_so(waits).await, "the other one still waits");
    drop((ordinary, held));
}
