//! Several processes on one log.

use kite_event_store::postgres::{PostgresOptions, SCHEMA};
use kite_event_store::{
    AppendError, Attention, EventStore, Expected, Filter, PostgresEventStore, StreamAppend,
};
use kite_testkit::postgres::Database;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::support::{append, append_one, log_of};
use crate::{database, open, options, server, until_head};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_have_no_gaps_and_nothing_appears_behind_a_reader_however_many_write() {
    const STORES: u64 = 3;
    const WRITERS: u64 = 4;
    const ROUNDS: u64 = 25;
    let database = database().await;
    let total = STORES * WRITERS * ROUNDS * 2;
    let follower = open(&database.url()).await;
    let mut following = JoinSet::new();
    following.spawn(async move {
        let (mut seen, mut position, mut head) = (Vec::new(), 0, follower.head());
        while (seen.len() as u64) < total {
            let page = follower.read_all(position, 100, &Filter::everything()).await.unwrap();
            if page.next == position {
                head.wait_for(|head| *head > position).await.unwrap();
            }
            position = page.next;
            seen.extend(page.events);
        }
        seen
    });
    let mut writers = JoinSet::new();
    for store in 0..STORES {
        let opened = Arc::new(open(&database.url()).await);
        for writer in 0..WRITERS {
            let opened = Arc::clone(&opened);
            writers.spawn(async move {
                for round in 0..ROUNDS {
                    let number = ((store * WRITERS + writer) * ROUNDS + round) * 2;
                    // All write to a stream of their own and to one for all.
                    let stream = if round % 2 == 0 { "all".to_owned() } else { format!("{store}-{writer}") };
                    append_one(&*opened, append(&stream, Expected::Any, [number, number + 1])).await.unwrap();
                }
            });
        }
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let seen = following.join_next().await.unwrap().unwrap();
    assert_eq!(seen, log_of(&open(&database.url()).await).await);
    let mut ids: Vec<_> = seen.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len() as u64, total);
}

#[tokio::test]
async fn of_two_that_expect_the_same_version_one_is_refused_and_told_where_the_stream_is() {
    let database = database().await;
    let (first, second) = (open(&database.url()).await, open(&database.url()).await);
    for version in 0..20 {
        let one = append("a", Expected::Version(version), [version * 2]);
        let other = append("a", Expected::Version(version), [version * 2 + 1]);
        let (one, other) = tokio::join!(append_one(&first, one), append_one(&second, other));
        let refused = if one.is_ok() { &other } else { &one };
        assert_eq!(refused, &Err(AppendError::Conflict { actual: version + 1 }));
        assert!(one.is_ok() != other.is_ok());
    }
}

#[tokio::test]
async fn what_one_has_written_is_told_to_the_others() {
    let database = database().await;
    let (first, second) = (open(&database.url()).await, open(&database.url()).await);
    let appended = append_one(&first, append("a", Expected::Any, [1, 2, 3])).await.unwrap();
    until_head(&second, appended.position).await;
    assert_eq!(second.count_after(1), 2);
    assert_eq!(log_of(&second).await.len(), 3);
}

#[tokio::test]
async fn a_store_that_is_closed_has_written_what_waited() {
    let database = database().await;
    let store: Arc<PostgresEventStore> = Arc::new(open(&database.url()).await);
    let mut waiting = JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        waiting.spawn(async move { append_one(&*store, append("a", Expected::Any, [number])).await });
    }
    tokio::task::yield_now().await;
    let mut head = store.head();
    store.close().await;
    // Who waits for the head hears that there will be nothing more.
    while tokio::time::timeout(crate::PATIENCE, head.changed()).await.unwrap().is_ok() {}
    let mut written = 0;
    while let Some(answer) = waiting.join_next().await {
        match answer.unwrap() {
            Ok(_) => written += 1,
            Err(error) => assert!(matches!(error, AppendError::Stopped(_)), "{error:?}"),
        }
    }
    assert!(written > 0);
    assert_eq!(log_of(&open(&database.url()).await).await.len(), written);
    let late = append_one(&*store, append("a", Expected::Any, [99])).await;
    assert!(matches!(late, Err(AppendError::Stopped(_))), "{late:?}");
}

