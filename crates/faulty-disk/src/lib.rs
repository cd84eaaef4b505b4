//! A disk that fails when a test says so, under every SQLite database of the process.
//!
//! [`Disk::mount`] puts a directory on it. The code under test opens its files as it always does and knows nothing of
//! it: the disk sits below SQLite, as the default VFS, and hands everything on to the system's. It counts what is done
//! to the files in the directory, lets the n-th operation fail ([`Disk::strike`]), and remembers of each file what was
//! synced, so that it can show the directory as a restart would find it ([`Disk::restart_into`]).
//!
//! What it takes for the truth about disks:
//! - a write is certain only after a sync of the same file that succeeded;
//! - when power fails, of what was written since then each sector is there or not, in any combination;
//! - a sync that fails leaves what it should have written in memory but not on the disk, and a later one does not
//!   write it either (what Linux does);
//! - whoever has the file open when a sync fails is told so by their next sync, once (what Linux does since 4.13);
//! - on a full disk a file can be made but not grow, and what is there can still be written over;
//! - creating and deleting a file is certain at once. This is kinder than a real disk.
//!
//! A development dependency only. It is the one crate that may hold `unsafe` code: SQLite asks for C functions.
//!
//! Deliberately absent: files that are not opened by SQLite, bits that flip by themselves (SQLite has no checksums in
//! its pages), slow disks.

mod disk;
mod shadow;
mod vfs;

pub use disk::{Change, Disk, Fault, Kind, Loss, temporary_directory};
