//! The C side: a VFS that asks the disk before it hands an operation on to the system's.

#![expect(unsafe_code, reason = "SQLite calls a VFS through C functions with pointers of its own")]

use rusqlite::ffi;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Once;

use crate::disk;
use crate::file::{self, OpenFile};
use crate::operation::{Cause, Failure, Kind};
use crate::system_calls::Passing;

/// What SQLite keeps for an open file. The system's own record follows it in the same piece of memory,
/// which SQLite aligns to 8 bytes.
#[repr(C)]
struct File {
    /// First, because SQLite takes a pointer to the record for one to this.
    base: ffi::sqlite3_file,
    /// Null for a file that is on no disk of ours; else from a `Box`.
    watched: *mut OpenFile,
}

/// Without memory-mapped reads, which would pass the disk by.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes this VFS the default of the process, once.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: a null name asks for the default VFS, which lives as long as the process.
        let system = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        assert!(!system.is_null(), "SQLite has a VFS for this system");
        // SAFETY: just checked. The record is plain data that SQLite does not change once it is registered.
        let mut own = unsafe { *system };
        own.zName = c"faulty-disk".as_ptr();
        own.pNext = ptr::null_mut();
        own.pAppData = system.cast();
        own.szOsFile += size_of::<File>() as c_int;
        own.xOpen = Some(open);
        own.xDelete = Some(delete);
        // SAFETY: the record is never freed. What is taken over from the system's VFS looks at nothing of the record
        // that differs: only its `xOpen` reads `pAppData`, and that is called with its own record.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(own)), 1) };
        assert_eq!(code, ffi::SQLITE_OK, "a VFS can be registered");
    });
}

/// The VFS that ours stands on.
unsafe fn system_of(vfs: *mut ffi::sqlite3_vfs) -> *mut ffi::sqlite3_vfs {
    // SAFETY: SQLite gives the record that `install` has registered.
    unsafe { (*vfs).pAppData.cast() }
}

/// The system's record of the file.
unsafe fn real_of(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite has allocated `szOsFile` bytes, which is the size of both records.
    unsafe { file.byte_add(size_of::<File>()) }
}

unsafe fn watched_of<'f>(file: *mut ffi::sqlite3_file) -> Option<&'f OpenFile> {
    // SAFETY: the file was opened by `open`, which has set this, and is not closed while SQLite uses it.
    unsafe { (*file.cast::<File>()).watched.as_ref() }
}

/// SQLite's code of an operation that did not go as it should.
struct Code(c_int);

impl From<Failure> for Code {
    fn from(Failure { kind, cause }: Failure) -> Self {
        Self(match kind {
            Kind::Create => ffi::SQLITE_CANTOPEN,
            Kind::Read => ffi::SQLITE_IOERR_READ,
            Kind::Write if cause == Cause::Full => ffi::SQLITE_FULL,
            Kind::Write => ffi::SQLITE_IOERR_WRITE,
            Kind::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Kind::Sync => ffi::SQLITE_IOERR_FSYNC,
            Kind::Delete => ffi::SQLITE_IOERR_DELETE,
            Kind::Grow => ffi::SQLITE_IOERR_SHMSIZE,
            Kind::Lock => ffi::SQLITE_IOERR_LOCK,
            Kind::LockIndex => ffi::SQLITE_BUSY,
            Kind::Size => ffi::SQLITE_IOERR_FSTAT,
        })
    }
}

/// What a method of the system has said.
fn result_of(code: c_int) -> Result<(), Code> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(Code(code)) }
}

fn code_of(result: Result<(), Code>) -> c_int {
    result.map_or_else(|Code(code)| code, |()| ffi::SQLITE_OK)
}

/// Calls a method of the system's file.
macro_rules! really {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let _passing = Passing::new();
        // SAFETY: the system's record was set up by its own `xOpen`, and SQLite's arguments are handed on as they are.
        unsafe {
            let real = real_of($file);
            let method = (*(*real).pMethods).$method.expect("a file of the system has all methods");
            method(real $(, $argument)*)
        }
    }};
}

unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: SQLite gives names that end with a zero byte.
    let name = unsafe { CStr::from_ptr(name) };
    Path::new(OsStr::from_bytes(name.to_bytes())).to_owned()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let record = file.cast::<File>();
    // SAFETY: SQLite has allocated the record; without methods it is not open.
    unsafe {
        (*record).base.pMethods = ptr::null();
        (*record).watched = ptr::null_mut();
        (*real_of(file)).pMethods = ptr::null();
    }
    let really = || {
        let _passing = Passing::new();
        // SAFETY: SQLite's arguments are handed on as they are, with the system's own records.
        let code = unsafe {
            let system = system_of(vfs);
            let open = (*system).xOpen.expect("a VFS can open files");
            open(system, name, real_of(file), flags, flags_out)
        };
        result_of(code)
    };
    // SAFETY: a file without a name is a temporary one.
    let path = (!name.is_null()).then(|| unsafe { path_of(name) });
    let on_disk = path.and_then(|path| disk::disk_of(&path).map(|disk| (disk, path)));
    let opened = match on_disk {
        None => really().map(|()| ptr::null_mut()),
        Some((disk, path)) => {
            OpenFile::open(disk, path, really).map(|watched| Box::into_raw(Box::new(watched)))
        }
    };
    match opened {
        Err(Code(code)) => code,
        Ok(watched) => {
            // SAFETY: as above.
            unsafe {
                (*record).watched = watched;
                (*record).base.pMethods = &raw const METHODS;
            }
            ffi::SQLITE_OK
        }
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_directory: c_int) -> c_int {
    let really = || {
        let _passing = Passing::new();
        // SAFETY: SQLite's arguments are handed on as they are.
        unsafe {
            let system = system_of(vfs);
            (*system).xDelete.expect("a VFS can delete files")(system, name, sync_directory)
        }
    };
    // SAFETY: a file to be deleted has a name.
    let path = unsafe { path_of(name) };
    match disk::disk_of(&path) {
        Some(disk) if path.exists() => code_of(file::delete(&disk, &path, || result_of(really()))),
        _ => really(),
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let code = really!(file, xClose);
    let record = file.cast::<File>();
    // SAFETY: it is from `Box::into_raw` in `open`, and SQLite closes a file once.
    unsafe {
        if !(*record).watched.is_null() {
            drop(Box::from_raw((*record).watched));
        }
        (*record).watched = ptr::null_mut();
        (*record).base.pMethods = ptr::null();
    }
    code
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file.
    match unsafe { watched_of(file) } {
        Some(watched) => {
            let really = || result_of(really!(file, xRead, buffer, bytes, offset));
            code_of(watched.read(offset as usize, bytes as usize, really))
        }
        None => really!(file, xRead, buffer, bytes, offset),
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: an open file.
    let Some(watched) = (unsafe { watched_of(file) }) else {
        return really!(file, xWrite, buffer, bytes, offset);
    };
    // SAFETY: SQLite gives a buffer of this size.
    let contents = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), bytes as usize) };
    code_of(watched.write(offset as usize, contents, |part| {
        result_of(really!(file, xWrite, part.as_ptr().cast(), part.len() as c_int, offset))
    }))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    match unsafe { watched_of(file) } {
        Some(watched) => {
            code_of(watched.truncate(size as usize, || result_of(really!(file, xTruncate, size))))
        }
        None => really!(file, xTruncate, size),
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: an open file.
    match unsafe { watched_of(file) } {
        Some(watched) => code_of(watched.sync()),
        None => really!(file, xSync, flags),
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    match unsafe { watched_of(file) } {
        Some(watched) => code_of(watched.ask(Kind::Size, || result_of(really!(file, xFileSize, size)))),
        None => really!(file, xFileSize, size),
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    match unsafe { watched_of(file) } {
        Some(watched) => code_of(watched.ask(Kind::Lock, || result_of(really!(file, xLock, level)))),
        None => really!(file, xLock, level),
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    really!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, result: *mut c_int) -> c_int {
    really!(file, xCheckReservedLock, result)
}

unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    really!(file, xFileControl, operation, argument)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    really!(file, xSectorSize)
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    really!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    region_bytes: c_int,
    extend: c_int,
    memory: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file.
    match unsafe { watched_of(file) } {
        Some(watched) if extend != 0 && grows(watched.path(), region, region_bytes) => {
            let (offset, bytes) = (region as usize * region_bytes as usize, region_bytes as usize);
            let really = || result_of(really!(file, xShmMap, region, region_bytes, extend, memory));
            code_of(watched.grow(offset, bytes, really))
        }
        _ => really!(file, xShmMap, region, region_bytes, extend, memory),
    }
}

/// Whether the file of the shared index ends before this region does.
fn grows(database: &Path, region: c_int, region_bytes: c_int) -> bool {
    let mut index = database.as_os_str().to_owned();
    index.push("-shm");
    let size_bytes = std::fs::metadata(index).map_or(0, |index| index.len());
    size_bytes < (region as u64 + 1) * region_bytes as u64
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let really = || really!(file, xShmLock, offset, count, flags);
    // SAFETY: an open file.
    match unsafe { watched_of(file) } {
        Some(watched) if flags & ffi::SQLITE_SHM_LOCK != 0 => {
            code_of(watched.ask(Kind::LockIndex, || result_of(really())))
        }
        _ => really(),
    }
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    really!(file, xShmBarrier)
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    really!(file, xShmUnmap, delete)
}
