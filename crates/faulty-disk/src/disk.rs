//! A directory on a disk that can fail, and what a restart finds in it.

use parking_lot::Mutex;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use tempfile::TempDir;

use crate::fault::{Fault, Faults};
use crate::operation::{Operation, name_of};
use crate::shadow::Shadow;
use crate::vfs;

/// What is mounted in this process.
static MOUNTED: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

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
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<PathBuf, Record>,
    pub(crate) faults: Faults,
    /// How often the file of this name was synced.
    pub(crate) syncs: BTreeMap<String, u64>,
}

/// What is known of a file.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) shadow: Shadow,
    pub(crate) failed_syncs: u64,
}

impl Disk {
    /// Puts this directory, which must exist, on a disk of its own. The present content of its files counts as
    /// synced; files that are opened from now on are watched.
    ///
    /// # Panics
    /// If the directory is not there.
    pub fn mount(directory: &Path) -> Self {
        vfs::install();
        let root = directory.canonicalize().expect("the directory is there");
        let mut state = State::default();
        for entry in root.read_dir().expect("the directory can be read") {
            let path = entry.expect("the directory can be read").path();
            // SQLite makes the index of a write-ahead log again: nothing in it outlives a process.
            if path.is_file() && !name_of(&path).ends_with("-shm") {
                state.record(&path);
            }
        }
        let inner = Arc::new(Inner { root, state: Mutex::new(state) });
        let mut mounted = MOUNTED.lock();
        mounted.retain(|other| other.strong_count() > 0);
        mounted.push(Arc::downgrade(&inner));
        Self(inner)
    }

    /// Lets the `nth` operation (from 1) of those that `concerns` picks fail, counted from now on.
    pub fn strike(&self, nth: u64, fault: Fault, concerns: impl Fn(&Operation) -> bool + Send + 'static) {
        self.0.state.lock().faults.plan(nth, fault, concerns);
    }

    /// What was struck, if it has come to that.
    pub fn struck(&self) -> Option<Operation> {
        self.0.state.lock().faults.struck().cloned()
    }

    /// Ends a lasting fault, and forgets the plan.
    pub fn mend(&self) {
        self.0.state.lock().faults.mend();
    }

    /// How many operations were done that change something.
    pub fn writes(&self) -> u64 {
        self.0.state.lock().faults.writes()
    }

    /// How many operations have failed.
    pub fn refused(&self) -> u64 {
        self.0.state.lock().faults.refused()
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
        for (path, Record { shadow, .. }) in &state.files {
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
    /// What is known about the file: its content at the first look counts as durable.
    pub(crate) fn record(&mut self, path: &Path) -> &mut Record {
        self.files.entry(path.to_owned()).or_insert_with(|| {
            // A file that another connection has deleted is empty.
            let contents = std::fs::read(path).unwrap_or_default();
            Record { shadow: Shadow::of(contents), failed_syncs: 0 }
        })
    }

    pub(crate) fn failed_syncs(&self, path: &Path) -> u64 {
        self.files.get(path).map_or(0, |record| record.failed_syncs)
    }
}

/// The disk that this path is on.
pub(crate) fn disk_of(path: &Path) -> Option<Arc<Inner>> {
    let mounted = MOUNTED.lock();
    mounted.iter().filter_map(Weak::upgrade).find(|disk| path.starts_with(&disk.root))
}

pub(crate) fn is_none_mounted() -> bool {
    MOUNTED.lock().is_empty()
}
