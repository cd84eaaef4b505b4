//! Each operation on the files fails in turn.

use kite_event_store::describe;
use kite_faulty_disk::{Disk, Fault, Kind, Loss, Operation, temporary_directory};
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

use super::super::Bench;
use super::{Restarts, check_end, check_rows, copy_of, go_on, live, project};
use crate::ReadModels;

/// The empty files, to begin each trial with.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let bench = Bench::on(temporary_directory());
        let Bench { directory, runners, models, .. } = bench;
        drop((runners, models));
        directory
    });
    template.path()
}

/// A bench on a disk of its own.
fn bench() -> (Bench, Disk) {
    let directory = copy_of(template());
    let disk = Disk::mount(directory.path());
    (Bench::on(directory), disk)
}

/// Lives once for each of these `numbers` of the operations that `concerns` picks, which fails. Returns how many operations
/// there were. There is one thread, so all lives are the same up to there.
fn strike_each(
    numbers: impl IntoIterator<Item = u64>,
    fault: Fault,
    concerns: fn(&Operation) -> bool,
    restarts: Restarts,
    mut check: impl FnMut(&mut Bench, &Disk, &[String], &str),
) -> u64 {
    let mut operations = 0;
    for nth in numbers {
        let (mut bench, disk) = bench();
        disk.strike(nth, fault, concerns);
        let said = live(&mut bench, restarts);
        let Some(struck) = disk.struck() else { break };
        operations = nth;
        check(&mut bench, &disk, &said, &format!("{fault:?} at operation {nth}, {struck}"));
    }
    println!("{fault:?}: {operations} operations");
    operations
}

/// The tables as the next process would find them, looked at without making that any easier for it: whoever opens a
/// file clears up what was left.
fn check_left(disk: &Disk, loss: Loss, when: &str) -> TempDir {
    let left = temporary_directory();
    disk.restart_into(left.path(), loss).unwrap();
    check_rows(copy_of(left.path()).path(), when);
    left
}

/// The disk is sound again: the same process continues, then a new one.
fn recover(bench: &mut Bench, disk: &Disk, when: &str) {
    disk.mend();
    check_left(disk, Loss::Nothing, when);
    if bench.runners().is_empty() {
        bench.try_to_restart().unwrap_or_else(|error| panic!("{when}: {}", describe(&error)));
    }
    project(bench).unwrap_or_else(|error| panic!("{when}: {}", describe(&error)));
    check_end(bench.path(), when);
    bench.restart();
    check_end(bench.path(), when);
}

/// What was said names the disk, if anything was said.
fn check_said(said: &[String], reasons: &[&str], when: &str) {
    let is_clear = |said: &String| reasons.iter().any(|reason| said.contains(reason));
    assert!(said.iter().all(is_clear), "{when}: {said:?}");
}

const FAILED: [&str; 2] = ["disk I/O error", "unable to open"];

#[test]
fn an_operation_that_fails_is_tried_again_and_leaves_no_wrong_row() {
    // What fails for longer fails in the same places: one of three has to do.
    for (step, fault) in [(1, Fault::Error), (3, Fault::Broken)] {
        let (numbers, restarts) = ((1..).step_by(step), Restarts::InTheMiddle);
        let operations =
            strike_each(numbers, fault, Operation::is_write, restarts, |bench, disk, said, when| {
                check_said(said, &FAILED, when);
                recover(bench, disk, when);
            });
        assert!(operations > 100, "only {operations} operations");
    }
}

#[test]
fn a_write_that_is_torn_leaves_no_wrong_row() {
    let is_write = |operation: &Operation| operation.kind == Kind::Write;
    let mut failures = 0;
    let writes = strike_each(1.., Fault::Torn, is_write, Restarts::InTheMiddle, |bench, disk, said, when| {
        check_said(said, &FAILED, when);
        failures += said.len();
        recover(bench, disk, when);
    });
    assert!(writes > 100 && failures > 50, "only {writes} writes, {failures} failures");
}

/// With a restart after each piece everything has to be read again. That takes its time: every second one fails.
#[test]
fn a_read_that_fails_is_tried_again_and_leaves_no_wrong_row() {
    let is_read = |operation: &Operation| operation.kind == Kind::Read;
    let mut failures = 0;
    let (numbers, restarts) = ((1..).step_by(2), Restarts::AfterEachPiece);
    let reads = strike_each(numbers, Fault::Error, is_read, restarts, |bench, disk, said, when| {
        check_said(said, &FAILED, when);
        failures += said.len();
        recover(bench, disk, when);
    });
    assert!(reads > 100 && failures > 50, "only {reads} reads, {failures} failures");
}

