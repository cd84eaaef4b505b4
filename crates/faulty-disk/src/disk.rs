//! The plan of a test, what has been done to the files, and what is left of them.

use parking_lot::Mutex;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rusqlite::ffi;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;
use tempfile::TempDir;

use crate::shadow::Shadow;
use crate::vfs;

/// What is mounted in this process.
static MOUNTED: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// When a file was last changed that nobody has changed since [`Disk::expect_rewrites`].
const MARK: SystemTime = SystemTime::UNIX_EPOCH;

/// What SQLite does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file that was not there is made.
    Create,
    /// Bytes are read. Never fails unless a plan asks for it.
    Read,
    /// Bytes are written.
    Write,
    /// The size is changed.
    Truncate,
    /// What was written is to be made durable.
    Sync,
    /// The file is removed.
    Delete,
    /// The index of the write-ahead log, which processes share, is made larger.
    Grow,
}

/// Something done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub kind: Kind,
    /// The file's name without its directory.
    pub file: String,
    /// Where in the file, and how much; 0 where that means nothing.
    pub offset: usize,
    /// See `offset`.
    pub bytes: usize,
}

impl Change {
    /// Whether it changes what is on the disk, or could.
    pub fn is_write(&self) -> bool {
        self.kind != Kind::Read
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, file, offset, bytes } = self;
        write!(formatter, "{kind:?} of {bytes} bytes at {offset} of {file}")
    }
}

/// What happens at the operation that is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing; what comes after it works.
    Error,
    /// Half of what it writes is written, and it fails; what comes after it works.
    Torn,
    /// From now on no file can grow, until [`Disk::mend`].
    Full,
    /// From now on the same kind of operation on the same file fails, until [`Disk::mend`].
    Broken,
    /// Half of what it writes is written; nothing reaches the disk any more after that. For the program it looks as if
    /// every operation failed; a test goes on with [`Disk::restart_into`].
    Off,
}

/// How much is lost when the disk is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: only the process was killed.
    Nothing,
    /// Power failed, and what was not synced is gone.
    Unsynced,
    /// Power failed, and of what was not synced each sector is there or not.
    Some {
        /// Says which.
        seed: u64,
    },
}

/// A temporary directory, in memory where the system has a place for that. The disk under test is ours: a real one below
/// it would only take its time.
///
/// # Panics
/// If there is no room for it.
pub fn temporary_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a temporary directory can be made")
}

/// A directory on a disk that can fail. It is an ordinary directory again when this is dropped and the files in it
/// are closed.
pub struct Disk(Arc<Inner>);

pub(crate) struct Inner {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Shadow>,
    /// Those whose time of change is [`MARK`] if nobody has written them.
    marked: BTreeSet<PathBuf>,
    plan: Option<Plan>,
    struck: Option<Change>,
    /// What fails until the disk is mended.
    lasting: Option<Lasting>,
    writes: u64,
    refused: u64,
    syncs: BTreeMap<String, u64>,
    /// How often a sync of each file has failed.
    failed_syncs: BTreeMap<PathBuf, u64>,
}

struct Plan {
    fault: Fault,
    /// So many more of them pass.
    passes: u64,
    concerns: Box<dyn Fn(&Change) -> bool + Send>,
}

#[derive(PartialEq, Eq)]
enum Lasting {
    Full,
    Broken(Kind, String),
    Off,
}

/// What is to be done with an operation.
enum Verdict {
    Go,
    /// Nothing is done.
    Fail(c_int),
    /// The first half is done.
    Half(c_int),
}

impl Disk {
    /// Puts this directory, which must exist, on a disk of its own. SQLite files in it that are opened from now on are
    /// watched.
    ///
    /// # Panics
    /// If the directory is not there.
    pub fn mount(directory: &Path) -> Self {
        vfs::install();
        let root = directory.canonicalize().expect("the directory is there");
        let inner = Arc::new(Inner { root, state: Mutex::default() });
        let mut mounted = MOUNTED.lock();
        mounted.retain(|other| other.strong_count() > 0);
        mounted.push(Arc::downgrade(&inner));
        Self(inner)
    }

