//! The contract suite: every promise of [`crate::EventStore`], as functions that an adapter's tests call.
//!
//! Each takes an empty store. A violated promise panics with what was promised. Positions may have gaps in some
//! adapters, so they are compared with `<` only. Limits of a single adapter are tested beside it.

mod appending;
mod reading;
mod together;

pub use appending::*;
pub use reading::*;
pub use together::*;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use smol_str::{SmolStr, format_smolstr};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use crate::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, Filter, LogIndex, Metadata, NewEvent,
    Position, RecordedEvent, StreamAppend, Tail,
};

/// Runs the whole suite, each test on a store of its own.
pub async fn run_all(make: impl AsyncFn() -> Arc<dyn EventStore>) {
    an_append_comes_back_as_it_was(&*make().await).await;
    time_is_kept_in_milliseconds(&*make().await).await;
    expected_version_is_checked(&*make().await).await;
    any_version_is_taken(&*make().await).await;
    an_empty_batch_does_nothing(&*make().await).await;
    an_append_without_events_only_checks(&*make().await).await;
    a_conflict_harms_only_its_own_append(&*make().await).await;
    the_first_of_a_guarded_batch_decides(&*make().await).await;
    an_atomic_batch_is_written_whole_or_not(&*make().await).await;
    an_atomic_batch_is_fenced(&*make().await).await;
    appends_of_a_batch_see_each_other(&*make().await).await;
    a_repeat_is_recognised_whatever_it_expects(&*make().await).await;
    a_repeat_within_a_batch_is_recognised(&*make().await).await;
    a_repeat_gets_the_first_answer_after_the_stream_has_grown(&*make().await).await;
    a_partial_repeat_is_a_conflict(&*make().await).await;
    an_id_twice_in_an_append_is_a_conflict(&*make().await).await;
    an_id_of_another_stream_is_no_repeat(&*make().await).await;
    large_data_comes_back(&*make().await).await;
    a_batch_of_many_appends_is_written_whole(&*make().await).await;
    a_stream_is_read_in_pages(&*make().await).await;
    a_long_stream_is_read_at_once(&*make().await).await;
    the_log_is_read_in_pages(&*make().await).await;
    what_is_kept_is_what_was_appended(&*make().await).await;
    a_filter_passes_over_other_types(&*make().await).await;
    next_says_when_there_is_nothing_more(&*make().await).await;
    what_the_head_has_told_is_read(&*make().await).await;
    tails_are_read_together(&*make().await).await;
    events_after_a_position_are_counted(&*make().await).await;
    head_is_told_and_then_readable(&*make().await).await;
    a_live_tail_sees_everything_once(make().await).await;
    many_writers_on_many_streams_lose_nothing(make().await).await;
    many_writers_on_one_stream_take_turns(make().await).await;
    retries_at_the_same_time_are_written_once(make().await).await;
    readers_see_appends_whole_and_nothing_behind_them(make().await).await;
}

/// Tests the promises of a [`LogIndex`], each test on a store of its own.
pub async fn run_index<S: EventStore + LogIndex>(make: impl AsyncFn() -> Arc<S>) {
    a_correlation_is_read_across_streams(&*make().await).await;
    a_position_is_found_by_time(&*make().await).await;
}

/// A time-ordered id that depends on nothing but its number.
fn id(number: u64) -> Uuid {
    let mut rest = [7; 10];
    rest[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(1_780_000_000_000 + number / 1000, &rest).into_uuid()
}

/// The time that event `number` of a test has: a second apart.
fn time(number: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_780_000_000 + number as i64)
}

fn metadata(number: u64) -> Metadata {
    Metadata {
        time: time(number),
        tenant: Some("acme".into()),
        correlation: id(1_000_000 + number),
        causation: None,
        actor: "router".into(),
        traceparent: None,
    }
}

fn event(number: u64) -> NewEvent {
    event_of(number, "Happened")
}

fn event_of(number: u64, kind: &str) -> NewEvent {
    let data = Bytes::from(format!(r#"{{"number":{number}}}"#));
    NewEvent { id: id(number), kind: kind.into(), schema_version: 1, data }
}

/// An append of the events with these numbers; the first gives time and correlation.
fn append(stream: &str, expected: Expected, numbers: impl IntoIterator<Item = u64>) -> StreamAppend {
    let events: Vec<_> = numbers.into_iter().map(event).collect();
    let number = events.first().map_or(0, |event| {
        let bytes = event.id.as_bytes();
        u64::from_be_bytes(bytes[8..].try_into().expect("eight bytes")) & 0xffff_ffff
    });
    StreamAppend { stream: stream.into(), expected, metadata: metadata(number), events }
}

async fn append_all(
    store: &dyn EventStore,
    mode: BatchMode,
    appends: Vec<StreamAppend>,
) -> Vec<Result<Appended, AppendError>> {
    let count = appends.len();
    let results = store.append(Batch::new(mode, appends)).await;
    assert_eq!(results.len(), count, "there is one result for each append");
    results
}

async fn append_one(store: &dyn EventStore, append: StreamAppend) -> Result<Appended, AppendError> {
    let mut results = append_all(store, BatchMode::Independent, vec![append]).await;
    results.pop().expect("one result for one append")
}

/// Appends what must succeed.
async fn given(store: &dyn EventStore, append: StreamAppend) -> Appended {
    append_one(store, append).await.expect("the append is in order")
}

async fn stream_of(store: &dyn EventStore, stream: &str) -> Vec<RecordedEvent> {
    store.read_stream(stream, 0, usize::MAX).await.expect("the stream can be read")
}

/// The whole log after a position, in pages of `limit`.
async fn log_after(
    store: &dyn EventStore,
    after: Position,
    limit: usize,
    filter: &Filter,
) -> Vec<RecordedEvent> {
    let mut events = Vec::new();
    let mut position = after;
    loop {
        let page = store.read_all(position, limit, filter).await.expect("the log can be read");
        assert!(page.events.len() <= limit, "a page holds at most the limit");
        assert!(page.next >= position, "a reader never goes back");
        assert!(page.events.last().is_none_or(|last| last.position <= page.next), "next covers the page");
        if page.next == position {
            assert!(page.events.is_empty(), "next moves with the events");
            return events;
        }
        position = page.next;
        events.extend(page.events);
    }
}

async fn whole_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    log_after(store, 0, 1000, &Filter::everything()).await
}

fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<Uuid> {
    numbers.into_iter().map(id).collect()
}

/// Fails a test that waits for ever.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

fn stream_name(number: u64) -> SmolStr {
    format_smolstr!("lot-{}-{number}", id(number).simple())
}
