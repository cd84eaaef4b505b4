//! The connection is lost: at every message of an append and of its repeat, and by silence.

use kite_event_store::postgres::PostgresOptions;
use kite_event_store::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, LogIndex, PostgresEventStore, ReadError,
    StreamAppend,
};
use kite_testkit::postgres::Database;
use kite_testkit::proxy::{Place, Proxy, Way};
use kite_testkit::wait::wait_until;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::support::{append, append_one, log_of};
use crate::{PATIENCE, append_until_answered, database, open, options};

/// Bind, Execute and Sync of the call, and the Query that waits for the disk, each cut before it, within it and after it, over a
/// connection that is there.
const PLACES_OF_A_CALL: usize = 9;
/// What a client says to connect, to look at the server, to prepare the call and to look at the log.
const MESSAGES_TO_CONNECT: usize = 50;

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
    Batch::new(mode, appends)
}

/// Leaves the store without a connection to write over.
async fn unconnected(store: &PostgresEventStore, proxy: &Proxy) {
    proxy.close();
    append_one(store, append("a", Expected::Any, [])).await.unwrap_err();
    proxy.open();
}

/// In each mode, each way, over a connection that is there and over one that has yet to be made.
fn every_way() -> impl Iterator<Item = (BatchMode, Way, bool)> {
    let modes = [BatchMode::Independent, BatchMode::Guarded, BatchMode::Atomic];
    let ways = [(Way::There, true), (Way::There, false), (Way::Back, true), (Way::Back, false)];
    modes.into_iter().flat_map(move |mode| ways.map(|(way, is_connected)| (mode, way, is_connected)))
}

/// A store whose appends are cut, and one past the cuts.
struct Ground {
    _database: Database,
    proxy: Proxy,
    store: PostgresEventStore,
    direct: PostgresEventStore,
    round: u64,
    seen: Seen,
}

/// What became of the appends that were cut.
#[derive(Debug, Default)]
struct Seen {
    unreached: usize,
    lost: usize,
    lost_and_written: usize,
}

impl Ground {
    async fn new() -> Self {
        let (database, proxy, store) = over_proxy().await;
        let direct = open(&database.url()).await;
        unconnected(&store, &proxy).await;
        // What follows the log is connected when it has heard of this; the rest is what is written over.
        let (appended, _) = append_until_answered(&direct, append("first", Expected::Any, [0])).await;
        crate::until_head(&store, appended.position).await;
        proxy.leave_alone();
        Self { _database: database, proxy, store, direct, round: 0, seen: Seen::default() }
    }

    /// Cuts one batch after the other, each one place further than the one before, until one is not cut any more. Of each so many
    /// appends are in the log already. Gives back at how many places there was a cut.
    async fn cut_at_every_place(
        &mut self,
        (way, is_connected): (Way, bool),
        before: usize,
        mut batch: impl FnMut(u64) -> Batch,
    ) -> usize {
        let mut places = 0;
        for place in Place::all() {
            self.round += 1;
            let batch = batch(self.round);
            let mut known = Vec::new();
            for append in &batch.appends[..before] {
                known.push(append_one(&self.direct, append.clone()).await.unwrap());
            }
            self.connect(is_connected).await;
            self.proxy.cut_at(way, place);
            let answers = self.store.append(batch.clone()).await;
            let is_cut = !self.proxy.spare();
            let known = known.into_iter().map(Some).chain(std::iter::repeat(None));
            for ((append, answer), known) in batch.appends.into_iter().zip(answers).zip(known) {
                assert!(is_cut || answer.is_ok(), "{place:?}: {answer:?}");
                let case = format!(
                    "{:?} {way:?} {is_connected} {place:?} {}: {answer:?}",
                    batch.mode, append.stream
                );
                self.judge(append, answer, known, &case).await;
            }
            if !is_cut {
                break;
            }
            places += 1;
        }
        places
    }

    /// Leaves the store with a connection over which nothing is on its way any more, or with none.
    async fn connect(&self, is_connected: bool) {
        let asking = append("a", Expected::Any, []);
        if is_connected {
            append_until_answered(&self.store, asking).await;
        } else {
            // The last word of a connection that was given up before may be what is cut.
            self.proxy.cut_at(Way::There, Place::After(0));
            while append_one(&self.store, asking.clone()).await.is_ok() {
                self.proxy.cut_at(Way::There, Place::After(0));
            }
        }
    }

