//! Leases in a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use chrono::TimeDelta;
use kite_commands::lease::contract::{self, Ground};
use kite_commands::lease::{Acquired, LeaseError, Leases, POSTGRES_SCHEMA, PostgresLeases, Renewed, TERM};
use kite_postgres::{OpenError, Server};
use kite_testkit::postgres::Database;
use kite_testkit::proxy::{Place, Proxy, Way};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// Bind, Execute and Sync, each cut before it, within it and after it: a question that was asked before over the same connection.
const PLACES_OF_A_QUESTION: usize = 7;
/// What a client says to connect, and to prepare a question.
const MESSAGES_TO_PREPARE: usize = 7;
/// The epoch of a lease that was taken once.
const FIRST: u64 = 1;

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

/// What is asked of the leases, by one who is not the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// For a lease that nobody has.
    Acquire,
    /// For one that another has.
    AcquireTaken,
    Renew,
    Release,
    EndLife,
    Held,
}

impl Question {
    const ALL: [Self; 6] =
        [Self::Acquire, Self::AcquireTaken, Self::Renew, Self::Release, Self::EndLife, Self::Held];

    /// Who has the lease before it is asked, and who has it afterwards. Every answer says the latter.
    fn holders(self, lease: &str) -> [Option<String>; 2] {
        let one = Some(one(lease));
        match self {
            Self::Acquire => [None, one],
            Self::AcquireTaken => [Some("another".to_owned()), Some("another".to_owned())],
            Self::Renew | Self::Held => [one.clone(), one],
            Self::Release | Self::EndLife => [one, None],
        }
    }

    /// Asks it, and gives back who has the lease by the answer.
    async fn ask(self, leases: &PostgresLeases, lease: &str) -> Result<Option<String>, LeaseError> {
        let one = one(lease);
        match self {
            Self::Acquire | Self::AcquireTaken => {
                leases.acquire(lease, &one, TimeDelta::zero()).await.map(|acquired| match acquired {
                    Acquired::Granted(_) => Some(one),
                    Acquired::Taken { by, .. } => Some(by.to_string()),
                })
            }
            Self::Renew => {
                let renewed = leases.renew(lease, &one, FIRST).await?;
                Ok(matches!(renewed, Renewed::Granted(granted) if granted.epoch == FIRST).then_some(one))
            }
            Self::Release => leases.release(lease, &one, FIRST).await.map(|()| None),
            Self::EndLife => leases.end_life(&one).await.map(|()| None),
            Self::Held => holder(leases, lease).await,
        }
    }
}

/// The one who asks for a lease.
fn one(lease: &str) -> String {
    format!("one for {lease}")
}

/// Who has a lease.
async fn holder(leases: &PostgresLeases, lease: &str) -> Result<Option<String>, LeaseError> {
    let held = leases.held(lease).await?;
    Ok(held.into_iter().find(|held| held.lease == lease).map(|held| held.holder.to_string()))
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
async fn wherever_a_question_is_cut_it_is_done_once_or_not_and_asking_again_makes_it_sure() {
    let database = database().await;
    let proxy = Proxy::start(database.address()).unwrap();
    let cut = leases(database.url_at(&proxy.address().to_string())).await;
    let direct = leases(database.url()).await;
    direct.acquire("warm", "another", TimeDelta::zero()).await.unwrap();
    let ways = [(Way::There, true), (Way::There, false), (Way::Back, true), (Way::Back, false)];
    for (question, (way, is_connected)) in Question::ALL.into_iter().flat_map(|it| ways.map(|way| (it, way)))
    {
        let (mut places, mut done) = (0, 0);
        for place in Place::all() {
            let lease = format!("{question:?} {way:?} {is_connected} {place:?}");
            let holders = question.holders(&lease);
            if let Some(holder) = &holders[0] {
                direct.acquire(&lease, holder, TimeDelta::zero()).await.unwrap();
            }
            // Over a connection where it was asked before, or over one that has yet to be made.
            if is_connected {
                until_answered(async || question.ask(&cut, "warm").await).await;
            } else {
                // The last word of a connection that was given up before may be what is cut.
                proxy.cut_at(Way::There, Place::After(0));
                while question.ask(&cut, "warm").await.is_ok() {
                    proxy.cut_at(Way::There, Place::After(0));
                }
            }
            proxy.cut_at(way, place);
            let answer = question.ask(&cut, &lease).await;
            let is_cut = !proxy.spare();
            let found = holder(&direct, &lease).await.unwrap();
            match &answer {
                Ok(said) => assert_eq!([said, &found], [&holders[1], &holders[1]], "{lease}"),
                Err(_) => assert!(holders.contains(&found), "{lease}: {found:?}"),
            }
            done += usize::from(answer.is_err() && found == holders[1]);

            let again = until_answered(async || question.ask(&cut, &lease).await).await;
            assert_eq!(
                [&again, &holder(&direct, &lease).await.unwrap()],
                [&holders[1], &holders[1]],
                "{lease}"
            );
            // It was never taken by anybody else.
            let next = holders[1].as_deref().unwrap_or("the next");
            let acquired = direct.acquire(&lease, next, TimeDelta::zero()).await.unwrap();
            let epoch = if holders[1].is_some() { FIRST } else { FIRST + 1 };
            assert!(
                matches!(acquired, Acquired::Granted(granted) if granted.epoch == epoch),
                "{lease}: {acquired:?}"
            );
            // What was asked late is nothing to who has it by then.
            if holders[1].is_none() {
                question.ask(&cut, &lease).await.unwrap();
                assert_eq!(cut.renew(&lease, &one(&lease), FIRST).await.unwrap(), Renewed::Lost, "{lease}");
                assert_eq!(holder(&direct, &lease).await.unwrap().as_deref(), Some("the next"), "{lease}");
            }
            if !is_cut && answer.is_ok() {
                break;
            }
            places += usize::from(is_cut);
        }
        let places_min = PLACES_OF_A_QUESTION + if is_connected { 0 } else { 2 * MESSAGES_TO_PREPARE };
        assert!(places >= places_min, "{question:?} {way:?} {is_connected}: {places}");
        // An answer is on its way only when what it tells of is done.
        assert!(way == Way::There || done > 0, "{question:?} {is_connected}: none of {places} was done");
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_says_nothing_keeps_nobody_from_the_one_that_answers() {
    let database = database().await;
    // It can be reached, and nobody is there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = format!("{},{}", silent.local_addr().unwrap(), database.address());
    let working = async {
        let leases = leases(database.url_at(&hosts)).await;
        let acquired = leases.acquire("router", "a", TimeDelta::zero()).await;
        assert!(matches!(acquired, Ok(Acquired::Granted(_))), "{acquired:?}");
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), working).await;
    in_time.expect("nobody waits for the one that says nothing");
}
