//! A disk that fails when a test says so, under every SQLite database of the process and under what is done to its
//! files beside SQLite.
//!
//! [`Disk::mount`] puts a directory on it. The code under test opens its files as it always does and knows nothing
//! about it. Below SQLite the disk is the default VFS (`vfs`) and passes everything on to the system's; below
//! `std::fs::File` it replaces the C library's `pread`, `pwrite`, `fsync` and `flock` (`system_calls`). It counts the
//! operations on the files in the directory, lets the n-th fail ([`Disk::strike`]), and remembers for each file what
//! was synced, so that it can show the directory as a restart would find it ([`Disk::restart_into`]).
//!
//! It assumes this about disks:
//! - a write is certain only after a successful sync of the same file;
//! - when power fails, each sector that was written since then is there or not, in any combination;
//! - a sync that fails leaves what it should have written in memory; any part of it may be on the disk, and no later
//!   sync writes the rest (as on Linux);
//! - everybody who has the file open when a sync fails learns of it from their next sync, once (as on Linux since
//!   4.13);
//! - on a full disk a file can be made but not grow, and existing content can still be overwritten;
//! - creating and deleting a file is certain at once. This is kinder than a real disk.
//!
//! A development dependency only, for Linux on 64 bits. It is the only crate that may contain `unsafe` code: SQLite
//! and the C library are C.
//!
//! Deliberately absent: other ways to write than those named, bits that flip by themselves (SQLite has no checksums
//! in its pages), slow disks.

mod disk;
mod fault;
mod file;
mod operation;
mod shadow;
mod system_calls;
mod vfs;

pub use disk::{Disk, Loss, temporary_directory};
pub use fault::Fault;
pub use operation::{Kind, Operation};
