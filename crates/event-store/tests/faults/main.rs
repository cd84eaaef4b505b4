//! The disk fails under the store, at every operation in turn: with an error, half a write, no room, no power.
//!
//! What was acknowledged is there afterwards, what was refused is not, and the store says what is wrong and takes
//! nothing any more.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod history;
#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use history::{History, tell};
use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{
    AppendError, BatchMode, EventStore, Expected, ReadError, SqliteEventStore, StreamAppend,
};
use kite_faulty_disk::{Change, Disk, Fault, Kind, Loss, temporary_directory};
use kite_testkit::wait::wait_until;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{append, append_one, id, open};
use tempfile::TempDir;

const FILE: &str = "log.sqlite";
const WRITE_AHEAD_LOG: &str = "log.sqlite-wal";
const SOON: Duration = Duration::from_secs(20);

/// The write-ahead log is copied early and often.
fn options() -> SqliteOptions {
    SqliteOptions {
        commit_bytes_max: 32 * 1024,
        checkpoint_pages: 10,
        readers: 1,
        ..SqliteOptions::default()
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A directory on a disk of its own.
struct House {
    directory: TempDir,
    disk: Disk,
}

impl House {
    fn new() -> Self {
        let directory = temporary_directory();
        let disk = Disk::mount(directory.path());
        Self { directory, disk }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    /// Checks the log as a restart finds it.
    async fn check_after(&self, loss: Loss, history: &History, when: &str) {
        let found = temporary_directory();
        self.disk.restart_into(found.path(), loss).unwrap();
        history.check(&found.path().join(FILE), &format!("{when}, {loss:?}")).await;
    }
}

/// Two events, 50 KB together: three of them are a campaign, which waits in the other lane and takes two commits.
fn lot(number: u64) -> StreamAppend {
    let mut lot = append(&format!("lot-{number}"), Expected::Version(0), [number, number + 1]);
    for event in &mut lot.events {
        event.data = Bytes::from(vec![b'x'; 25_000]);
    }
    lot
}

/// A store's life on this disk, however far it comes: many appends at once, a checkpoint, appends after it.
async fn live(disk: &Disk, file: &Path) -> History {
    let mut history = History::default();
    let Some(store) = open_on(disk, file) else { return history };
    let copied = disk.syncs(FILE);
    let password = vec![append("password-1", Expected::Version(0), [1])];
    let campaign = vec![lot(10), lot(20), lot(30), append("campaign", Expected::Version(0), [40])];
    let others = vec![
        append("a", Expected::Version(0), [50, 51]),
        append("b", Expected::Any, [52]),
        append("a", Expected::Version(2), [53]),
    ];
    let told = tokio::join!(
        tell(&store, BatchMode::Independent, password),
        tell(&store, BatchMode::Ordered, campaign),
        tell(&store, BatchMode::Independent, others),
    );
    [told.0, told.1, told.2].into_iter().for_each(|told| history.add(told));

    wait_for_copy(disk, &store, copied, &mut history).await;
    for number in 0..3 {
        let stream = format!("after-the-copy-{number}");
        let _ = history.append(&store, &stream, Expected::Version(0), 60 + number).await;
    }
    let _ = history.append(&store, "a", Expected::Version(3), 70).await;
    if let Some(struck) = must_have_stopped(disk) {
        check_stopped(&store, &mut history, &struck).await;
    }
    let when = format!("in the same process, {:?}", disk.struck());
    history.check_reads(&store, &when).await;
    store.close();
    history
}

/// A store that does not open says why, and has a reason.
fn open_on(disk: &Disk, file: &Path) -> Option<SqliteEventStore> {
    match SqliteEventStore::open(file, options()) {
        Ok(store) => Some(store),
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("cannot be opened: "), "{said}");
            assert!(disk.refused() > 0, "{said}");
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

/// What failed, if it is more than the clearing away of what nobody needs.
fn must_have_stopped(disk: &Disk) -> Option<Change> {
    let struck = disk.struck().filter(|_| disk.refused() > 0)?;
    matches!(struck.kind, Kind::Write | Kind::Sync | Kind::Grow).then_some(struck)
}

async fn check_stopped(store: &SqliteEventStore, history: &mut History, struck: &Change) {
    let mut stopped = store.stopped();
    let reason = tokio::time::timeout(SOON, stopped.wait_for(Option::is_some)).await;
    let reason = reason.unwrap_or_else(|_| panic!("{struck} failed, and the store goes on"));
    let reason = reason.unwrap().clone().unwrap();
    assert!(reason.contains("failed: "), "{struck}: {reason}");
    for number in 80..83 {
        let refused = history.append(store, "too-late", Expected::Any, number).await;
        assert_eq!(refused, Err(AppendError::Stopped(reason.clone())), "{struck}");
    }
}

/// Lives once for each operation that `concerns` picks, which fails. Answers how many there are.
fn strike_each(
    fault: Fault,
    concerns: fn(&Change) -> bool,
    mut check: impl AsyncFnMut(&House, &History, &str),
) -> u64 {
    for nth in 1.. {
        let house = House::new();
        house.disk.strike(nth, fault, concerns);
        let is_over = run(async {
            let history = live(&house.disk, &house.file()).await;
            let Some(struck) = house.disk.struck() else {
                assert!(history.acknowledged() >= 12, "an undisturbed life is a full one");
                return true;
            };
            check(&house, &history, &format!("{fault:?} at operation {nth}, {struck}")).await;
            false
        });
        if is_over {
            println!("{fault:?}: {} operations", nth - 1);
            return nth - 1;
        }
    }
    unreachable!("a life has an end");
}

/// The same process tries no more, a new one on the mended disk goes on.
async fn check_in_place(house: &House, history: &History, when: &str) {
    house.disk.mend();
    house.check_after(Loss::Unsynced, history, when).await;
    history.check(&house.file(), when).await;
}

#[test]
fn an_operation_that_fails_stops_the_store_and_loses_nothing() {
    let operations = strike_each(Fault::Error, Change::is_write, check_in_place);
    assert!(operations > 150, "only {operations} operations");
}

#[test]
fn a_write_that_is_torn_stops_the_store_and_loses_nothing() {
    let writes = strike_each(Fault::Torn, |change| change.kind == Kind::Write, check_in_place);
    assert!(writes > 120, "only {writes} writes");
}

#[test]
fn a_disk_that_is_full_from_any_operation_on_stops_the_store_and_loses_nothing() {
    let operations = strike_each(Fault::Full, Change::is_write, check_in_place);
    assert!(operations > 150, "only {operations} operations");
}

#[test]
fn a_kill_or_a_power_failure_at_any_operation_loses_nothing() {
    let mut seed = 0;
    let operations = strike_each(Fault::Off, Change::is_write, async |house, history, when| {
        seed += 2;
        let losses = [Loss::Nothing, Loss::Unsynced, Loss::Some { seed }, Loss::Some { seed: seed + 1 }];
        for loss in losses {
            house.check_after(loss, history, when).await;
        }
    });
    assert!(operations > 150, "only {operations} operations");
}

/// The copy of the write-ahead log is nobody's append: the store stops all the same, before the next one.
#[test]
fn a_failed_copy_of_the_write_ahead_log_stops_the_store() {
    for (file, kind) in [(WRITE_AHEAD_LOG, Kind::Sync), (FILE, Kind::Write), (FILE, Kind::Sync)] {
        let house = House::new();
        let options = SqliteOptions { checkpoint_pages: 20, ..options() };
        let store = SqliteEventStore::open(&house.file(), options).unwrap();
        let is_in_copy = move |change: &Change| (&*change.file, change.kind) == (file, kind);
        run(async {
            let mut history = History::default();
            history.append(&store, "small", Expected::Any, 1).await.unwrap();
            // The commit syncs the write-ahead log once, and the copy that it sets off once more.
            let nth = if file == WRITE_AHEAD_LOG { 2 } else { 1 };
            house.disk.strike(nth, Fault::Broken, is_in_copy);
            history.add(tell(&store, BatchMode::Independent, vec![lot(10)]).await);
            assert_eq!(history.acknowledged(), 2, "the copy begins after the commit");
            let mut stopped = store.stopped();
            let reason = tokio::time::timeout(SOON, stopped.wait_for(Option::is_some)).await.unwrap();
            let reason = reason.unwrap().clone().unwrap();
            assert!(reason.starts_with("copying the write-ahead log failed: "), "{reason}");
            let struck = house.disk.struck().unwrap();
            check_stopped(&store, &mut history, &struck).await;
            history.check_reads(&store, "after a failed copy").await;
            store.close();
            house.disk.mend();
            house.check_after(Loss::Unsynced, &history, &struck.to_string()).await;
            history.check(&house.file(), &struck.to_string()).await;
        });
    }
}

/// A regular close copies the write-ahead log. After a failed sync that would be building on what may not be there.
#[test]
fn a_store_that_has_stopped_touches_nothing_when_it_closes() {
    let house = House::new();
    let options = SqliteOptions { checkpoint_pages: 1_000_000, ..options() };
    let store = SqliteEventStore::open(&house.file(), options).unwrap();
    run(async {
        let mut history = History::default();
        history.append(&store, "a", Expected::Any, 1).await.unwrap();
        house.disk.strike(1, Fault::Error, |change| change.kind == Kind::Sync);
        let lost = history.append(&store, "a", Expected::Any, 2).await;
        assert_eq!(lost, Err(AppendError::AnswerLost));
        let struck = house.disk.struck().unwrap();
        check_stopped(&store, &mut history, &struck).await;
        let writes = house.disk.writes();
        store.close();
        drop(store);
        assert_eq!(house.disk.writes(), writes);
        history.check(&house.file(), &struck.to_string()).await;
    });
}

/// After a failed sync nobody knows what is on the disk, the next process neither: it may find in memory what the
/// disk does not hold, and must not build on it. Here power fails while it starts, or soon after.
#[test]
fn power_may_fail_after_a_failed_sync_and_a_restart() {
    let mut lives = 0;
    for nth in 1.. {
        let mut is_over = false;
        for later in (1..).step_by(3) {
            let house = House::new();
            house.disk.strike(nth, Fault::Error, |change| change.kind == Kind::Sync);
            let go_on = run(async {
                let mut history = live(&house.disk, &house.file()).await;
                let Some(first) = house.disk.struck() else {
                    is_over = true;
                    return false;
                };
                house.disk.expect_rewrites().unwrap();
                house.disk.strike(later, Fault::Off, Change::is_write);
                if let Some(store) = open_on(&house.disk, &house.file()) {
                    for number in 90..93 {
                        let _ = history.append(&store, "after-the-restart", Expected::Any, number).await;
                    }
                    store.close();
                }
                let Some(second) = house.disk.struck() else { return false };
                lives += 1;
                let when =
                    format!("{first} failed (sync {nth}), then no power at {second} (operation {later})");
                for loss in [Loss::Unsynced, Loss::Some { seed: nth * 1_000 + later }] {
                    house.check_after(loss, &history, &when).await;
                }
                true
            });
            if !go_on {
                break;
            }
        }
        if is_over {
            break;
        }
    }
    println!("{lives} lives");
    assert!(lives > 100, "only {lives} lives");
}

#[test]
fn a_log_that_cannot_be_read_says_so() {
    let house = House::new();
    run(async {
        let store = open(&house.file());
        for number in 0..300 {
            append_one(&store, append(&format!("s-{number}"), Expected::Any, [number])).await.unwrap();
        }
        store.close();
        // Nothing is in memory yet.
        let options = SqliteOptions { reader_cache_bytes: 0, recent_bytes_max: 0, ..options() };
        let store = SqliteEventStore::open(&house.file(), options).unwrap();
        house.disk.strike(1, Fault::Broken, |change| change.kind == Kind::Read);
        let stream = store.read_stream("s-7", 0, 10).await;
        let Err(ReadError::Unreadable(reason)) = stream else { panic!("{stream:?}") };
        assert!(reason.contains("disk I/O error"), "{reason}");
        assert!(store.read_correlation(id(1_000_000_007), 0, 10).await.is_err());
        house.disk.mend();
        assert_eq!(store.read_stream("s-7", 0, 10).await.unwrap()[0].id, id(7));
        assert_eq!(*store.stopped().borrow(), None, "a reader harms nobody");
    });
}
