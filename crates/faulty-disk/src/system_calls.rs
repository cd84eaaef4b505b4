//! What the standard library does to files: the part of `std::fs::File` that the owner of a database needs.
//!
//! The functions here replace the C library's functions of the same name in every program that this crate is linked
//! into. They do the same, but ask the disk first if the file is on one. SQLite's own file operations pass through,
//! because the VFS has asked already.

#![expect(unsafe_code, reason = "the C library's functions have pointers for arguments")]

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::io;

use crate::disk;
use crate::file::OpenFile;
use crate::operation::{Cause, Failure, Kind};

thread_local! {
    /// SQLite is at work on this thread.
    static PASSING: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, nothing that this thread does is intercepted here.
pub(crate) struct Passing {
    before: bool,
}

impl Passing {
    pub(crate) fn new() -> Self {
        Self { before: PASSING.replace(true) }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        PASSING.set(self.before);
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::from_raw_os_error(match failure {
            Failure { cause: Cause::Full, .. } => libc::ENOSPC,
            Failure { kind: Kind::Lock, .. } => libc::ENOLCK,
            Failure { .. } => libc::EIO,
        })
    }
}

/// The file, if it is on a disk of ours.
fn watched(descriptor: c_int) -> Option<OpenFile> {
    if PASSING.get() || disk::is_none_mounted() {
        return None;
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    disk::disk_of(&path).map(|disk| OpenFile::of(disk, path))
}

/// The answer of a system call.
fn answer(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What the C library's function gives back.
fn give_back(result: io::Result<c_long>) -> c_long {
    result.unwrap_or_else(|error| {
        // SAFETY: the place where the C library keeps the thread's last error.
        unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EIO) };
        -1
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pread64(
    descriptor: c_int,
    buffer: *mut c_void,
    bytes: usize,
    offset: libc::off64_t,
) -> libc::ssize_t {
    // SAFETY: the caller's arguments are handed on as they are.
    let really = || answer(unsafe { libc::syscall(libc::SYS_pread64, descriptor, buffer, bytes, offset) });
    let read = match watched(descriptor) {
        Some(file) => file.read(offset as usize, bytes, really),
        None => really(),
    };
    give_back(read) as libc::ssize_t
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    descriptor: c_int,
    buffer: *const c_void,
    bytes: usize,
    offset: libc::off64_t,
) -> libc::ssize_t {
    let really = |bytes: usize| {
        // SAFETY: the caller's arguments are handed on; `bytes` is at most what the caller has given.
        answer(unsafe { libc::syscall(libc::SYS_pwrite64, descriptor, buffer, bytes, offset) })
    };
    let written = match watched(descriptor) {
        Some(file) => {
            // SAFETY: the caller gives a buffer of this size.
            let contents = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), bytes) };
            file.write(offset as usize, contents, |part| really(part.len()))
        }
        None => really(bytes),
    };
    give_back(written) as libc::ssize_t
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(descriptor: c_int) -> c_int {
    let synced = match watched(descriptor) {
        Some(file) if file.path().is_dir() => file.sync_directory().map(|()| 0),
        Some(file) => file.sync().map(|()| 0),
        // SAFETY: any number may be asked about.
        None => answer(unsafe { libc::syscall(libc::SYS_fsync, descriptor) }),
    };
    give_back(synced) as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn flock(descriptor: c_int, operation: c_int) -> c_int {
    // SAFETY: any number may be asked about.
    let really = || answer(unsafe { libc::syscall(libc::SYS_flock, descriptor, operation) });
    let is_given_back = operation & libc::LOCK_UN != 0;
    let locked = match watched(descriptor).filter(|_| !is_given_back) {
        Some(file) => file.ask(Kind::Lock, || Ok::<_, io::Error>(())).and_then(|()| really()),
        None => really(),
    };
    give_back(locked) as c_int
}
