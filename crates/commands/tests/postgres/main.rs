//! Leases in a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use chrono::TimeDelta;
use kite_commands::lease::contract::{self, Ground};
use kite_commands::lease::{Acquired, LeaseError, Leases, POSTGRES_SCHEMA, PostgresLeases, Renewed, TERM};
use kite_postgres::{OpenError, Server};
use kite_testkit::postgres::Database;
use kite_testkit::proxy::{Proxy, Way};
use std::sync::Arc;

/// Places in a question at which it is cut, each way.
const PLACES: usize = 12;

async fn database() -> Database {
    let database = Database::make().await;
    POSTGRES_SCHEMA.migrate(&server(database.url()), &[]).await.unwrap();
    database
}

fn server(url: String) -> Server {
    Server { url, tls: None }
}

async fn leases(url: String) -> PostgresLeases {
    PostgresLeases::open(&server(url), TERM).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_keep_what_every_adapter_promises() {
    contract::run_all(async || {
        let database = Arc::new(database().await);
        let leases = Arc::new(leases(database.url()).await);
        // Time that has passed is time that is taken off what is left.
        let pass = move |time: TimeDelta| {
            let database = Arc::clone(&database);
            let sql = format!(
                "UPDATE kite_leases.leases SET ends_at = ends_at - {} * interval '1 millisecond'",
                time.num_milliseconds()
            );
            async move { database.execute(&sql).await }
        };
        Ground::new(leases, TERM, pass)
    })
    .await;
}

#[tokio::test]
async fn they_are_shared_by_all_who_know_the_server() {
    let database = database().await;
    let (one, other) = (leases(database.url()).await, leases(database.url()).await);
    let Acquired::Granted(held) = one.acquire("router", "a", TimeDelta::zero()).await.unwrap() else {
        panic!("it is free")
    };
    let taken = other.acquire("router", "b", TimeDelta::zero()).await.unwrap();
    assert!(matches!(taken, Acquired::Taken { by, .. } if by == "a"));
    one.release("router", "a", held.epoch).await.unwrap();
    let taken = other.acquire("router", "b", TimeDelta::zero()).await.unwrap();
    assert!(matches!(taken, Acquired::Granted(again) if again.epoch > held.epoch));
}

#[tokio::test]
async fn whoever_is_known_to_have_ended_holds_nothing_any_more() {
    let database = database().await;
    let leases = leases(database.url()).await;
    for (lease, holder) in [("router", "a"), ("share/1", "a"), ("share/2", "b")] {
        leases.acquire(lease, holder, TimeDelta::zero()).await.unwrap();
    }
    leases.end_life("a").await.unwrap();
    for (lease, is_free) in [("router", true), ("share/1", true), ("share/2", false)] {
        // Even for those who would wait for what a lost holder had begun.
        let acquired = leases.acquire(lease, "c", TERM).await.unwrap();
        assert_eq!(matches!(acquired, Acquired::Granted(_)), is_free, "{lease}: {acquired:?}");
    }
}

#[tokio::test]
async fn what_has_been_over_for_a_day_is_forgotten_when_somebody_comes() {
    let database = database().await;
    let first = leases(database.url()).await;
    for (lease, hours) in [("over for long", 25), ("over since yesterday", 23)] {
        first.acquire(lease, "a", TimeDelta::zero()).await.unwrap();
        let sql = format!(
            "UPDATE kite_leases.leases SET ends_at = now() - {hours} * interval '1 hour' WHERE name = '{lease}'"
        );
        database.execute(&sql).await;
    }
    let held = leases(database.url()).await.held("").await.unwrap();
    assert_eq!(held.iter().map(|held| &*held.lease).collect::<Vec<_>>(), ["over since yesterday"]);
}

#[tokio::test]
async fn where_there_is_no_table_they_are_not_opened() {
    let database = Database::make().await;
    let refused = PostgresLeases::open(&server(database.url()), TERM).await.err().unwrap();
    assert!(matches!(refused, OpenError::NotMade { schema: "kite_leases" }), "{refused:?}");
}

#[tokio::test]
async fn an_instance_needs_no_more_than_to_change_rows() {
    let database = Database::make().await;
    let role = format!("lease_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    let owner = server(database.url());
    POSTGRES_SCHEMA.migrate(&owner, std::slice::from_ref(&role)).await.unwrap();
    let url = database.url_for(&role, "secret");
    let leases = leases(url.clone()).await;
    let Acquired::Granted(held) = leases.acquire("router", "a", TimeDelta::zero()).await.unwrap() else {
        panic!("it is free")
    };
    assert!(matches!(leases.renew("router", "a", held.epoch).await, Ok(Renewed::Granted(_))));
    leases.release("router", "a", held.epoch).await.unwrap();
    assert!(Database::attempt(&url, "DROP TABLE kite_leases.leases").await.is_err());
    assert!(Database::attempt(&url, "UPDATE kite_leases.shape SET number = 0").await.is_err());
}

/// Asks until there is an answer.
async fn until_answered<T>(mut ask: impl AsyncFnMut() -> Result<T, LeaseError>) -> T {
    for _ in 0..1_000 {
        if let Ok(answer) = ask().await {
            return answer;
        }
    }
    panic!("the server is there, and does not answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_question_is_cut_it_is_asked_again_and_nobody_else_has_got_it() {
    let database = database().await;
    let proxy = Proxy::start(database.address()).unwrap();
    let cut = leases(database.url_at(&proxy.address().to_string())).await;
    let other = leases(database.url()).await;
    let mut unavailable = 0;
    for way in [Way::There, Way::Back] {
        for place in 0..PLACES {
            let lease = format!("{way:?}-{place}");
            let mut ask = async |bytes: usize| {
                proxy.cut_after(way, bytes);
                let first = cut.acquire(&lease, "a", TimeDelta::zero()).await;
                proxy.spare();
                unavailable += usize::from(first.is_err());
                first
            };
            // A first one over a connection that is there, a second one over another that is made for it.
            let answers = [ask(place * 12).await, ask(place * 60).await];
            let granted = until_answered(async || cut.acquire(&lease, "a", TimeDelta::zero()).await).await;
            let Acquired::Granted(held) = granted else { panic!("{lease}: nobody else has it") };
            for answer in answers.into_iter().flatten() {
                assert_eq!(answer, Acquired::Granted(held), "{lease}: it was never another's");
            }
            let taken = other.acquire(&lease, "b", TimeDelta::zero()).await.unwrap();
            assert!(matches!(taken, Acquired::Taken { by, .. } if by == "a"), "{lease}");

            proxy.cut_after(way, place * 12);
            let renewed = cut.renew(&lease, "a", held.epoch).await;
            proxy.spare();
            assert!(!matches!(renewed, Ok(Renewed::Lost)), "{lease}");
            let renewed = until_answered(async || cut.renew(&lease, "a", held.epoch).await).await;
            assert_eq!(renewed, Renewed::Granted(held), "{lease}");

            proxy.cut_after(way, place * 12);
            let _ = cut.release(&lease, "a", held.epoch).await;
            proxy.spare();
            until_answered(async || cut.release(&lease, "a", held.epoch).await).await;
            let taken = other.acquire(&lease, "b", TimeDelta::zero()).await.unwrap();
            assert!(matches!(taken, Acquired::Granted(_)), "{lease}: it was given back");
            assert_eq!(cut.renew(&lease, "a", held.epoch).await.unwrap(), Renewed::Lost, "{lease}");
        }
    }
    assert!(unavailable > PLACES, "the cuts are where they should be: {unavailable}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_not_waited_for_longer_than_is_of_use() {
    let database = database().await;
    let proxy = Proxy::start(database.address()).unwrap();
    let held_back = leases(database.url_at(&proxy.address().to_string())).await;
    held_back.acquire("router", "a", TimeDelta::zero()).await.unwrap();
    proxy.hold();
    let answer = held_back.acquire("router", "a", TimeDelta::zero()).await;
    assert!(matches!(answer, Err(LeaseError::Unavailable(_))), "{answer:?}");
    proxy.release();
    until_answered(async || held_back.acquire("router", "a", TimeDelta::zero()).await).await;
}
