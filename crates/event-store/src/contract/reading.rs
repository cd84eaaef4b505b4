//! What reading promises.

use super::*;

/// Pages of a stream follow each other without a gap.
pub async fn a_stream_is_read_in_pages(store: &dyn EventStore) {
    for number in 0..25 {
        given(store, append("a", Expected::Version(number), [number])).await;
        given(store, append("b", Expected::Version(number), [100 + number])).await;
    }
    let read = async |after, limit| {
        ids(&store.read_stream("a", after, limit).await.expect("the stream can be read"))
    };
    assert_eq!(read(0, 10).await, numbered(0..10));
    assert_eq!(read(10, 10).await, numbered(10..20));
    assert_eq!(read(20, 10).await, numbered(20..25));
    assert_eq!(read(25, 10).await, numbered([]));
    assert_eq!(read(u64::MAX, 10).await, numbered([]));
    assert_eq!(read(3, 0).await, numbered([]));
    assert!(stream_of(store, "no such stream").await.is_empty());
    assert!(stream_of(store, "A").await.is_empty(), "names are compared byte by byte");
}

/// However long, a stream is read whole when the limit allows it.
pub async fn a_long_stream_is_read_at_once(store: &dyn EventStore) {
    for lot in 0..40 {
        let mut large = append("a", Expected::Any, lot * 10..lot * 10 + 10);
        large.events[0].data = Bytes::from(vec![b'x'; 400 * 1024]);
        given(store, large).await;
    }
    assert_eq!(ids(&stream_of(store, "a").await), numbered(0..400));
    let most = store.read_stream("a", 5, 390).await.expect("the stream can be read");
    assert_eq!(ids(&most), numbered(5..395));
}

/// Whatever the limit of a page, the log is read whole and in order.
pub async fn the_log_is_read_in_pages(store: &dyn EventStore) {
    for number in 0..30 {
        given(store, append(&stream_name(number % 4), Expected::Any, [number * 2, number * 2 + 1])).await;
    }
    for limit in [1, 7, 60, 1000] {
        let log = log_after(store, 0, limit, &Filter::everything()).await;
        assert_eq!(ids(&log), numbered(0..60), "in pages of {limit}");
        assert!(log.is_sorted_by(|earlier, later| earlier.position < later.position));
        let middle = log[20].position;
        assert_eq!(ids(&log_after(store, middle, limit, &Filter::everything()).await), numbered(21..60));
    }
}

/// The kept events come in the same order, pages and words as those that are read normally.
pub async fn what_is_kept_is_what_was_appended(store: &dyn EventStore) {
    for number in 0..30 {
        given(store, append(&stream_name(number % 4), Expected::Any, [number * 2, number * 2 + 1])).await;
    }
    let log = log_after(store, 0, 1000, &Filter::everything()).await;
    for limit in [1, 7, 1000] {
        let (mut kept, mut after) = (Vec::new(), 0);
        loop {
            let page = store.read_kept(after, limit).await.expect("the log can be read");
            if page.next == after {
                break;
            }
            after = page.next;
            for one in page.events {
                let event = one.event.expect("nobody has touched it");
                assert_eq!((one.position, one.version), (event.position, event.version));
                kept.push(event);
            }
        }
        assert_eq!(kept, log, "in pages of {limit}");
    }
    let stream = store.read_kept_stream(&stream_name(1), 3, 5).await.expect("the stream can be read");
    let kept: Vec<_> = stream.into_iter().filter_map(|kept| kept.event.ok()).collect();
    assert_eq!(kept, stream_of(store, &stream_name(1)).await[3..8]);
}

/// A filter leaves out other types, and still moves on over them.
pub async fn a_filter_passes_over_other_types(store: &dyn EventStore) {
    for number in 0..40 {
        let kind = if number % 10 == 3 { "Rare" } else { "Common" };
        let mut one = append("a", Expected::Any, []);
        one.events.push(event_of(number, kind));
        given(store, one).await;
    }
    let end = whole_log(store).await.last().map_or(0, |last| last.position);
    for limit in [1, 3, 100] {
        let rare = log_after(store, 0, limit, &Filter::kinds(["Rare"])).await;
        assert_eq!(ids(&rare), numbered([3, 13, 23, 33]), "in pages of {limit}");
    }
    let both = log_after(store, 0, 9, &Filter::kinds(["Rare", "Common"])).await;
    assert_eq!(both.len(), 40);
    let none = store.read_all(0, 10, &Filter::kinds(["Never"])).await.expect("the log can be read");
    assert!(none.events.is_empty());
    assert_eq!(none.next, end, "everything was looked at");
    assert!(log_after(store, 0, 10, &Filter::kinds::<&str>([])).await.is_empty(), "no type: no event");
}

/// At the end `next` is the requested position; before it, the last event that was looked at.
pub async fn next_says_when_there_is_nothing_more(store: &dyn EventStore) {
    let everything = Filter::everything();
    let empty = store.read_all(0, 10, &everything).await.expect("the log can be read");
    assert_eq!((empty.events.len(), empty.next), (0, 0));
    given(store, append("a", Expected::Any, [1, 2, 3])).await;
    let page = store.read_all(0, 2, &everything).await.expect("the log can be read");
    assert_eq!(page.next, page.events[1].position);
    let rest = store.read_all(page.next, 2, &everything).await.expect("the log can be read");
    assert_eq!(ids(&rest.events), numbered([3]));
    assert_eq!(rest.next, rest.events[0].position);
    let end = store.read_all(rest.next, 2, &everything).await.expect("the log can be read");
    assert_eq!((end.events.len(), end.next), (0, rest.next));
}

