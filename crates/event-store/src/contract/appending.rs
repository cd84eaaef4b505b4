//! What an append promises.

use super::*;
use crate::trace_parent::TraceParent;

/// Every field comes back, whatever characters are in it, from each way of reading.
pub async fn an_append_comes_back_as_it_was(store: &dyn EventStore) {
    let data = Bytes::from(r#"{"text":"인증번호 ﷽ 🪁 \u0000 \" '; DROP TABLE events"}"#);
    let plain = NewEvent { id: id(1), kind: "Accepted".into(), schema_version: 1, data: data.clone() };
    let odd =
        NewEvent { id: id(2), kind: "발송-접수".into(), schema_version: u16::MAX, data: Bytes::new() };
    let with_all = Metadata {
        time: time(1) + TimeDelta::milliseconds(123),
        tenant: Some("고객사".into()),
        correlation: id(90),
        causation: Some(id(91)),
        actor: "key:담당자".into(),
        traceparent: TraceParent::new([0xab; 16], [0xcd; 8], 1),
    };
    let without = Metadata {
        tenant: None,
        causation: None,
        correlation: Uuid::nil(),
        traceparent: None,
        ..with_all.clone()
    };
    let longest = "s".repeat(255);
    let appends = vec![
        StreamAppend {
            stream: longest.as_str().into(),
            expected: Expected::Version(0),
            metadata: with_all.clone(),
            events: vec![plain.clone(), odd.clone()],
        },
        StreamAppend {
            stream: "relay-1".into(),
            expected: Expected::Version(0),
            metadata: without.clone(),
            events: vec![event(3)],
        },
    ];
    for result in append_all(store, BatchMode::Independent, appends).await {
        assert!(!result.expect("the append is in order").repeated);
    }

    let log = whole_log(store).await;
    assert_eq!(log.len(), 3);
    for (recorded, (version, new)) in log.iter().zip([(1, &plain), (2, &odd)]) {
        assert_eq!((recorded.stream.as_str(), recorded.version), (longest.as_str(), version));
        let same = (recorded.id, &recorded.kind, recorded.schema_version, &recorded.data);
        assert_eq!(same, (new.id, &new.kind, new.schema_version, &new.data));
        assert_eq!(recorded.metadata, with_all);
    }
    assert_eq!(log[2].metadata, without);
    assert_eq!(stream_of(store, &longest).await, log[..2]);
}

/// Fractions of a millisecond are cut off, for all readers alike.
pub async fn time_is_kept_in_milliseconds(store: &dyn EventStore) {
    let mut fine = append("a", Expected::Any, [1]);
    fine.metadata.time = time(1) + TimeDelta::nanoseconds(987_654_321);
    given(store, fine).await;
    let expected = time(1) + TimeDelta::milliseconds(987);
    assert_eq!(stream_of(store, "a").await[0].metadata.time, expected);
    assert_eq!(whole_log(store).await[0].metadata.time, expected);
}

/// `Version(n)` is taken only by a stream of n events.
pub async fn expected_version_is_checked(store: &dyn EventStore) {
    let refused = append_one(store, append("a", Expected::Version(1), [1])).await;
    assert_eq!(refused, Err(AppendError::Conflict { actual: 0 }), "there is no such stream yet");

    let first = given(store, append("a", Expected::Version(0), [2, 3])).await;
    assert_eq!((first.version, first.repeated), (2, false));
    for wrong in [0, 1, 3, u64::MAX] {
        let refused = append_one(store, append("a", Expected::Version(wrong), [4])).await;
        assert_eq!(refused, Err(AppendError::Conflict { actual: 2 }), "expected {wrong}");
    }
    let second = given(store, append("a", Expected::Version(2), [5])).await;
    assert_eq!(second.version, 3);
    assert!(second.position > first.position);
    let stream = stream_of(store, "a").await;
    assert_eq!(ids(&stream), numbered([2, 3, 5]), "what was refused is not there");
    assert_eq!(stream.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((stream[1].position, stream[2].position), (first.position, second.position));
}

/// `Any` appends to whatever is there.
pub async fn any_version_is_taken(store: &dyn EventStore) {
    assert_eq!(given(store, append("a", Expected::Any, [1])).await.version, 1);
    assert_eq!(given(store, append("a", Expected::Any, [2, 3])).await.version, 3);
    assert_eq!(ids(&stream_of(store, "a").await), numbered(1..=3));
}

/// No appends: no results, and nothing happens.
pub async fn an_empty_batch_does_nothing(store: &dyn EventStore) {
    assert!(append_all(store, BatchMode::Atomic, Vec::new()).await.is_empty());
    assert_eq!(*store.head().borrow(), 0);
    assert!(whole_log(store).await.is_empty());
}

/// An append without events checks its expectation and leaves nothing behind.
pub async fn an_append_without_events_only_checks(store: &dyn EventStore) {
    let none: [u64; 0] = [];
    let checked = given(store, append("a", Expected::Version(0), none)).await;
    assert_eq!((checked.version, checked.repeated), (0, true));
    given(store, append("a", Expected::Version(0), [1])).await;
    let refused = append_one(store, append("a", Expected::Version(0), none)).await;
    assert_eq!(refused, Err(AppendError::Conflict { actual: 1 }));
    assert_eq!(given(store, append("a", Expected::Any, none)).await.version, 1);
    assert_eq!(whole_log(store).await.len(), 1);
}

/// Appends of an independent batch stand alone.
pub async fn a_conflict_harms_only_its_own_append(store: &dyn EventStore) {
    given(store, append("b", Expected::Any, [1])).await;
    let results = append_all(
        store,
        BatchMode::Independent,
        vec![
            append("a", Expected::Version(0), [2]),
            append("b", Expected::Version(0), [3, 4]),
            append("c", Expected::Version(0), [5]),
        ],
    )
    .await;
    assert!(results[0].is_ok());
    assert_eq!(results[1], Err(AppendError::Conflict { actual: 1 }));
    assert!(results[2].is_ok());
    let mut written = ids(&whole_log(store).await);
    written.sort_unstable();
    assert_eq!(written, numbered([1, 2, 5]));
}

/// If the first of a guarded batch is refused, nothing of it is written; otherwise the others are independent.
pub async fn the_first_of_a_guarded_batch_decides(store: &dyn EventStore) {
    let guarded = async |first, appends: Vec<StreamAppend>| {
        append_all(store, BatchMode::Guarded, [vec![first], appends].concat()).await
    };
    let others = || {
        vec![
            append("b", Expected::Version(0), [2]),
            append("c", Expected::Version(7), [3]),
            append("d", Expected::Any, [4]),
        ]
    };
    let refused = guarded(append("a", Expected::Version(7), [1]), others()).await;
    let conflict = Err(AppendError::Conflict { actual: 0 });
    assert_eq!(refused[0], conflict);
    assert!(refused[1..].iter().all(|other| *other == Err(AppendError::NotTried)), "{refused:?}");
    assert!(whole_log(store).await.is_empty());

    let taken = guarded(append("a", Expected::Version(0), [1]), others()).await;
    assert!(taken[0].is_ok() && taken[1].is_ok() && taken[3].is_ok(), "{taken:?}");
    assert_eq!(taken[2], conflict, "it harms only itself");
    let mut written = ids(&whole_log(store).await);
    written.sort_unstable();
    assert_eq!(written, numbered([1, 2, 4]));

    let again = guarded(append("a", Expected::Version(0), [1]), vec![append("c", Expected::Any, [3])]).await;
    assert!(again[0].as_ref().is_ok_and(|first| first.repeated), "a repeat is no refusal");
    assert!(again[1].as_ref().is_ok_and(|second| !second.repeated));
}

/// All of an atomic batch is written, or nothing; if one was refused, the others were not tried.
pub async fn an_atomic_batch_is_written_whole_or_not(store: &dyn EventStore) {
    if !store.is_atomic_over_streams() {
        return an_atomic_batch_is_refused(store).await;
    }
    given(store, append("b", Expected::Any, [1])).await;
    let batch = |expected| {
        vec![
            append("a", Expected::Version(0), [2, 3]),
            append("new", Expected::Any, [4]),
            append("b", Expected::Version(expected), [5]),
            append("a", Expected::Version(2), [6]),
        ]
    };
    for expected in [0, 2] {
        let refused = append_all(store, BatchMode::Atomic, batch(expected)).await;
        let not_tried = Err(AppendError::NotTried);
        let conflict = Err(AppendError::Conflict { actual: 1 });
        assert_eq!(refused, [not_tried.clone(), not_tried.clone(), conflict, not_tried]);
        assert_eq!(ids(&whole_log(store).await), numbered([1]), "nothing of it is there");
        assert!(stream_of(store, "a").await.is_empty());
    }
    // A stream that was moved on more than once before another one was refused.
    let moved = vec![
        append("a", Expected::Version(0), [2]),
        append("a", Expected::Version(1), [3]),
        append("b", Expected::Version(1), [4]),
        append("b", Expected::Version(2), [5]),
        append("c", Expected::Version(1), [6]),
    ];
    let refused = append_all(store, BatchMode::Atomic, moved).await;
    assert_eq!(refused.last(), Some(&Err(AppendError::Conflict { actual: 0 })));
    assert!(stream_of(store, "a").await.is_empty());
    assert_eq!(stream_of(store, "b").await.len(), 1);
    // Two of one id in a stream, in two appends.
    let twice = vec![append("a", Expected::Version(0), [2]), append("a", Expected::Version(1), [7, 2])];
    let refused = append_all(store, BatchMode::Atomic, twice).await;
    assert_eq!(refused, [Err(AppendError::NotTried), Err(AppendError::Conflict { actual: 1 })]);

    let first = append_all(store, BatchMode::Atomic, batch(1)).await;
    assert!(first.iter().all(|answer| answer.as_ref().is_ok_and(|done| !done.repeated)), "{first:?}");
    let log = whole_log(store).await;
    assert_eq!(ids(&log), numbered(1..=6), "in the order of the batch");
    let again = append_all(store, BatchMode::Atomic, batch(1)).await;
    for (again, first) in again.into_iter().zip(first) {
        assert_eq!(again, first.map(|first| Appended { repeated: true, ..first }));
    }
    assert_eq!(whole_log(store).await, log);
    assert_eq!(given(store, append("new", Expected::Version(1), [8])).await.version, 2);
}

/// Where an engine cannot do that, it says so and writes nothing; a single append is atomic everywhere.
async fn an_atomic_batch_is_refused(store: &dyn EventStore) {
    let none: [u64; 0] = [];
    let two = vec![append("a", Expected::Version(0), [1]), append("b", Expected::Version(0), [2])];
    let fenced = vec![append("fence", Expected::Version(0), none), append("a", Expected::Any, [3])];
    for batch in [two, fenced] {
        let refused = append_all(store, BatchMode::Atomic, batch).await;
        assert!(refused.iter().all(|answer| *answer == Err(AppendError::NotAtomic)), "{refused:?}");
    }
    assert!(whole_log(store).await.is_empty());
    let one = append_all(store, BatchMode::Atomic, vec![append("a", Expected::Version(0), [1, 2])]).await;
    assert_eq!(one[0].as_ref().map(|done| done.version), Ok(2));
}

/// An append without events is a condition of an atomic batch, and writes nothing.
pub async fn an_atomic_batch_is_fenced(store: &dyn EventStore) {
    if !store.is_atomic_over_streams() {
        return an_atomic_batch_is_refused(store).await;
    }
    let none: [u64; 0] = [];
    given(store, append("fence", Expected::Version(0), [1])).await;
    let fenced = |version, number| {
        vec![append("fence", Expected::Version(version), none), append("a", Expected::Any, [number])]
    };
    let taken = append_all(store, BatchMode::Atomic, fenced(1, 2)).await;
    assert_eq!(taken[0].as_ref().map(|fence| (fence.version, fence.repeated)), Ok((1, true)));
    assert_eq!(taken[1].as_ref().map(|done| done.version), Ok(1));
    given(store, append("fence", Expected::Version(1), [3])).await;
    let refused = append_all(store, BatchMode::Atomic, fenced(1, 4)).await;
    assert_eq!(refused, [Err(AppendError::Conflict { actual: 2 }), Err(AppendError::NotTried)]);
    assert_eq!(ids(&whole_log(store).await), numbered(1..=3));
}

/// The version check takes earlier appends of the same batch into account.
pub async fn appends_of_a_batch_see_each_other(store: &dyn EventStore) {
    let results = append_all(
        store,
        BatchMode::Independent,
        vec![
            append("a", Expected::Version(0), [1]),
            append("a", Expected::Version(0), [2]),
            append("a", Expected::Version(1), [3]),
        ],
    )
    .await;
    assert_eq!(results[0].as_ref().map(|first| first.version), Ok(1));
    assert_eq!(results[1], Err(AppendError::Conflict { actual: 1 }));
    assert_eq!(results[2].as_ref().map(|third| third.version), Ok(2));
    let positions: Vec<_> = whole_log(store).await.iter().map(|event| event.position).collect();
    assert!(positions.is_sorted_by(|earlier, later| earlier < later));
}

/// The same events again are answered as the first time, and are not written again.
pub async fn a_repeat_is_recognised_whatever_it_expects(store: &dyn EventStore) {
    given(store, append("a", Expected::Any, [1])).await;
    let first = given(store, append("a", Expected::Version(1), [2, 3])).await;
    for expected in [Expected::Version(1), Expected::Any, Expected::Version(3), Expected::Version(40)] {
        let again = append_one(store, append("a", expected, [2, 3])).await;
        assert_eq!(again, Ok(Appended { repeated: true, ..first }), "expected {expected:?}");
    }
    let suffix = given(store, append("a", Expected::Version(2), [3])).await;
    assert!(suffix.repeated, "the last event alone stands there too");
    assert_eq!(ids(&whole_log(store).await), numbered(1..=3));
    assert_eq!(given(store, append("a", Expected::Version(3), [4])).await.version, 4);
}

/// The same append twice in a batch is written once.
pub async fn a_repeat_within_a_batch_is_recognised(store: &dyn EventStore) {
    let twice = vec![append("a", Expected::Version(0), [1, 2]), append("a", Expected::Version(0), [1, 2])];
    let results = append_all(store, BatchMode::Independent, twice).await;
    let first = results[0].clone().expect("the first is in order");
    assert!(!first.repeated);
    assert_eq!(results[1], Ok(Appended { repeated: true, ..first }));
    assert_eq!(whole_log(store).await.len(), 2);
}

/// Version and position of a repeat are those of the first time.
pub async fn a_repeat_gets_the_first_answer_after_the_stream_has_grown(store: &dyn EventStore) {
    let first = given(store, append("a", Expected::Version(0), [1, 2])).await;
    given(store, append("b", Expected::Any, [10])).await;
    given(store, append("a", Expected::Version(2), [3])).await;
    let again = given(store, append("a", Expected::Version(0), [1, 2])).await;
    assert_eq!(again, Appended { repeated: true, ..first });
}

/// Some of the events, or another order: not a repeat, and nothing is written.
pub async fn a_partial_repeat_is_a_conflict(store: &dyn EventStore) {
    given(store, append("a", Expected::Any, [1, 2])).await;
    for numbers in [vec![1, 2, 3], vec![2, 1], vec![1, 3], vec![3, 1], vec![2, 3]] {
        for expected in [Expected::Version(0), Expected::Version(1), Expected::Version(2), Expected::Any] {
            let result = append_one(store, append("a", expected, numbers.clone())).await;
            let conflict = Err(AppendError::Conflict { actual: 2 });
            assert_eq!(result, conflict, "events {numbers:?}, expected {expected:?}");
        }
    }
    assert_eq!(ids(&whole_log(store).await), numbered([1, 2]));
    // The store continues where it was.
    assert_eq!(given(store, append("a", Expected::Version(2), [3])).await.version, 3);
    assert_eq!(given(store, append("b", Expected::Version(0), [4])).await.version, 1);
}

/// Two events of one append cannot have one id.
pub async fn an_id_twice_in_an_append_is_a_conflict(store: &dyn EventStore) {
    let refused = append_one(store, append("a", Expected::Version(0), [1, 2, 1])).await;
    assert_eq!(refused, Err(AppendError::Conflict { actual: 0 }));
    assert!(stream_of(store, "a").await.is_empty());
    assert_eq!(given(store, append("a", Expected::Version(0), [1, 2])).await.version, 2);
}

/// An id that another stream has, from before or from the same batch: refused or written, but never taken for a
/// repeat.
pub async fn an_id_of_another_stream_is_no_repeat(store: &dyn EventStore) {
    given(store, append("a", Expected::Version(0), [1])).await;
    let appends = vec![
        append("a", Expected::Version(1), [2]),
        append("b", Expected::Version(0), [2]),
        append("c", Expected::Any, [1]),
    ];
    let results = append_all(store, BatchMode::Independent, appends).await;
    assert!(results[0].is_ok());
    for (stream, result) in ["b", "c"].into_iter().zip(&results[1..]) {
        let is_repeated = result.as_ref().is_ok_and(|done| done.repeated);
        assert!(!is_repeated, "{stream} never had it");
        assert_eq!(stream_of(store, stream).await.len(), usize::from(result.is_ok()), "{stream}");
    }
    assert_eq!(ids(&stream_of(store, "a").await), numbered([1, 2]), "where it stands it stays");
}

/// Events of half a megabyte, the bound of a lot.
pub async fn large_data_comes_back(store: &dyn EventStore) {
    let mut large = append("a", Expected::Any, [1, 2]);
    for (event, fill) in large.events.iter_mut().zip([b'1', b'2']) {
        event.data = Bytes::from(vec![fill; 256 * 1024]);
    }
    let sent: Vec<_> = large.events.iter().map(|event| event.data.clone()).collect();
    given(store, large).await;
    let stream: Vec<_> = stream_of(store, "a").await.into_iter().map(|event| event.data).collect();
    assert_eq!(stream, sent);
    let log: Vec<_> = whole_log(store).await.into_iter().map(|event| event.data).collect();
    assert_eq!(log, sent);
}

/// A batch larger than what an adapter writes at once.
pub async fn a_batch_of_many_appends_is_written_whole(store: &dyn EventStore) {
    let appends: Vec<_> = (0..48)
        .map(|number| {
            let mut lot = append(&stream_name(number), Expected::Version(0), [number * 2, number * 2 + 1]);
            lot.events[0].data = Bytes::from(vec![b'x'; 200 * 1024]);
            lot
        })
        .collect();
    let results = append_all(store, BatchMode::Independent, appends).await;
    let positions: Vec<_> =
        results.into_iter().map(|result| result.expect("each append is in order").position).collect();
    let mut written = ids(&whole_log(store).await);
    if store.is_atomic_over_streams() {
        assert!(
            positions.is_sorted_by(|earlier, later| earlier < later),
            "written in the order of the batch"
        );
    } else {
        written.sort_unstable();
    }
    assert_eq!(written, numbered(0..96));
}
