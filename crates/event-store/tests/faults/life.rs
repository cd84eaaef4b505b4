//! The life of a store on a disk that may fail under it.

use bytes::Bytes;
use kite_event_store::sqlite::{OpenError, SqliteOptions};
use kite_event_store::{AppendError, BatchMode, Expected, SqliteEventStore, StreamAppend};
use kite_faulty_disk::{Disk, Kind, Operation};
use kite_testkit::wait::wait_until;
use std::error::Error;
use std::path::Path;

use crate::history::{History, tell};
use crate::support::append;
use crate::{FILE, SOON};

/// Two events, 50 KB together: three of them are a campaign, which waits in the other lane and takes two commits.
pub(crate) fn lot(number: u64) -> StreamAppend {
    let mut lot = append(&format!("lot-{number}"), Expected::Version(0), [number, number + 1]);
    for event in &mut lot.events {
        event.data = Bytes::from(vec![b'x'; 25_000]);
    }
    lot
}

/// A store's life on this disk, however far it comes: many appends at once, a checkpoint, appends after it.
pub(crate) async fn live(disk: &Disk, file: &Path, options: SqliteOptions) -> History {
    let mut history = History::default();
    let Some(store) = open_on(disk, file, options) else { return history };
    let copied = disk.syncs(FILE);
    let password = vec![append("password-1", Expected::Version(0), [1])];
    let campaign = vec![lot(10), lot(20), lot(30), append("campaign", Expected::Version(0), [40])];
    let others = vec![
        append("a", Expected::Version(0), [50, 51]),
        append("b", Expected::Any, [52]),
        append("a", Expected::Version(2), [53]),
    ];
    let routes = vec![
        append("route-1", Expected::Version(0), [54]),
        lot(57),
        append("route-2", Expected::Version(0), [55, 56]),
    ];
    let told = tokio::join!(
        tell(&store, BatchMode::Independent, password),
        tell(&store, BatchMode::Guarded, campaign),
        tell(&store, BatchMode::Independent, others),
        tell(&store, BatchMode::Atomic, routes),
    );
    [told.0, told.1, told.2, told.3].into_iter().for_each(|told| history.add(told));

    wait_for_copy(disk, &store, copied, &mut history).await;
    for number in 0..3 {
        let stream = format!("after-the-copy-{number}");
        let _ = history.append(&store, &stream, Expected::Version(0), 60 + number).await;
    }
    let _ = history.append(&store, "a", Expected::Version(3), 70).await;
    if let Some(struck) = must_have_stopped(disk) {
        check_stopped(&store, &mut history, &struck).await;
    }
    check_reads(disk, &store, &history).await;
    store.close();
    history
}

/// What was acknowledged can be read, if need be at the second try.
async fn check_reads(disk: &Disk, store: &SqliteEventStore, history: &History) {
    if let Err(error) = history.check_reads(store).await {
        let struck = disk.struck();
        let is_reason = struck.as_ref().is_some_and(|struck| !struck.is_write());
        assert!(is_reason, "{error}, struck: {struck:?}");
        let again = history.check_reads(store).await;
        assert!(again.is_ok(), "{again:?} again after {struck:?}");
    }
}

/// A store that does not open says why, and has a reason. One that has a reason does not open.
pub(crate) fn open_on(disk: &Disk, file: &Path, options: SqliteOptions) -> Option<SqliteEventStore> {
    match SqliteEventStore::open(file, options) {
        Ok(store) => {
            assert_eq!(must_have_stopped(disk), None, "it opens all the same");
            Some(store)
        }
        Err(error) => {
            assert!(
                matches!(
                    error,
                    OpenError::Engine(_) | OpenError::NoWriteAheadLog { .. } | OpenError::Files(_)
                ),
                "{error:?}"
            );
            assert!(disk.refused() > 0, "{error:?}");
            None
        }
    }
}

/// Waits for a copy of the write-ahead log beyond so many, unless the disk fails before. Appends meanwhile: the last part
/// of a copy is the writer's, between two commits.
async fn wait_for_copy(disk: &Disk, store: &SqliteEventStore, copied: u64, history: &mut History) {
    let mut numbers = 1_000..;
    let has_come = async || {
        if disk.syncs(FILE) > copied || store.stopped().borrow().is_some() {
            return true;
        }
        let number = numbers.next().unwrap();
        let _ = history.append(store, "meanwhile", Expected::Any, number).await;
        false
    };
    let waited = wait_until("the copy of the write-ahead log", SOON, has_come).await;
    waited
        .unwrap_or_else(|error| panic!("{error}, struck: {:?}, refused: {}", disk.struck(), disk.refused()));
}

/// What failed, if it is more than the clearing away of what nobody needs, or a lock that can be had a moment later.
fn must_have_stopped(disk: &Disk) -> Option<Operation> {
    let struck = disk.struck().filter(|_| disk.refused() > 0)?;
    matches!(struck.kind, Kind::Write | Kind::Sync | Kind::Grow | Kind::Read).then_some(struck)
}

pub(crate) async fn check_stopped(store: &SqliteEventStore, history: &mut History, struck: &Operation) {
    let mut stopped = store.stopped();
    let reason = tokio::time::timeout(SOON, stopped.wait_for(Option::is_some)).await;
    let reason = reason.unwrap_or_else(|_| panic!("{struck} failed, and the store goes on"));
    let reason = reason.unwrap().clone().unwrap();
    assert!(reason.source().is_some(), "{struck}: {reason}");
    for number in 80..83 {
        let refused = history.append(store, "too-late", Expected::Any, number).await;
        assert_eq!(refused, Err(AppendError::Stopped(reason.clone())), "{struck}");
    }
}
