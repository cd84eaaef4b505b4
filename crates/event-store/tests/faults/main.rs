//! The disk fails under the store, at every operation in turn: with an error, half a write, no room, no power.
//!
//! What was acknowledged is there afterwards, what was refused is not, and the store says what is wrong and takes
//! nothing any more.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod history;
mod life;
mod restarts;
#[path = "../support/mod.rs"]
mod support;

use history::{History, tell};
use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{
    AppendError, BatchMode, EventStore, Expected, LogIndex, ReadError, SqliteEventStore, describe,
};
use kite_faulty_disk::{Disk, Fault, Kind, Loss, Operation, temporary_directory};
use life::{check_stopped, live, lot};
use std::path::PathBuf;
use std::time::Duration;
use support::{append, append_one, id, open};
use tempfile::TempDir;

const FILE: &str = "log.sqlite";
const WRITE_AHEAD_LOG: &str = "log.sqlite-wal";
const SOON: Duration = Duration::from_secs(60);
/// The store's threads take turns freely, so one life has a few operations more than the next: so many in a row have to
/// end before the operation that was to be struck.
const MISSES_MAX: usize = 3;

/// The write-ahead log is copied early and often.
fn options() -> SqliteOptions {
    SqliteOptions {
        commit_bytes_max: 32 * 1024,
        checkpoint_pages: 10,
        readers: 1,
        ..SqliteOptions::default()
    }
}

