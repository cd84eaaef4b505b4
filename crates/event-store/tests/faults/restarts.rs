//! Two things happen: an operation fails, the process is started again, and power fails or it is killed meanwhile.

use kite_event_store::Expected;
use kite_faulty_disk::{Fault, Kind, Loss, Operation, temporary_directory};
use std::path::Path;
use tempfile::TempDir;

use crate::history::History;
use crate::life::{live, open_on};
use crate::{House, each_operation, options, run};

/// After a failed sync nobody knows what is on the disk, the next process neither: it may find in memory what the
/// disk does not hold, and must not build on it. Here power fails while it starts, or soon after.
#[test]
fn power_may_fail_after_a_failed_sync_and_a_restart() {
    const STEP: usize = 3;
    let mut lives = 0;
    each_operation(|nth| {
        let mut is_struck = false;
        for later in (1 + nth % STEP as u64..).step_by(STEP) {
            let house = House::new();
            house.disk.strike(nth, Fault::Error, |operation| operation.kind == Kind::Sync);
            let mut history = run(live(&house.disk, &house.file(), options()));
            let Some(first) = house.disk.struck() else { break };
            is_struck = true;
            house.disk.strike(later, Fault::Off, Operation::is_write);
            run(start(&house, &mut history));
            let Some(second) = house.disk.struck() else { break };
            lives += 1;
            let when = format!("{first} failed (sync {nth}), then no power at {second} (operation {later})");
            for loss in [Loss::Unsynced, Loss::Some { seed: nth * 1_000 + later }] {
                run(house.check_after(loss, &history, &when));
            }
        }
        is_struck
    });
    println!("{lives} lives");
    assert!(lives > 100, "only {lives} lives");
}

/// The next process, as far as it comes: it opens the log and appends.
async fn start(house: &House, history: &mut History) {
    let Some(store) = open_on(&house.disk, &house.file(), options()) else { return };
    for number in 90..93 {
        let _ = history.append(&store, "after-the-restart", Expected::Any, number).await;
    }
    store.close();
}

/// The process that comes after a kill or a power failure begins by clearing up. The same may happen to it, or the disk
/// fails it: then it does not open.
#[test]
fn another_failure_while_the_store_opens_after_a_kill_or_a_power_failure_loses_nothing() {
    /// Each of the first life's operations is struck, and of the second life's in turn one in so many.
    const STEP: usize = 12;
    let mut lives = 0;
    each_operation(|nth| {
        let house = House::new();
        house.disk.strike(nth, Fault::Off, Operation::is_write);
        let history = run(live(&house.disk, &house.file(), options()));
        let Some(first) = house.disk.struck() else { return false };
        let seed = nth;
        let first_loss = [Loss::Nothing, Loss::Unsynced, Loss::Some { seed }][(nth % 3) as usize];
        let left = temporary_directory();
        house.disk.restart_into(left.path(), first_loss).unwrap();
        for later in (1 + nth % STEP as u64..).step_by(STEP) {
            let house = House::on(copy_of(left.path()));
            let fault = [Fault::Off, Fault::Error][lives % 2];
            house.disk.strike(later, fault, Operation::is_write);
            if let Some(store) = open_on(&house.disk, &house.file(), options()) {
                store.close();
            }
            let Some(second) = house.disk.struck() else { break };
            lives += 1;
            let loss = [Loss::Some { seed }, Loss::Nothing, Loss::Unsynced][lives % 3];
            let when = format!("{first} ({nth}), {first_loss:?}, then {fault:?} at {second} ({later})");
            run(house.check_after(loss, &history, &when));
        }
        true
    });
    println!("{lives} lives");
    assert!(lives > 200, "only {lives} lives");
}

fn copy_of(directory: &Path) -> TempDir {
    let copy = temporary_directory();
    for file in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}