    /// Lets the `nth` operation (from 1) of those that `concerns` picks fail, counted from now on.
    pub fn strike(&self, nth: u64, fault: Fault, concerns: impl Fn(&Change) -> bool + Send + 'static) {
        let plan = Plan { fault, passes: nth - 1, concerns: Box::new(concerns) };
        let mut state = self.0.state.lock();
        state.plan = Some(plan);
        state.struck = None;
    }

    /// What was struck, if it has come to that.
    pub fn struck(&self) -> Option<Change> {
        self.0.state.lock().struck.clone()
    }

    /// Ends what [`Fault::Full`], [`Fault::Broken`] and [`Fault::Off`] have begun, and forgets the plan.
    pub fn mend(&self) {
        let mut state = self.0.state.lock();
        state.lasting = None;
        state.plan = None;
    }

    /// The process has ended and another one begins, on the same disk and with the same memory of what was written. If
    /// it writes a file by other means than SQLite before SQLite opens it, that is noticed from now on, and taken for
    /// synced.
    ///
    /// # Errors
    /// If a file cannot be marked.
    pub fn expect_rewrites(&self) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let files: BTreeSet<PathBuf> = state.files.keys().cloned().collect();
        for path in &files {
            std::fs::File::options().write(true).open(path)?.set_modified(MARK)?;
        }
        state.marked = files;
        Ok(())
    }

    /// How many operations were done that change something.
    pub fn writes(&self) -> u64 {
        self.0.state.lock().writes
    }

    /// How many operations have failed.
    pub fn refused(&self) -> u64 {
        self.0.state.lock().refused
    }

    /// How often the file of this name was synced.
    pub fn syncs(&self, file: &str) -> u64 {
        self.0.state.lock().syncs.get(file).copied().unwrap_or(0)
    }

    /// Writes the directory into another one as a restart would find it.
    ///
    /// # Errors
    /// If the files cannot be copied.
    pub fn restart_into(&self, directory: &Path, loss: Loss) -> io::Result<()> {
        let state = self.0.state.lock();
        let mut random = match loss {
            Loss::Some { seed } => ChaCha8Rng::seed_from_u64(seed),
            Loss::Nothing | Loss::Unsynced => ChaCha8Rng::seed_from_u64(0),
        };
        for (path, shadow) in &state.files {
            let target =
                directory.join(path.strip_prefix(&self.0.root).expect("every file is below the root"));
            let contents = match loss {
                Loss::Nothing => std::fs::read(path)?,
                Loss::Unsynced => shadow.synced(),
                Loss::Some { .. } => shadow.torn(&mut random),
            };
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(target, contents)?;
        }
        Ok(())
    }
}

impl State {
    fn failed_syncs(&self, path: &Path) -> u64 {
        self.failed_syncs.get(path).copied().unwrap_or(0)
    }

    /// Whether somebody else has written the file since it was marked. Asked once: then SQLite writes it.
    fn was_rewritten(&mut self, path: &Path) -> bool {
        let modified = || std::fs::metadata(path).and_then(|file| file.modified());
        self.marked.remove(path) && modified().is_ok_and(|modified| modified != MARK)
    }

    /// Counts the operation and decides about it. `grows`: it takes room that was not taken before.
    fn judge(&mut self, change: Change, grows: bool) -> Verdict {
        if change.is_write() {
            self.writes += 1;
        }
        let verdict = match self.strike(&change) {
            None => self.lasting_verdict(&change, grows),
            Some(Fault::Error) => Verdict::Fail(code_of(change.kind)),
            Some(Fault::Torn) => Verdict::Half(code_of(change.kind)),
            Some(Fault::Broken) => {
                self.lasting = Some(Lasting::Broken(change.kind, change.file.clone()));
                Verdict::Fail(code_of(change.kind))
            }
            Some(Fault::Off) => {
                self.lasting = Some(Lasting::Off);
                Verdict::Half(code_of(change.kind))
            }
            Some(Fault::Full) => {
                self.lasting = Some(Lasting::Full);
                if grows { Verdict::Half(code_when_full(change.kind)) } else { Verdict::Go }
            }
        };
        if !matches!(verdict, Verdict::Go) {
            self.refused += 1;
        }
        verdict
    }

