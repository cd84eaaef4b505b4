//! SQLite on a disk that fails: the disk does to it what it says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use kite_faulty_disk::{Disk, Fault, Kind, Loss, Operation, temporary_directory};
use rusqlite::{Connection, ErrorCode};
use std::path::Path;

const FILE: &str = "numbers.db";

fn open(directory: &Path, synchronous: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(directory.join(FILE))?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 0;
         CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY, filler BLOB);"
    ))?;
    Ok(connection)
}

fn insert(connection: &Connection, number: i64) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO numbers VALUES (?1, zeroblob(3000))", [number])
}

fn count(directory: &Path) -> i64 {
    let connection = open(directory, "FULL").unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0)).unwrap()
}

/// As a restart finds it.
fn count_after(disk: &Disk, loss: Loss) -> i64 {
    let found = temporary_directory();
    disk.restart_into(found.path(), loss).unwrap();
    count(found.path())
}

fn is_write_ahead(operation: &Operation) -> bool {
    operation.file.ends_with("-wal") && operation.kind == Kind::Write
}

fn code(error: rusqlite::Error) -> ErrorCode {
    error.sqlite_error_code().unwrap()
}

#[test]
fn a_power_failure_takes_what_was_not_synced() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let synced = open(directory.path(), "FULL").unwrap();
    for number in 0..5 {
        insert(&synced, number).unwrap();
    }
    assert_eq!(count_after(&disk, Loss::Unsynced), 5);
    synced.execute_batch("PRAGMA synchronous = OFF").unwrap();
    for number in 5..10 {
        insert(&synced, number).unwrap();
    }
    assert_eq!(count_after(&disk, Loss::Nothing), 10);
    assert_eq!(count_after(&disk, Loss::Unsynced), 5);
    let some: Vec<i64> = (0..40).map(|seed| count_after(&disk, Loss::Some { seed })).collect();
    assert!(some.iter().all(|count| (5..=10).contains(count)), "{some:?}");
    assert!(some.iter().any(|count| *count < 10), "something is lost: {some:?}");
}

#[test]
fn an_operation_fails_once_and_only_the_one_that_was_meant() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let connection = open(directory.path(), "FULL").unwrap();
    disk.strike(2, Fault::Error, is_write_ahead);
    let error = insert(&connection, 1).unwrap_err();
    assert_eq!(code(error), ErrorCode::SystemIoFailure);
    let struck = disk.struck().unwrap();
    assert_eq!((struck.kind, &*struck.file), (Kind::Write, "numbers.db-wal"));
    insert(&connection, 2).unwrap();
    assert_eq!(count_after(&disk, Loss::Unsynced), 1);
    assert_eq!(disk.refused(), 1);
}

#[test]
fn a_full_disk_stays_full_until_there_is_room() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let connection = open(directory.path(), "FULL").unwrap();
    insert(&connection, 1).unwrap();
    disk.strike(1, Fault::Full, Operation::is_write);
    for number in 2..5 {
        assert_eq!(code(insert(&connection, number).unwrap_err()), ErrorCode::DiskFull);
    }
    disk.mend();
    insert(&connection, 5).unwrap();
    assert_eq!(count_after(&disk, Loss::Unsynced), 2);
}

/// The trap that makes a store stop after a failed sync instead of trying again.
#[test]
fn after_a_failed_sync_the_next_one_does_not_make_up_for_it() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let connection = open(directory.path(), "FULL").unwrap();
    insert(&connection, 1).unwrap();
    disk.strike(1, Fault::Error, |operation| operation.kind == Kind::Sync);
    // The commit has failed, so SQLite forgets its pages and writes the next ones over them.
    assert_eq!(code(insert(&connection, 2).unwrap_err()), ErrorCode::SystemIoFailure);
    insert(&connection, 3).unwrap();
    assert_eq!(count_after(&disk, Loss::Unsynced), 2);

    // But a checkpoint takes the log for written that it could not sync a moment ago.
    connection.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
    insert(&connection, 4).unwrap();
    disk.strike(1, Fault::Error, |operation| operation.kind == Kind::Sync);
    let checkpoint = || connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| row.get::<_, i64>(0));
    assert_eq!(code(checkpoint().unwrap_err()), ErrorCode::SystemIoFailure);
    disk.strike(1, Fault::Off, |operation| operation.file == FILE && operation.kind == Kind::Sync);
    assert!(checkpoint().is_err());
    assert_eq!(count_after(&disk, Loss::Unsynced), 2);
    assert_eq!(count_after(&disk, Loss::Nothing), 3);
}

