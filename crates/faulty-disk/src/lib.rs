//! A disk that fails when a test says so, under every SQLite database of the process and what is done to its files
//! beside it.
//!
//! [`Disk::mount`] puts a directory on it. The code under test opens its files as it always does and knows nothing of
//! it. Below SQLite the disk is the default VFS (`vfs`) and hands everything on to the system's; below `std::fs::File`
//! it takes the place of the C library's `pread`, `pwrite`, `fsync` and `flock` (`system_calls`). It counts what is done
//! to the files in the directory, lets the n-th operation fail ([`Disk::strike`]), and remembers of each file what was
//! synced, so that it can show the directory as a restart would find it ([`Disk::restart_into`]).
//!
//! What it takes for the truth about disks:
//! - a write is certain only after a sync of the same file that succeeded;
//! - when power fails, of what was written since then each sector is there or not, in any combination;
//! - a sync that fails leaves what it should have written in memory; any part of it may be on the disk, and no later sync
//!   writes the rest (what Linux does);
//! - whoever has the file open when a sync fails is told so by their next sync, once (what Linux does since 4.13);
//! - on a full disk a file can be made but not grow, and what is there can still be written over;
//! - creating and deleting a file is certain at once. This is kinder than a real disk.
//!
//! A development dependency only, for Linux on 64 bits. It is the one crate that may hold `unsafe` code: SQLite and the
//! C library are C.
//!
//! Deliberately absent: other ways to write than those named, bits that flip by themselves (SQLite has no checksums in its
//! pages), slow disks.

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
