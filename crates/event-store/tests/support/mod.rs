//! Short ways to append and to read everything.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, Filter, Metadata, NewEvent, RecordedEvent,
    SqliteEventStore, StreamAppend,
};
use std::path::Path;
use uuid::Uuid;

pub(crate) fn open(file: &Path) -> SqliteEventStore {
    SqliteEventStore::open(file, SqliteOptions::default()).unwrap()
}

/// A time-ordered id that depends on nothing but its number.
pub(crate) fn id(number: u64) -> Uuid {
    let mut rest = [3; 10];
    rest[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(1_780_000_000_000 + number / 1000, &rest).into_uuid()
}

/// Events with these numbers, a millisecond apart from append to append.
pub(crate) fn append(
    stream: &str,
    expected: Expected,
    numbers: impl IntoIterator<Item = u64>,
) -> StreamAppend {
    let numbers: Vec<_> = numbers.into_iter().collect();
    let first = numbers.first().copied().unwrap_or_default();
    let event = |number| NewEvent {
        id: id(number),
        kind: "Happened".into(),
        schema_version: 1,
        data: Bytes::from(format!(r#"{{"number":{number}}}"#)),
    };
    StreamAppend {
        stream: stream.into(),
        expected,
        metadata: Metadata {
            time: DateTime::from_timestamp(1_780_000_000, 0).unwrap() + TimeDelta::milliseconds(first as i64),
            tenant: Some("acme".into()),
            correlation: id(1_000_000_000 + first),
            causation: None,
            actor: "router".into(),
            traceparent: None,
        },
        events: numbers.into_iter().map(event).collect(),
    }
}

pub(crate) async fn append_one(
    store: &impl EventStore,
    append: StreamAppend,
) -> Result<Appended, AppendError> {
    let batch = Batch::new(BatchMode::Independent, vec![append]);
    store.append(batch).await.pop().unwrap()
}

/// The whole log; fails if there is a gap between positions.
pub(crate) async fn log_of(store: &impl EventStore) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    let mut position = 0;
    loop {
        let page = store.read_all(position, 500, &Filter::everything()).await.unwrap();
        if page.next == position {
            assert!(
                (1..).zip(&events).all(|(position, event)| event.position == position),
                "a gap in the log"
            );
            return events;
        }
        position = page.next;
        events.extend(page.events);
    }
}
