//! A copy of a log that is written all the while.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use kite_event_store::sqlite::{CopyError, Progress, SqliteLogFile, copy_log};
use kite_event_store::{AppendError, Batch, BatchMode, EventStore, Expected, Filter};
use std::collections::BTreeSet;
use std::path::Path;
use support::{append, append_one, log_of, open};

const ALL: u64 = 5_000;

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_holds_exactly_what_was_there_when_it_began() {
    let directory = tempfile::tempdir().unwrap();
    let (file, to) = (directory.path().join("a log#1?.sqlite"), directory.path().join("copy/log.sqlite"));
    std::fs::create_dir(to.parent().unwrap()).unwrap();
    let store = open(&file);
    for first in (0..ALL).step_by(100) {
        append_one(&store, append(&format!("s-{}", first % 700), Expected::Any, first..first + 100))
            .await
            .unwrap();
    }
    let before = log_of(&store).await;

    // Between the pieces others go on writing, in streams that were not there.
    let handle = tokio::runtime::Handle::current();
    let mut pieces = 0;
    let copied = tokio::task::block_in_place(|| {
        copy_log(&file, &to, &mut |progress: Progress| {
            assert_eq!(progress.until, ALL);
            let number = ALL + pieces;
            let appended = append_one(&store, append(&format!("later-{number}"), Expected::Any, [number]));
            handle.block_on(appended).unwrap();
            pieces += 1;
            true
        })
    });
    let copied = copied.unwrap();
    assert_eq!((copied.until, copied.events), (ALL, ALL));
    assert!(pieces > 1, "it was copied at once");
    assert_eq!(*store.head().borrow(), ALL + pieces);
    assert_eq!(
        names(to.parent().unwrap()),
        BTreeSet::from(["log.sqlite".to_owned()]),
        "and nothing beside it"
    );

    // Read without a trace.
    let read = SqliteLogFile::open(&to).unwrap();
    assert_eq!(*read.head().borrow(), ALL);
    let page = read.read_all(0, usize::MAX, &Filter::everything()).await.unwrap();
    assert_eq!(page.events, before[..page.events.len()]);
    let stream = read.read_stream("s-0", 0, usize::MAX).await.unwrap();
    assert_eq!(stream, before.iter().filter(|event| &*event.stream == "s-0").cloned().collect::<Vec<_>>());
    assert_eq!(read.read_stream("later-5000", 0, 1).await.unwrap(), []);
    let batch = Batch::new(BatchMode::Independent, vec![append("s-0", Expected::Any, [9_999])]);
    assert!(matches!(read.append(batch).await[..], [Err(AppendError::Stopped(_))]));
    drop(read);
    assert_eq!(names(to.parent().unwrap()), BTreeSet::from(["log.sqlite".to_owned()]));

    // And a log like any other.
    let again = open(&to);
    assert_eq!(log_of(&again).await, before);
    let next = append_one(&again, append("later-5000", Expected::Version(0), [ALL + 77])).await.unwrap();
    assert_eq!((next.version, next.position), (1, ALL + 1));
    let known = append_one(&again, append("s-0", Expected::Any, 0..100)).await.unwrap();
    assert!(known.repeated);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_broken_off_and_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (file, to) = (directory.path().join("log.sqlite"), directory.path().join("copy.sqlite"));
    let store = open(&file);
    append_one(&store, append("s", Expected::Any, 0..10)).await.unwrap();
    let broken = copy_log(&file, &to, &mut |_| false);
    assert!(matches!(broken, Err(CopyError::BrokenOff)), "{broken:?}");
    let again = copy_log(&file, &to, &mut |_| true);
    assert!(matches!(again, Err(CopyError::Exists(_))), "{again:?}");
    let nothing = copy_log(&directory.path().join("no.sqlite"), &directory.path().join("c"), &mut |_| true);
    assert!(matches!(nothing, Err(CopyError::NoLog(_))), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_and_one_that_nobody_has_open_can_be_copied_and_what_is_none_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let (file, to) = (directory.path().join("log.sqlite"), directory.path().join("copy.sqlite"));
    open(&file).close();
    assert_eq!(copy_log(&file, &to, &mut |_| true).unwrap().until, 0);
    assert_eq!(log_of(&open(&to)).await, []);
    let other = directory.path().join("other.sqlite");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (id INTEGER)").unwrap();
    let refused = copy_log(&other, &directory.path().join("c.sqlite"), &mut |_| true);
    assert!(matches!(refused, Err(CopyError::NotALog(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lacks_an_event_is_copied_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (file, to) = (directory.path().join("log.sqlite"), directory.path().join("copy.sqlite"));
    let store = open(&file);
    append_one(&store, append("s", Expected::Any, 0..10)).await.unwrap();
    store.close();
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute("DELETE FROM events WHERE position = 3", []).unwrap();
    let copied = copy_log(&file, &to, &mut |_| true).unwrap();
    assert_eq!((copied.until, copied.events), (10, 9), "it is evidence");
}