#[test]
fn a_lock_or_a_size_that_cannot_be_had_leaves_no_wrong_row() {
    let concerns =
        |operation: &Operation| matches!(operation.kind, Kind::Lock | Kind::LockIndex | Kind::Size);
    let operations =
        strike_each(1.., Fault::Error, concerns, Restarts::InTheMiddle, |bench, disk, said, when| {
            check_said(said, &["disk I/O error", "unable to open", "database is locked"], when);
            recover(bench, disk, when);
        });
    assert!(operations > 100, "only {operations} operations");
}

#[test]
fn a_full_disk_is_said_and_waited_for() {
    let mut failures = 0;
    let operations = strike_each(
        1..,
        Fault::Full,
        Operation::is_write,
        Restarts::InTheMiddle,
        |bench, disk, said, when| {
            check_said(said, &["database or disk is full", "disk I/O error"], when);
            failures += said.len();
            // Still full: nothing moves, nothing breaks.
            let _ = project(bench);
            recover(bench, disk, when);
        },
    );
    assert!(operations > 100 && failures > 100, "only {operations} operations, {failures} failures");
}

#[test]
fn a_disk_that_turns_out_to_be_full_at_a_sync_leaves_no_wrong_row() {
    let is_sync = |operation: &Operation| operation.kind == Kind::Sync;
    let mut refused = 0;
    let syncs =
        strike_each(1.., Fault::FullAtSync, is_sync, Restarts::AfterEachPiece, |bench, disk, said, when| {
            check_said(said, &FAILED, when);
            refused += disk.refused();
            let _ = project(bench);
            recover(bench, disk, when);
        });
    assert!(syncs > 20 && refused > 20, "only {syncs} syncs, {refused} refused");
}

#[test]
fn a_kill_or_a_power_failure_at_any_operation_leaves_rows_and_checkpoint_of_one_moment() {
    let mut seed = 0;
    let operations =
        strike_each(1.., Fault::Off, Operation::is_write, Restarts::InTheMiddle, |bench, disk, _, when| {
            seed += 1;
            for loss in [Loss::Nothing, Loss::Unsynced, Loss::Some { seed }] {
                let when = format!("{when}, {loss:?}");
                let left = check_left(disk, loss, &when);
                go_on(left.path(), bench.store.clone(), &when);
            }
        });
    assert!(operations > 100, "only {operations} operations");
}

/// The process that comes after a kill or a power failure begins by clearing up, and the same may happen to it.
#[test]
fn a_kill_or_a_power_failure_while_the_files_open_after_one_leaves_rows_and_checkpoint_of_one_moment() {
    /// Each of the first life's operations is struck, and of the second life's in turn one in so many.
    const STEP: u64 = 20;
    let (mut nth, mut lives) = (0, 0);
    strike_each(1.., Fault::Off, Operation::is_write, Restarts::InTheMiddle, |bench, disk, _, first| {
        nth += 1;
        let losses = [Loss::Nothing, Loss::Unsynced, Loss::Some { seed: nth }];
        let first_loss = losses[(nth % 3) as usize];
        let left = check_left(disk, first_loss, first);
        for later in (1 + nth % STEP..).step_by(STEP as usize) {
            let directory = copy_of(left.path());
            let disk = Disk::mount(directory.path());
            disk.strike(later, Fault::Off, Operation::is_write);
            drop(ReadModels::open(directory.path()));
            let Some(second) = disk.struck() else { break };
            lives += 1;
            let when = format!("{first}, {first_loss:?}, then off at {second} ({later})");
            let left = check_left(&disk, losses[lives % 3], &when);
            go_on(left.path(), bench.store.clone(), &when);
        }
    });
    println!("{lives} lives");
    assert!(lives > 100, "only {lives} lives");
}

/// Readers of a model whose file cannot be read get an error, and answers again when it can.
#[test]
fn a_question_to_a_broken_disk_is_refused() {
    let (mut bench, disk) = bench();
    live(&mut bench, Restarts::InTheMiddle);
    bench.restart();
    disk.strike(1, Fault::Broken, |operation| {
        operation.kind == Kind::Read && operation.file.starts_with("delivery.db")
    });
    assert!(bench.models.delivery.totals().is_err());
    disk.mend();
    assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 8);
}