/// Whoever waits for the head finds in the log what it has told, and after that nothing new.
pub async fn what_the_head_has_told_is_read(store: &dyn EventStore) {
    let (everything, mut head) = (Filter::everything(), store.head());
    given(store, append("a", Expected::Any, [1, 2, 3])).await;
    let end = whole_log(store).await.last().map_or(0, |last| last.position);
    head.wait_for(|told| *told >= end).await.expect("the store is open");
    let page = store.read_told(0, 10, &everything).await.expect("the log can be read");
    assert_eq!((ids(&page.events), page.next), (numbered([1, 2, 3]), end));
    let rest = store.read_told(end, 10, &everything).await.expect("the log can be read");
    assert_eq!((rest.events.len(), rest.next), (0, end));
}

/// Reading the tails of several streams returns each as if it were read alone.
pub async fn tails_are_read_together(store: &dyn EventStore) {
    for number in 0..30 {
        given(store, append(&stream_name(number % 3), Expected::Any, [number])).await;
    }
    let names = [stream_name(2), stream_name(0), "no such stream".into(), stream_name(0)];
    let after = [0, 4, 0, 10];
    let tails: Vec<_> =
        names.iter().zip(after).map(|(stream, after_version)| Tail { stream, after_version }).collect();
    for limit in [1, 5, 100] {
        let together = store.read_many(&tails, limit).await.expect("the tails can be read");
        assert_eq!(together.len(), tails.len());
        for (tail, read) in tails.iter().zip(together) {
            let alone = store.read_stream(tail.stream, tail.after_version, limit).await;
            assert_eq!(read, alone.expect("the stream can be read"), "{tail:?}, at most {limit}");
        }
    }
    assert!(store.read_many(&[], 10).await.expect("nothing can be read").is_empty());
}

/// A reader can ask by how many events it is behind, and may begin right before any of them.
pub async fn events_after_a_position_are_counted(store: &dyn EventStore) {
    assert_eq!(store.count_after(0), 0);
    given(store, append("a", Expected::Any, 0..5)).await;
    given(store, append("b", Expected::Any, 5..9)).await;
    in_time("the count", async {
        while store.count_after(0) < 9 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let log = whole_log(store).await;
    for (place, event) in (1..).zip(&log) {
        assert_eq!(store.count_after(event.position), 9 - place);
        assert_eq!(store.count_after(event.position - 1), 10 - place);
        let page = store.read_all(event.position - 1, 1, &Filter::everything()).await;
        assert_eq!(page.expect("the log can be read").events, std::slice::from_ref(event));
    }
    assert_eq!(store.count_after(Position::MAX), 0);
}

/// All events that one request caused, in order, in pages.
pub async fn a_correlation_is_read_across_streams<S: EventStore + LogIndex>(store: &S) {
    for number in 0..30 {
        let mut one = append(&stream_name(number % 3), Expected::Any, [number]);
        one.metadata.correlation = id(500 + number % 2);
        given(store, one).await;
    }
    let read = async |correlation, after, limit| {
        store.read_correlation(correlation, after, limit).await.expect("the correlation can be read")
    };
    let odd = read(id(501), 0, 100).await;
    assert_eq!(ids(&odd), numbered((0..30).filter(|number| number % 2 == 1)));
    assert!(odd.is_sorted_by(|earlier, later| earlier.position < later.position));
    let (first, rest) = (read(id(501), 0, 4).await, read(id(501), odd[3].position, 100).await);
    assert_eq!([first, rest].concat(), odd);
    assert!(read(id(777), 0, 10).await.is_empty());
    let log = whole_log(store).await;
    let all = [read(id(500), 0, 100).await, odd].concat();
    assert!(log.iter().all(|event| all.contains(event)), "as it is read elsewhere");
}

/// Reading on from there begins with the first event at a time or after it.
pub async fn a_position_is_found_by_time<S: EventStore + LogIndex>(store: &S) {
    let first_at = async |time| {
        let before = store.position_before(time).await.expect("a position can be found");
        let page = store.read_all(before, 1, &Filter::everything()).await.expect("the log can be read");
        page.events.first().map(|event| event.position)
    };
    assert_eq!(first_at(time(0)).await, None);
    for number in [10, 20, 20, 20, 30] {
        let count = stream_of(store, "a").await.len() as u64;
        let mut one = append("a", Expected::Any, [number * 10 + count]);
        one.metadata.time = time(number);
        given(store, one).await;
    }
    let positions: Vec<_> = whole_log(store).await.iter().map(|event| event.position).collect();
    for (seconds, place) in [(0, 0), (10, 0), (11, 1), (20, 1), (30, 4)] {
        assert_eq!(first_at(time(seconds)).await, Some(positions[place]), "at {seconds} s");
    }
    assert_eq!(first_at(time(31)).await, None);
}