    /// Whether an answer is right, by what stands in the log, now and when it is asked for again. The append may have been known to
    /// be there before.
    async fn judge(
        &mut self,
        append: StreamAppend,
        answer: Result<Appended, AppendError>,
        known: Option<Appended>,
        case: &str,
    ) {
        let there = self.standing(&append).await;
        match answer {
            Ok(answered) => {
                assert_eq!(there, Some((answered.version, answered.position)), "{case}");
                assert_eq!(answered.repeated, known.is_some(), "{case}");
            }
            Err(AppendError::AnswerLost) => {
                self.seen.lost += 1;
                self.seen.lost_and_written += usize::from(there.is_some());
            }
            Err(AppendError::Unavailable(_)) => {
                self.seen.unreached += 1;
                assert_eq!(there.is_some(), known.is_some(), "{case}");
            }
            Err(_) => panic!("{case}"),
        }
        let was_unreached = matches!(answer, Err(AppendError::Unavailable(_)));
        let (again, was_lost) = append_until_answered(&self.store, append.clone()).await;
        let place = (again.version, again.position);
        assert_eq!(self.standing(&append).await, Some(place), "{case}");
        if let Some(known) = known {
            assert_eq!(place, (known.version, known.position), "{case}");
        }
        if known.is_some() || there.is_some() {
            assert!(again.repeated, "{case}");
        } else if was_unreached {
            // Nor did it come later.
            assert!(!again.repeated || was_lost, "{case}");
        }
    }

    /// Where an append stands in the log: its last event. It is there as a whole, or not at all.
    async fn standing(&self, append: &StreamAppend) -> Option<(u64, u64)> {
        let found = self.direct.read_correlation(append.metadata.correlation, 0, 10).await.unwrap();
        let last = found.last()?;
        let is_it = found.iter().map(|event| event.id).eq(append.events.iter().map(|event| event.id));
        assert!(is_it, "whole, and once: {found:?}");
        Some((last.version, last.position))
    }

    /// Each event of each round is in the log, once.
    async fn conclude(self, per_round: u64) -> Seen {
        assert_eq!(log_of(&self.direct).await.len() as u64, 1 + self.round * per_round);
        assert!(self.store.stopped().borrow().is_none());
        self.seen
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_an_append_is_cut_it_is_known_what_became_of_it_or_said_that_it_is_not() {
    let mut ground = Ground::new().await;
    for (mode, way, is_connected) in every_way() {
        let places = ground.cut_at_every_place((way, is_connected), 0, |round| batch(mode, round)).await;
        let places_min = if is_connected { PLACES_OF_A_CALL } else { 2 * MESSAGES_TO_CONNECT };
        assert!(places >= places_min, "{mode:?} {way:?} {is_connected}: {places}");
    }
    let seen = ground.conclude(3).await;
    assert!(seen.lost > 0 && seen.unreached > 0 && seen.lost_and_written > 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_repeat_is_cut_nothing_is_written_again_and_where_it_stands_is_told_when_it_is_known() {
    let mut ground = Ground::new().await;
    // A repeat is noticed by its ids or, where a version is expected, by that; and something new may be beside it.
    let by_versions = |mode, round: u64| {
        let mut batch = batch(mode, round);
        batch.appends[0] = append(&format!("c-{round}"), Expected::Version(0), [round * 10, round * 10 + 1]);
        batch
    };
    // The question where it stands is prepared, and asked, after the call.
    let places_min = 3 * PLACES_OF_A_CALL - 2;
    for (mode, way, is_connected) in every_way() {
        let case = format!("{mode:?} {way:?} {is_connected}");
        let way = (way, is_connected);
        if is_connected {
            for places in [
                ground.cut_at_every_place(way, 2, |round| batch(mode, round)).await,
                ground.cut_at_every_place(way, 2, |round| by_versions(mode, round)).await,
                ground.cut_at_every_place(way, 1, |round| batch(mode, round)).await,
            ] {
                assert!(places >= places_min, "{case}: {places}");
            }
        } else if mode == BatchMode::Independent {
            // A connection is made for all of them in the same way.
            let places = ground.cut_at_every_place(way, 2, |round| batch(mode, round)).await;
            assert!(places >= 2 * MESSAGES_TO_CONNECT + places_min, "{case}: {places}");
        }
    }
    let seen = ground.conclude(3).await;
    assert!(seen.lost > 0 && seen.unreached > 0 && seen.lost_and_written > 0, "{seen:?}");
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
    let none_waits = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert!(database.is_so(none_waits).await);
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
