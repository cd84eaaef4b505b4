//! What holds when many write and read at once.

use super::*;
use std::collections::{BTreeMap, HashMap};
use tokio::task::JoinSet;

/// Whoever is told of a position can read it.
pub async fn head_is_told_and_then_readable(store: &dyn EventStore) {
    let mut head = store.head();
    assert_eq!(*head.borrow_and_update(), 0);
    let refused = append_one(store, append("a", Expected::Version(5), [1])).await;
    assert!(refused.is_err());
    assert!(!head.has_changed().expect("the store is open"), "nothing was written, so nothing is told");

    let done = given(store, append("a", Expected::Any, [2, 3])).await;
    in_time("the head to move", head.wait_for(|head| *head >= done.position))
        .await
        .expect("the store is open");
    assert_eq!(*head.borrow(), done.position, "the head is the last position");
    assert_eq!(*store.head().borrow(), done.position, "also for those who come later");
    assert_eq!(ids(&whole_log(store).await), numbered([2, 3]));
}

/// Wait for the head, read what is there, wait again: every event once, in order, while writers continue.
pub async fn a_live_tail_sees_everything_once(store: Arc<dyn EventStore>) {
    const EVENTS: u64 = 400;
    let mut tasks = JoinSet::new();
    let writer = Arc::clone(&store);
    tasks.spawn(async move {
        for number in 0..EVENTS {
            given(&*writer, append(&stream_name(number % 7), Expected::Any, [number])).await;
        }
    });
    let mut head = store.head();
    let mut seen = Vec::new();
    let mut position = 0;
    while seen.len() < EVENTS as usize {
        let known = in_time("an event", head.wait_for(|head| *head > position)).await;
        let known = *known.expect("the store is open");
        let page = store.read_all(position, 16, &Filter::everything()).await.expect("the log can be read");
        assert!(page.next > position, "what the head told of ({known}) can be read after {position}");
        position = page.next;
        seen.extend(page.events);
    }
    tasks.join_all().await;
    assert_eq!(ids(&seen), numbered(0..EVENTS));
}

/// Everything that was answered with `Ok` is there once, in the order of its stream and of the log.
pub async fn many_writers_on_many_streams_lose_nothing(store: Arc<dyn EventStore>) {
    const WRITERS: u64 = 24;
    const APPENDS: u64 = 20;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let stream = stream_name(writer);
            let mut last = Appended { version: 0, position: 0, repeated: false };
            for number in 0..APPENDS {
                let first = (writer * APPENDS + number) * 2;
                let next = append(&stream, Expected::Version(last.version), [first, first + 1]);
                let done = given(&*store, next).await;
                assert_eq!(done.version, last.version + 2);
                assert!(done.position > last.position);
                last = done;
            }
            (stream, last)
        });
    }
    let finished = writers.join_all().await;
    let log = whole_log(&*store).await;
    assert_eq!(log.len() as u64, WRITERS * APPENDS * 2);
    assert!(log.is_sorted_by(|earlier, later| earlier.position < later.position));
    let mut by_stream: HashMap<_, Vec<_>> = HashMap::new();
    for event in &log {
        by_stream.entry(event.stream.clone()).or_default().push(event.clone());
    }
    for (stream, last) in finished {
        let events = stream_of(&*store, &stream).await;
        assert_eq!(Some(&events), by_stream.get(&stream), "stream and log say the same");
        assert_eq!(
            events.last().map(|event| (event.version, event.position)),
            Some((last.version, last.position))
        );
    }
    let last = log[log.len() - 1].position;
    in_time("the head", store.head().wait_for(|head| *head == last)).await.expect("the store is open");
}

/// Of those who expect the same version one wins; the others get the current version.
pub async fn many_writers_on_one_stream_take_turns(store: Arc<dyn EventStore>) {
    const WRITERS: u64 = 16;
    const APPENDS: u64 = 8;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let (mut version, mut number) = (0, 0);
            while number < APPENDS {
                let next = append("a", Expected::Version(version), [writer * APPENDS + number]);
                match append_one(&*store, next).await {
                    Ok(done) => {
                        assert_eq!((done.version, done.repeated), (version + 1, false));
                        version = done.version;
                        number += 1;
                    }
                    Err(AppendError::Conflict { actual }) => {
                        assert!(actual > version, "a conflict means that another was first");
                        version = actual;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        });
    }
    in_time("the writers", writers.join_all()).await;
    let events = stream_of(&*store, "a").await;
    let mut written = ids(&events);
    written.sort_unstable();
    assert_eq!(written, numbered(0..WRITERS * APPENDS));
    assert!((1..).zip(&events).all(|(version, event)| event.version == version));
}

/// One append, tried by several at once, is written once and answered alike.
pub async fn retries_at_the_same_time_are_written_once(store: Arc<dyn EventStore>) {
    for round in 0..20 {
        let mut tries = JoinSet::new();
        for expected in
            [Expected::Version(round * 2), Expected::Version(round * 2), Expected::Any, Expected::Any]
        {
            let store = Arc::clone(&store);
            tries.spawn(
                async move { given(&*store, append("a", expected, [round * 2, round * 2 + 1])).await },
            );
        }
        let answers = tries.join_all().await;
        assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1, "one of them wrote");
        let places: BTreeMap<_, _> = answers.iter().map(|answer| (answer.version, answer.position)).collect();
        assert_eq!(places.len(), 1, "all are told the same place");
    }
    assert_eq!(ids(&stream_of(&*store, "a").await), numbered(0..40));
}

/// Readers beside writers see each append whole, and never find anything behind what they have seen.
pub async fn readers_see_appends_whole_and_nothing_behind_them(store: Arc<dyn EventStore>) {
    const WRITERS: u64 = 8;
    const APPENDS: u64 = 30;
    const TOTAL: usize = (WRITERS * APPENDS * 3) as usize;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in 0..APPENDS {
                let first = (writer * APPENDS + number) * 3;
                given(&*store, append(&stream_name(writer), Expected::Any, first..first + 3)).await;
            }
        });
    }
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        let store = Arc::clone(&store);
        readers.spawn(async move {
            let mut head = store.head();
            let mut seen: Vec<RecordedEvent> = Vec::new();
            while seen.len() < TOTAL {
                let position = seen.last().map_or(0, |last| last.position);
                in_time("an event", head.wait_for(|head| *head > position)).await.expect("the store is open");
                let page = store.read_all(position, 5000, &Filter::everything()).await;
                seen.extend(page.expect("the log can be read").events);
                let stream = stream_of(&*store, &stream_name(0)).await;
                assert_eq!(stream.len() % 3, 0, "a stream never shows part of an append");
            }
            seen
        });
    }
    writers.join_all().await;
    let log = whole_log(&*store).await;
    for seen in readers.join_all().await {
        assert_eq!(seen, log, "read while it was written, and read afterwards");
    }
}