/// Nor does it undo it: any part of what it should have written may be there.
#[test]
fn a_commit_whose_sync_has_failed_may_be_there_after_all() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let connection = open(directory.path(), "FULL").unwrap();
    insert(&connection, 1).unwrap();
    disk.strike(1, Fault::Error, |operation| operation.kind == Kind::Sync);
    connection.execute("INSERT INTO numbers VALUES (2, NULL)", []).expect_err("its sync fails");
    assert_eq!(count_after(&disk, Loss::Unsynced), 1);
    let found: Vec<i64> = (0..2_000).map(|seed| count_after(&disk, Loss::Some { seed })).collect();
    assert!(found.contains(&1) && found.contains(&2));
}

/// Delayed allocation: the room is looked for when the disk is written, not when the program writes.
#[test]
fn a_full_disk_may_be_noticed_at_the_sync_alone() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let connection = open(directory.path(), "FULL").unwrap();
    insert(&connection, 1).unwrap();
    disk.strike(1, Fault::FullAtSync, Operation::is_write);
    for number in 2..4 {
        assert_eq!(code(insert(&connection, number).unwrap_err()), ErrorCode::SystemIoFailure);
        assert_eq!(count_after(&disk, Loss::Unsynced), 1);
    }
    disk.mend();
    insert(&connection, 4).unwrap();
    assert_eq!(count_after(&disk, Loss::Unsynced), 2);
}

#[test]
fn a_lock_and_a_size_may_be_refused() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let connection = open(directory.path(), "FULL").unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    // SQLite takes several of them, and some it tries to get again by itself.
    let refused = (1..=4).find_map(|nth| {
        disk.strike(nth, Fault::Error, |operation| operation.kind == Kind::LockIndex);
        insert(&connection, nth as i64).err()
    });
    assert_eq!(refused.map(code), Some(ErrorCode::DatabaseBusy));
    let before = count_after(&disk, Loss::Unsynced);
    for kind in [Kind::Lock, Kind::Size] {
        disk.strike(1, Fault::Error, move |operation| operation.kind == kind);
        let other = open(directory.path(), "FULL");
        assert_eq!(code(other.unwrap_err()), ErrorCode::SystemIoFailure, "{kind:?}");
        assert_eq!(disk.struck().unwrap().kind, kind);
    }
    insert(&connection, 5).unwrap();
    assert_eq!(count_after(&disk, Loss::Unsynced), before + 1);
}

/// One connection copies the write-ahead log while another one commits: what the failed sync of the first has lost may
/// be what the second has just written.
#[test]
fn everybody_who_has_the_file_open_is_told_of_a_failed_sync_once() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let writer = open(directory.path(), "FULL").unwrap();
    insert(&writer, 1).unwrap();
    let copier = open(directory.path(), "FULL").unwrap();
    disk.strike(1, Fault::Error, |operation| operation.kind == Kind::Sync);
    let copy = copier.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(0));
    assert_eq!(code(copy.unwrap_err()), ErrorCode::SystemIoFailure);

    assert_eq!(code(insert(&writer, 2).unwrap_err()), ErrorCode::SystemIoFailure);
    insert(&writer, 3).unwrap();
    assert_eq!(disk.refused(), 2);
    let late = open(directory.path(), "FULL").unwrap();
    insert(&late, 4).unwrap();
    assert_eq!(disk.refused(), 2, "who opens it afterwards has lost nothing");
}

#[test]
fn without_power_nothing_reaches_the_disk() {
    let directory = temporary_directory();
    let disk = Disk::mount(directory.path());
    let connection = open(directory.path(), "FULL").unwrap();
    insert(&connection, 1).unwrap();
    disk.strike(2, Fault::Off, is_write_ahead);
    for number in 2..5 {
        assert_eq!(code(insert(&connection, number).unwrap_err()), ErrorCode::SystemIoFailure);
    }
    for loss in [Loss::Nothing, Loss::Unsynced, Loss::Some { seed: 1 }] {
        assert_eq!(count_after(&disk, loss), 1, "{loss:?}");
    }
}

#[test]
fn other_directories_are_left_alone() {
    let (mounted, other) = (temporary_directory(), temporary_directory());
    let disk = Disk::mount(mounted.path());
    disk.strike(1, Fault::Off, Operation::is_write);
    let connection = open(other.path(), "FULL").unwrap();
    insert(&connection, 1).unwrap();
    drop(connection);
    assert_eq!(count(other.path()), 1);
    assert_eq!((disk.writes(), disk.struck()), (0, None));
    assert!(open(mounted.path(), "FULL").is_err());
}