/// The same without anything in memory.
fn options_without_memory() -> SqliteOptions {
    SqliteOptions { recent_bytes_max: 0, writer_cache_bytes: 0, reader_cache_bytes: 0, ..options() }
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
        Self::on(temporary_directory())
    }

    fn on(directory: TempDir) -> Self {
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

/// Lives once for each operation, which is struck: one after the other, until there are no more. `live` answers whether
/// it came to that. How many there are.
fn each_operation(mut live: impl FnMut(u64) -> bool) -> u64 {
    let (mut operations, mut misses) = (0, 0);
    for nth in 1.. {
        if live(nth) {
            (operations, misses) = (nth, 0);
        } else {
            misses += 1;
        }
        if misses == MISSES_MAX {
            break;
        }
    }
    operations
}

/// Lives once for each operation that `concerns` picks, which fails. Answers how many there are.
fn strike_each(
    options: &SqliteOptions,
    fault: Fault,
    concerns: fn(&Operation) -> bool,
    mut check: impl AsyncFnMut(&House, &History, &str),
) -> u64 {
    let operations = each_operation(|nth| {
        let house = House::new();
        house.disk.strike(nth, fault, concerns);
        run(async {
            let history = live(&house.disk, &house.file(), options.clone()).await;
            let Some(struck) = house.disk.struck() else {
                assert!(history.acknowledged() >= 12, "an undisturbed life is a full one");
                return false;
            };
            check(&house, &history, &format!("{fault:?} at operation {nth}, {struck}")).await;
            true
        })
    });
    println!("{fault:?}: {operations} operations");
    operations
}

/// The same process tries no more, a new one on the mended disk goes on. Power may fail in between.
async fn check_in_place(house: &House, history: &History, when: &str) {
    house.disk.mend();
    house.check_after(Loss::Unsynced, history, when).await;
    if house.disk.struck().is_some_and(|struck| struck.kind == Kind::Sync) {
        for seed in 0..4 {
            house.check_after(Loss::Some { seed }, history, when).await;
        }
    }
    history.check(&house.file(), when).await;
}

#[test]
fn an_operation_that_fails_stops_the_store_and_loses_nothing() {
    let operations = strike_each(&options(), Fault::Error, Operation::is_write, check_in_place);
    assert!(operations > 150, "only {operations} operations");
}

#[test]
fn a_write_that_is_torn_stops_the_store_and_loses_nothing() {
    let writes =
        strike_each(&options(), Fault::Torn, |operation| operation.kind == Kind::Write, check_in_place);
    assert!(writes > 120, "only {writes} writes");
}

#[test]
fn a_disk_that_is_full_from_any_operation_on_stops_the_store_and_loses_nothing() {
    let operations = strike_each(&options(), Fault::Full, Operation::is_write, check_in_place);
    assert!(operations > 150, "only {operations} operations");
}

#[test]
fn a_disk_that_turns_out_to_be_full_at_a_sync_stops_the_store_and_loses_nothing() {
    let is_sync = |operation: &Operation| operation.kind == Kind::Sync;
    let syncs = strike_each(&options(), Fault::FullAtSync, is_sync, check_in_place);
    assert!(syncs > 12, "only {syncs} syncs");
}

/// Whoever reads for the writer or the copy cannot go on; a reader is told, and may ask again.
#[test]
fn a_read_that_fails_loses_nothing() {
    let is_read = |operation: &Operation| operation.kind == Kind::Read;
    let reads = strike_each(&options_without_memory(), Fault::Error, is_read, check_in_place);
    assert!(reads > 50, "only {reads} reads");
}

#[test]
fn a_lock_or_a_size_that_cannot_be_had_loses_nothing() {
    let concerns =
        |operation: &Operation| matches!(operation.kind, Kind::Lock | Kind::LockIndex | Kind::Size);
    let operations = strike_each(&options(), Fault::Error, concerns, check_in_place);
    assert!(operations > 50, "only {operations} operations");
}

#[test]
fn a_kill_or_a_power_failure_at_any_operation_loses_nothing() {
    let mut seed = 0;
    let operations =
        strike_each(&options(), Fault::Off, Operation::is_write, async |house, history, when| {
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
        let is_in_copy = move |operation: &Operation| (&*operation.file, operation.kind) == (file, kind);
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
            let reason = describe(&reason.unwrap().clone().unwrap());
            assert!(reason.starts_with("copying the write-ahead log failed: "), "{reason}");
            let struck = house.disk.struck().unwrap();
            check_stopped(&store, &mut history, &struck).await;
            history.check_reads(&store).await.unwrap();
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
        house.disk.strike(1, Fault::Error, |operation| operation.kind == Kind::Sync);
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
        house.disk.strike(1, Fault::Broken, |operation| operation.kind == Kind::Read);
        let stream = store.read_stream("s-7", 0, 10).await;
        let Err(error @ ReadError::Unreadable(_)) = stream else { panic!("{stream:?}") };
        let told = describe(&error);
        assert!(told.contains("disk I/O error"), "{told}");
        assert!(store.read_correlation(id(1_000_000_007), 0, 10).await.is_err());
        house.disk.mend();
        assert_eq!(store.read_stream("s-7", 0, 10).await.unwrap()[0].id, id(7));
        assert_eq!(*store.stopped().borrow(), None, "a reader harms nobody");
    });
}

/// It would be sealed as one for ever.
#[test]
fn a_reading_that_fails_makes_no_event_one_that_cannot_be_read() {
    let house = House::new();
    run(async {
        let store = open(&house.file());
        for number in 0..40 {
            append_one(&store, append(&format!("s-{number}"), Expected::Any, [number])).await.unwrap();
        }
        store.close();
        let options = SqliteOptions { reader_cache_bytes: 0, recent_bytes_max: 0, ..options() };
        let store = SqliteEventStore::open(&house.file(), options).unwrap();
        let mut failed = 0;
        for nth in 1.. {
            house.disk.strike(nth, Fault::Error, |operation| operation.kind == Kind::Read);
            let read = store.read_kept(0, 100).await;
            let has_struck = house.disk.struck().is_some();
            house.disk.mend();
            match read {
                Ok(page) => {
                    assert_eq!(page.events.len(), 40);
                    let wrong = page.events.iter().find_map(|kept| kept.event.as_ref().err());
                    assert_eq!(wrong, None, "the reading is at fault");
                }
                Err(error) => {
                    let told = describe(&error);
                    assert!(told.contains("disk I/O error"), "{told}");
                    failed += 1;
                }
            }
            if !has_struck {
                break;
            }
        }
        assert!(failed > 3, "{failed} readings failed");
        assert!(store.read_kept(0, 100).await.unwrap().events.iter().all(|kept| kept.event.is_ok()));
    });
}