    /// The fault of the plan, if it is this operation's turn.
    fn strike(&mut self, change: &Change) -> Option<Fault> {
        let plan = self.plan.as_mut().filter(|plan| (plan.concerns)(change))?;
        if plan.passes > 0 {
            plan.passes -= 1;
            return None;
        }
        let fault = plan.fault;
        self.plan = None;
        self.struck = Some(change.clone());
        Some(fault)
    }

    fn lasting_verdict(&self, change: &Change, grows: bool) -> Verdict {
        match &self.lasting {
            Some(Lasting::Off) if change.is_write() => Verdict::Fail(code_of(change.kind)),
            Some(Lasting::Full) if grows => Verdict::Fail(code_when_full(change.kind)),
            Some(Lasting::Broken(kind, file)) if (*kind, file) == (change.kind, &change.file) => {
                Verdict::Fail(code_of(change.kind))
            }
            _ => Verdict::Go,
        }
    }
}

/// What SQLite is told when the operation fails.
fn code_of(kind: Kind) -> c_int {
    match kind {
        Kind::Create => ffi::SQLITE_CANTOPEN,
        Kind::Read => ffi::SQLITE_IOERR_READ,
        Kind::Write => ffi::SQLITE_IOERR_WRITE,
        Kind::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
        Kind::Sync => ffi::SQLITE_IOERR_FSYNC,
        Kind::Delete => ffi::SQLITE_IOERR_DELETE,
        Kind::Grow => ffi::SQLITE_IOERR_SHMSIZE,
    }
}

fn code_when_full(kind: Kind) -> c_int {
    if kind == Kind::Write { ffi::SQLITE_FULL } else { code_of(kind) }
}

/// The disk that this path is on.
pub(crate) fn disk_of(path: &Path) -> Option<Arc<Inner>> {
    let mounted = MOUNTED.lock();
    mounted.iter().filter_map(Weak::upgrade).find(|disk| path.starts_with(&disk.root))
}

/// A file that SQLite has opened. Each operation is given how it is really done, and answers SQLite's code.
pub(crate) struct Watched {
    disk: Arc<Inner>,
    path: PathBuf,
    /// Of the failed syncs of this file, those that whoever opened it has been told of.
    failed_syncs_told: AtomicU64,
}