#[tokio::test]
async fn however_closely_a_process_follows_it_hears_of_all_that_others_write() {
    let database = database().await;
    let (store, other) = (open(&database.url()).await, open(&database.url()).await);
    let everything = Filter::everything();
    let mut position = 0;
    let close = |filter| Some(Attention::Close(filter));
    let degrees = [
        None,
        Some(Attention::Steady),
        close(Filter::everything()),
        // Of what nobody waits for it hears all the same.
        close(Filter::kinds(["of-another-kind"])),
        None,
    ];
    for attention in degrees {
        let _following = attention.clone().map(|attention| store.follow(attention));
        for number in position..position + 20 {
            append_one(&other, append("a", Expected::Any, [number])).await.unwrap();
        }
        until_head(&store, position + 20).await;
        let page = store.read_told(position, 100, &everything).await.unwrap();
        assert_eq!((page.events.len(), page.next), (20, position + 20), "{attention:?}");
        position = page.next;
        let end = store.read_told(position, 100, &everything).await.unwrap();
        assert_eq!((end.events.len(), end.next), (0, position));
    }
}

fn of_kind(kind: &str, number: u64) -> StreamAppend {
    let mut one = append("a", Expected::Any, [number]);
    one.events[0].kind = kind.into();
    one
}

/// One that hears of others only by what it is woken by.
async fn open_unlooking(database: &Database) -> PostgresEventStore {
    let look_every = Duration::from_secs(3_600);
    PostgresEventStore::open(PostgresOptions { look_every, ..options(&database.url()) }).await.unwrap()
}

#[tokio::test]
async fn what_somebody_waits_for_is_told_at_once_with_all_before_it() {
    let database = database().await;
    let (store, other) = (open_unlooking(&database).await, open(&database.url()).await);
    let _following = store.follow(Attention::Close(Filter::kinds(["Awaited", "AlsoAwaited"])));
    let mut number = 0;
    for kind in ["Awaited", "AlsoAwaited"] {
        number += 1;
        append_one(&other, of_kind("Happened", number)).await.unwrap();
        number += 1;
        let awaited = append_one(&other, of_kind(kind, number)).await.unwrap();
        until_head(&store, awaited.position).await;
    }
    // Its own, after some that it has not read.
    append_one(&other, of_kind("Happened", number + 1)).await.unwrap();
    let own = append_one(&store, of_kind("Awaited", number + 2)).await.unwrap();
    until_head(&store, own.position).await;
    assert_eq!(log_of(&store).await, log_of(&other).await);
}

#[tokio::test]
async fn a_log_whose_functions_are_those_of_an_earlier_program_is_followed_too() {
    let database = database().await;
    let says_kinds =
        "SELECT pg_get_functiondef('kite_log.append'::regproc) LIKE '%string_agg(DISTINCT e.kind%'";
    database
        .execute(
            "DO $$ BEGIN EXECUTE regexp_replace(pg_get_functiondef('kite_log.append'::regproc),
                'SELECT string_agg.*? END\\);', 'PERFORM pg_notify(''kite_log'', head_now::text);'); END $$",
        )
        .await;
    assert!(!database.is_so(says_kinds).await);
    let (store, other) = (open_unlooking(&database).await, open(&database.url()).await);
    let _following = store.follow(Attention::Close(Filter::kinds(["Awaited"])));
    // It does not say what was written: that may be something.
    let appended = append_one(&other, of_kind("Happened", 1)).await.unwrap();
    until_head(&store, appended.position).await;
    SCHEMA.migrate(&server(&database.url()), &[]).await.unwrap();
    assert!(database.is_so(says_kinds).await, "a migration brings the functions of this program");
    let appended = append_one(&other, of_kind("Awaited", 2)).await.unwrap();
    until_head(&store, appended.position).await;
}
