//! Files written with the standard library, beside SQLite's: the disk does to them what it says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use kite_faulty_disk::{Disk, Fault, Kind, Loss, Operation, temporary_directory};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tempfile::TempDir;

const FILE: &str = "notes";

/// A file that was there before, on a disk.
fn file() -> (TempDir, Disk, File) {
    let directory = temporary_directory();
    std::fs::write(directory.path().join(FILE), b"old old").unwrap();
    let disk = Disk::mount(directory.path());
    let file = File::options().read(true).write(true).open(directory.path().join(FILE)).unwrap();
    (directory, disk, file)
}

/// As a restart finds it.
fn found(disk: &Disk, loss: Loss) -> Vec<u8> {
    let found = temporary_directory();
    disk.restart_into(found.path(), loss).unwrap();
    std::fs::read(found.path().join(FILE)).unwrap()
}

fn is_sync(operation: &Operation) -> bool {
    operation.kind == Kind::Sync
}

#[test]
fn a_power_failure_takes_what_was_not_synced() {
    let (_directory, disk, file) = file();
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(found(&disk, Loss::Nothing), b"new old");
    assert_eq!(found(&disk, Loss::Unsynced), b"old old");
    file.sync_all().unwrap();
    assert_eq!(found(&disk, Loss::Unsynced), b"new old");
    assert_eq!((disk.writes(), disk.syncs(FILE)), (2, 1));
}

#[test]
fn an_operation_fails_once_and_only_the_one_that_was_meant() {
    let (directory, disk, file) = file();
    disk.strike(2, Fault::Torn, |operation| operation.kind == Kind::Write);
    file.write_all_at(b"1", 0).unwrap();
    assert_eq!(file.write_all_at(b"2345", 1).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(std::fs::read(directory.path().join(FILE)).unwrap(), b"123 old");

    disk.strike(1, Fault::Error, |operation| operation.kind == Kind::Read);
    let mut read = [0; 3];
    assert_eq!(file.read_at(&mut read, 0).unwrap_err().raw_os_error(), Some(5));
    assert_eq!((file.read_at(&mut read, 0).unwrap(), &read), (3, b"123"));

    disk.strike(1, Fault::Error, is_sync);
    assert!(file.sync_all().is_err());
    file.sync_all().unwrap();
    assert_eq!(found(&disk, Loss::Unsynced), b"old old", "a second sync does not make up for it");
    assert_eq!(disk.refused(), 3);
}

#[test]
fn a_directory_is_synced_and_a_file_locked_on_the_disk_too() {
    let (directory, disk, file) = file();
    let synced = || File::open(directory.path()).and_then(|directory| directory.sync_all());
    disk.strike(1, Fault::Error, is_sync);
    assert!(synced().is_err());
    synced().unwrap();

    disk.strike(1, Fault::Error, |operation| operation.kind == Kind::Lock);
    assert!(matches!(file.try_lock(), Err(TryLockError::Error(_))));
    file.try_lock().unwrap();
    file.unlock().unwrap();
}

#[test]
fn a_file_may_seem_to_grow_until_it_is_synced() {
    let (_directory, disk, file) = file();
    disk.strike(1, Fault::FullAtSync, Operation::is_write);
    file.write_all_at(b"new", 0).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(b", and more", 7).unwrap();
    assert_eq!(file.sync_all().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(found(&disk, Loss::Unsynced), b"new old");
    disk.mend();
    file.write_all_at(b", and more", 7).unwrap();
    file.sync_all().unwrap();
    assert_eq!(found(&disk, Loss::Unsynced), b"new old, and more");
}

#[test]
fn other_directories_are_left_alone() {
    let (_directory, disk, _) = file();
    disk.strike(1, Fault::Off, Operation::is_write);
    let other = temporary_directory();
    let path: &Path = &other.path().join(FILE);
    let file = File::create_new(path).unwrap();
    file.write_all_at(b"whole", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"whole");
    assert_eq!((disk.writes(), disk.struck()), (0, None));
}
