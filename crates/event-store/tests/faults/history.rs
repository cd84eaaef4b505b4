//! What was appended, what was answered, and whether a log agrees with it.

use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, ReadError, RecordedEvent,
    SqliteEventStore, StreamAppend,
};
use std::collections::HashMap;
use std::path::Path;
use uuid::Uuid;

use crate::support::{append, append_one, log_of};

/// Every append of a store's life, in the order in which they were handed in.
#[derive(Default)]
pub(crate) struct History(Vec<Told>);

/// One append and its answer.
pub(crate) struct Told {
    append: StreamAppend,
    answer: Result<Appended, AppendError>,
    /// The batch that it was in, and its place there.
    mode: BatchMode,
    place: usize,
}

/// Appends a batch.
pub(crate) async fn tell(store: &SqliteEventStore, mode: BatchMode, appends: Vec<StreamAppend>) -> Vec<Told> {
    let answers = store.append(Batch::new(mode, appends.clone())).await;
    assert_eq!(answers.len(), appends.len(), "one answer for each append");
    let told =
        (0..).zip(appends).zip(answers).map(|((place, append), answer)| Told { append, answer, mode, place });
    told.collect()
}

/// A log that was read, and where in it each event stands.
struct Found {
    log: Vec<RecordedEvent>,
    places: HashMap<Uuid, usize>,
}

impl History {
    pub(crate) fn add(&mut self, told: Vec<Told>) {
        self.0.extend(told);
    }

    /// Appends alone, with this expectation, an event of this number.
    pub(crate) async fn append(
        &mut self,
        store: &SqliteEventStore,
        stream: &str,
        expected: Expected,
        number: u64,
    ) -> Result<Appended, AppendError> {
        let told = tell(store, BatchMode::Independent, vec![append(stream, expected, [number])]).await;
        let answer = told[0].answer.clone();
        self.add(told);
        answer
    }

    /// How many appends were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.0.iter().filter(|told| told.answer.is_ok()).count()
    }

    /// Everything acknowledged is read, stream by stream.
    pub(crate) async fn check_reads(&self, store: &SqliteEventStore) -> Result<(), ReadError> {
        for Told { append, answer, .. } in &self.0 {
            let Ok(appended) = answer else { continue };
            let count = append.events.len();
            let after = appended.version - count as u64;
            let read = store.read_stream(&append.stream, after, count).await?;
            let ids = append.events.iter().map(|event| event.id);
            assert!(read.iter().map(|event| event.id).eq(ids), "{} reads differently", append.stream);
        }
        Ok(())
    }

    /// Opens the log on a sound disk: what was acknowledged is there, nothing is there in part or twice or unasked
    /// for, and the log goes on as if nothing had happened.
    pub(crate) async fn check(&self, file: &Path, when: &str) {
        let store = SqliteEventStore::open(file, SqliteOptions::default())
            .unwrap_or_else(|error| panic!("{when}: the log cannot be opened again: {error}"));
        let found = Found::read(&store).await;
        let mut events = 0;
        let mut first_is_there = true;
        for told in &self.0 {
            let is_there = told.check(&found, when);
            if told.place == 0 {
                first_is_there = is_there;
            }
            let agrees = match told.mode {
                BatchMode::Independent => true,
                BatchMode::Guarded => first_is_there || !is_there,
                BatchMode::Atomic => first_is_there == is_there,
            };
            let stream = &told.append.stream;
            assert!(
                agrees,
                "{when}: of a batch ({:?}) the first is there: {first_is_there}, {stream}: {is_there}",
                told.mode
            );
            events += if is_there { told.append.events.len() } else { 0 };
        }
        assert_eq!(found.log.len(), events, "{when}: there are events that nobody appended");
        self.go_on(&store, &found, when).await;
        store.close();
        let connection = rusqlite::Connection::open(file).unwrap();
        let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok", "{when}");
    }

    /// Everybody tries again, as whoever got no answer would: it ends up in the log once.
    async fn go_on(&self, store: &SqliteEventStore, found: &Found, when: &str) {
        let mut events = 0;
        for Told { append, .. } in &self.0 {
            let before = found.places.get(&append.events[0].id);
            let again = append_one(store, append.clone()).await;
            let again = again.unwrap_or_else(|error| panic!("{when}: {} again: {error}", append.stream));
            assert_eq!(again.repeated, before.is_some(), "{when}: {} again", append.stream);
            if let Some(place) = before {
                let last = place + append.events.len();
                assert_eq!(again.position, last as u64, "{when}: {} moved", append.stream);
            }
            events += append.events.len();
        }
        let log = Found::read(store).await.log;
        assert_eq!(log.len(), events, "{when}: everything once");
        if let Some(Told { append: taken, .. }) = self.0.first() {
            let stale = append(&taken.stream, Expected::Version(0), [999_999]);
            let refused = append_one(store, stale).await;
            assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{when}: {refused:?}");
        }
        let fresh = append_one(store, append("fresh", Expected::Version(0), [999_998])).await;
        assert_eq!(fresh.map(|appended| appended.position), Ok(events as u64 + 1), "{when}");
    }
}

impl Told {
    /// Whether it is in the log; fails if the log does not agree with the answer.
    fn check(&self, found: &Found, when: &str) -> bool {
        let Self { append, answer, .. } = self;
        let stream = &append.stream;
        let places: Vec<_> = append.events.iter().filter_map(|event| found.places.get(&event.id)).collect();
        let is_there = !places.is_empty();
        assert!(!is_there || places.len() == append.events.len(), "{when}: {stream} is there in part");
        if is_there {
            let first = *places[0];
            for (event, recorded) in append.events.iter().zip(&found.log[first..]) {
                assert_eq!((event.id, stream), (recorded.id, &recorded.stream), "{when}: order");
                assert_eq!((&event.kind, &event.data), (&recorded.kind, &recorded.data), "{when}");
                assert_eq!(append.metadata, recorded.metadata, "{when}");
            }
        }
        match answer {
            Ok(appended) => {
                assert!(is_there, "{when}: {stream} was acknowledged, and is lost");
                let last = &found.log[places[0] + append.events.len() - 1];
                assert_eq!((appended.position, appended.version), (last.position, last.version), "{when}");
            }
            Err(AppendError::AnswerLost) => {}
            Err(error) => assert!(!is_there, "{when}: {stream} was refused ({error}), and is there"),
        }
        is_there
    }
}

impl Found {
    async fn read(store: &SqliteEventStore) -> Self {
        let log = log_of(store).await;
        let mut versions: HashMap<&str, u64> = HashMap::new();
        for event in &log {
            let version = versions.entry(&event.stream).or_default();
            *version += 1;
            assert_eq!(event.version, *version, "a gap in {}", event.stream);
        }
        let places: HashMap<_, _> = log.iter().enumerate().map(|(place, event)| (event.id, place)).collect();
        assert_eq!(places.len(), log.len(), "an event is in the log twice");
        Self { log, places }
    }
}