impl Watched {
    /// Opens a file; `is_new`: it is made, because it was not there.
    pub(crate) fn open(
        disk: Arc<Inner>,
        path: PathBuf,
        is_new: bool,
        really: impl FnOnce() -> c_int,
    ) -> Result<Self, c_int> {
        let file = Self { disk, path, failed_syncs_told: AtomicU64::new(0) };
        let mut state = file.disk.state.lock();
        file.failed_syncs_told.store(state.failed_syncs(&file.path), Ordering::Relaxed);
        if is_new
            && let Verdict::Fail(code) | Verdict::Half(code) =
                state.judge(change(&file.path, Kind::Create, 0, 0), false)
        {
            return Err(code);
        }
        let code = really();
        if code != ffi::SQLITE_OK {
            return Err(code);
        }
        if !state.files.contains_key(&file.path) || state.was_rewritten(&file.path) {
            let contents = std::fs::read(&file.path).unwrap_or_default();
            state.files.insert(file.path.clone(), Shadow::of(contents));
        }
        drop(state);
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn change(&self, kind: Kind, offset: usize, bytes: usize) -> Change {
        change(&self.path, kind, offset, bytes)
    }

    /// What is known of the file; nothing yet, if another connection has deleted it.
    fn shadow<'s>(&self, state: &'s mut State) -> &'s mut Shadow {
        state.files.entry(self.path.clone()).or_default()
    }

    pub(crate) fn read(&self, offset: usize, bytes: usize, really: impl FnOnce() -> c_int) -> c_int {
        let verdict = self.disk.state.lock().judge(self.change(Kind::Read, offset, bytes), false);
        match verdict {
            Verdict::Go => really(),
            Verdict::Fail(code) | Verdict::Half(code) => code,
        }
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8], really: impl FnOnce(&[u8]) -> c_int) -> c_int {
        let mut state = self.disk.state.lock();
        let grows = offset + bytes.len() > self.shadow(&mut state).size_bytes();
        let (part, code) = match state.judge(self.change(Kind::Write, offset, bytes.len()), grows) {
            Verdict::Go => (bytes, ffi::SQLITE_OK),
            Verdict::Fail(code) => return code,
            Verdict::Half(code) => (&bytes[..bytes.len() / 2], code),
        };
        let written = really(part);
        if written != ffi::SQLITE_OK {
            return written;
        }
        self.shadow(&mut state).write(offset, part);
        code
    }

    pub(crate) fn truncate(&self, size_bytes: usize, really: impl FnOnce() -> c_int) -> c_int {
        let mut state = self.disk.state.lock();
        let verdict = state.judge(self.change(Kind::Truncate, size_bytes, 0), false);
        if let Verdict::Fail(code) | Verdict::Half(code) = verdict {
            return code;
        }
        let code = really();
        if code == ffi::SQLITE_OK {
            self.shadow(&mut state).resize(size_bytes);
        }
        code
    }

    /// The system's own sync is left out: nobody pulls the plug of the machine that runs the tests.
    pub(crate) fn sync(&self) -> c_int {
        let mut state = self.disk.state.lock();
        let verdict = state.judge(self.change(Kind::Sync, 0, 0), false);
        if let Verdict::Fail(_) | Verdict::Half(_) = verdict {
            // Without power nobody takes it for written.
            if state.lasting != Some(Lasting::Off) {
                self.shadow(&mut state).fail_to_sync();
                *state.failed_syncs.entry(self.path.clone()).or_default() += 1;
            }
        } else {
            self.shadow(&mut state).sync();
        }
        let failed = state.failed_syncs(&self.path);
        let is_news = self.failed_syncs_told.swap(failed, Ordering::Relaxed) < failed;
        match verdict {
            Verdict::Fail(code) | Verdict::Half(code) => code,
            Verdict::Go if is_news => {
                state.refused += 1;
                code_of(Kind::Sync)
            }
            Verdict::Go => {
                *state.syncs.entry(name_of(&self.path)).or_default() += 1;
                ffi::SQLITE_OK
            }
        }
    }

    /// Makes the index of the write-ahead log larger, which is in a file of its own that SQLite maps into memory.
    pub(crate) fn grow(&self, offset: usize, bytes: usize, really: impl FnOnce() -> c_int) -> c_int {
        let verdict = self.disk.state.lock().judge(self.change(Kind::Grow, offset, bytes), true);
        match verdict {
            Verdict::Go => really(),
            Verdict::Fail(code) | Verdict::Half(code) => code,
        }
    }
}

/// Removes a file.
pub(crate) fn delete(disk: &Inner, path: &Path, really: impl FnOnce() -> c_int) -> c_int {
    let mut state = disk.state.lock();
    let verdict = state.judge(change(path, Kind::Delete, 0, 0), false);
    if let Verdict::Fail(code) | Verdict::Half(code) = verdict {
        return code;
    }
    let code = really();
    if code == ffi::SQLITE_OK {
        state.files.remove(path);
    }
    code
}

fn change(path: &Path, kind: Kind, offset: usize, bytes: usize) -> Change {
    Change { kind, file: name_of(path), offset, bytes }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
