//! Appends are visible before they are on the disk, and nobody is told of them until they are.

use chrono::{DateTime, Utc};
use kite_event_store::postgres::{PostgresOptions, SCHEMA};
use kite_event_store::{
    AppendError, Attention, EventStore, Expected, Filter, LogIndex, PostgresEventStore, ReadError,
    RecordedEvent, Tail,
};
use kite_testkit::postgres::{Database, Installation, Server};
use std::time::Duration;
use uuid::Uuid;

use crate::support::{append, append_one, id, log_of};
use crate::{append_until_answered, open, options, until_head};

/// Nothing but a session that waits for it brings the log to the disk.
const LAZY: [&str; 2] = ["wal_writer_delay=10s", "checkpoint_timeout=1h"];
/// An append whose process died before it had waited for the disk may be there after all, if something else was written.
const TRIES: u64 = 20;

async fn server() -> (Server, Database) {
    let server = Server::start(&Installation::from_environment().unwrap(), &LAZY).unwrap();
    let database = Database::on(&server).await;
    SCHEMA.migrate(&crate::server(&database.url()), &[]).await.unwrap();
    (server, database)
}

/// What a process does that dies between its append and the disk. Returns how far the disk has to be for it.
async fn append_and_die(database: &Database, event: Uuid) -> String {
    let sql = format!(
        "SET synchronous_commit = off;
         SELECT * FROM kite_log.append(ARRAY[0], ARRAY[0::smallint], ARRAY['a'], ARRAY[NULL::bigint], ARRAY[1], ARRAY[0::bigint],
             ARRAY[NULL::text], ARRAY['tester'], ARRAY['{event}'::uuid], ARRAY[NULL::uuid], ARRAY[NULL::bytea], ARRAY[1], ARRAY[1],
             ARRAY['{event}'::uuid], ARRAY['Happened'], ARRAY[1], ARRAY['{{}}'::bytea])"
    );
    Database::attempt(&database.url(), &sql).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    let asking = async move { client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await };
    tokio::join!(asking, connection).0.unwrap().get(0)
}

/// A store that looks at the log once, when it begins, and then only when it is asked. Whoever looks waits for the disk.
async fn open_unlooking(server: &Server, database: &Database) -> PostgresEventStore {
    let options = PostgresOptions { look_every: Duration::from_secs(3_600), ..options(&database.url()) };
    let store = PostgresEventStore::open(options).await.unwrap();
    let has_looked = "SELECT count(*) = 1 FROM pg_stat_activity
         WHERE application_name = 'kite log' AND state = 'idle' AND query LIKE 'SELECT log_id%'";
    server.wait_until(has_looked).await.unwrap();
    store
}

fn crash(server: &mut Server) {
    server.kill().unwrap();
    server.start_again().unwrap();
}

/// The ways to learn of an event.
#[derive(Debug, Clone, Copy)]
enum Way {
    TailsOfStreams,
    Stream,
    Log,
    LogOfOneKind,
    LogAsKept,
    StreamAsKept,
    Correlation,
    Time,
    /// An append that was refused by it.
    Refusal,
    /// The answer that it stands there already.
    Repeat,
    /// Told, and read by whoever follows.
    Told,
    /// Only told how far the log is.
    ToldHowFar,
}

const WAYS: [Way; 12] = [
    Way::TailsOfStreams,
    Way::Stream,
    Way::Log,
    Way::LogOfOneKind,
    Way::LogAsKept,
    Way::StreamAsKept,
    Way::Correlation,
    Way::Time,
    Way::Refusal,
    Way::Repeat,
    Way::Told,
    Way::ToldHowFar,
];

/// How many events there are after this position, and in the stream after this version, learned in this way.
async fn learn(
    way: Way,
    store: &PostgresEventStore,
    after: u64,
    after_version: u64,
    event: Uuid,
) -> Result<usize, ReadError> {
    let everything = Filter::everything();
    Ok(match way {
        Way::TailsOfStreams => store.read_many(&[Tail { stream: "a", after_version }], 10).await?[0].len(),
        Way::Stream => store.read_stream("a", after_version, 10).await?.len(),
        Way::Log => store.read_all(after, 10, &everything).await?.events.len(),
        Way::LogOfOneKind => {
            // Whoever looks for others has passed over it.
            let page = store.read_all(after, 10, &Filter::kinds(["Other"])).await?;
            usize::try_from(page.next - after).unwrap()
        }
        Way::LogAsKept => store.read_kept(after, 10).await?.events.len(),
        Way::StreamAsKept => store.read_kept_stream("a", after_version, 10).await?.len(),
        Way::Correlation => store.read_correlation(event, 0, 10).await?.len(),
        // Everything is from before that.
        Way::Time => usize::try_from(store.position_before(DateTime::<Utc>::MAX_UTC).await? - after).unwrap(),
        Way::Refusal => {
            let answer = append_one(store, append("a", Expected::Version(after_version), [900])).await;
            usize::from(answer == Err(AppendError::Conflict { actual: after_version + 1 }))
        }
        Way::Repeat => {
            let mut repeat = append("a", Expected::Version(after_version), [900]);
            repeat.events[0].id = event;
            usize::from(append_one(store, repeat).await.unwrap().repeated)
        }
        Way::Told | Way::ToldHowFar => {
            until_head(store, after + 1).await;
            usize::try_from(*store.head().borrow() - after).unwrap()
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_or_told_survives_a_crash_although_its_writer_did_not_wait_for_the_disk() {
    let (mut server, database) = server().await;
    let mut known: Vec<RecordedEvent> = Vec::new();
    for (number, way) in (1..).zip(WAYS) {
        let store = match way {
            Way::Told | Way::ToldHowFar => open(&database.url()).await,
            _ => open_unlooking(&server, &database).await,
        };
        let _following =
            matches!(way, Way::Told).then(|| store.follow(Attention::Close(Filter::everything())));
        // Nobody has written that much; whoever asks for it learns nothing of what is there.
        assert!(store.read_all(u64::MAX, 1, &Filter::everything()).await.unwrap().events.is_empty());
        assert!(store.read_kept(u64::MAX / 4, 1).await.unwrap().events.is_empty());
        let durable_from = append_and_die(&database, id(number)).await;
        let learned = learn(way, &store, known.len() as u64, number - 1, id(number)).await.unwrap();
        assert_eq!(learned, 1, "{way:?}");
        let is_durable = format!("SELECT pg_current_wal_flush_lsn() >= '{durable_from}'");
        assert!(database.is_so(&is_durable).await, "{way:?}");
        crash(&mut server);
        known = log_of(&open(&database.url()).await).await;
        assert_eq!(known.last().map(|event| event.id), Some(id(number)), "{way:?}");
        // It has seen nothing that is gone, and goes on.
        append_until_answered(&store, append("b", Expected::Any, [1_000 + number])).await;
        assert!(!store.has_lost_something(), "{way:?}");
        store.close().await;
        known = log_of(&open(&database.url()).await).await;
    }
}

/// Without this the test above would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_was_told_of_may_be_gone_after_a_crash() {
    let (mut server, database) = server().await;
    for number in 1..=TRIES {
        append_and_die(&database, id(number)).await;
        crash(&mut server);
        let log = log_of(&open(&database.url()).await).await;
        if log.iter().all(|event| event.id != id(number)) {
            return;
        }
    }
    panic!("{TRIES} events were on the disk although nobody had waited for that");
}
