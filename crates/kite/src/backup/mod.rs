//! Backups: a directory with a copy of the log and a manifest that says what it is.
//!
//! The log is all there is: read models are made anew from it. A backup is written under another name and gets its own only
//! when every byte is durable, so that half a copy never looks like a whole one.

mod command;
mod desk;
mod manifest;
mod restore;
mod take;

pub(crate) use command::{backup, restore};
pub(crate) use desk::Desk;
pub(crate) use manifest::{is_backup, refuse_backup};

use anyhow::{Context, bail};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The log, in a data directory and in a backup.
pub(crate) const LOG: &str = "events.db";

/// The directory in which something is made before it gets its name: beside it, so that it can be renamed.
fn partial_of(target: &Path) -> anyhow::Result<PathBuf> {
    let name =
        target.file_name().with_context(|| format!("{} is no name for a directory", target.display()))?;
    Ok(target.with_file_name(format!(".{}.partial", name.to_string_lossy())))
}

/// A directory in the making, that nobody else makes at the same time.
struct Partial {
    path: PathBuf,
    target: PathBuf,
    lock: File,
}

/// Says that somebody is at work on a directory in the making.
const LOCK: &str = "lock";

impl Partial {
    /// Begins. What is left of an earlier try, which has ended, is removed.
    fn begin(target: &Path) -> anyhow::Result<Self> {
        refuse_what_is_there(target)?;
        let path = partial_of(target)?;
        if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        if path.exists() {
            let held = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
            let held = held.with_context(|| format!("{} is in the way", path.display()))?;
            if held.try_lock().is_err() {
                bail!("somebody else is writing {}", target.display());
            }
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        crate::private::private_directory(&path)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        if lock.try_lock().is_err() {
            bail!("somebody else is writing {}", target.display());
        }
        Ok(Self { path, target: target.to_owned(), lock })
    }

    /// A file in it.
    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Everything is in it: it gets its name, durably.
    fn finish(self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&self.path)?.sync_all()?;
        // An empty directory gives way; anything else does not.
        std::fs::rename(&self.path, &self.target)
            .with_context(|| format!("cannot name it {}", self.target.display()))?;
        // Only now: whoever finds no lock takes it for what is left of a try that has ended.
        std::fs::remove_file(self.target.join(LOCK))?;
        File::open(&self.target)?.sync_all()?;
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        drop(self.lock);
        Ok(())
    }

    /// It came to nothing.
    fn give_up(self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, directory = %self.path.display(), "what is left of it could not be removed");
        }
    }
}

/// Nothing is ever overwritten.
fn refuse_what_is_there(target: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(target) {
        Ok(mut entries) => {
            anyhow::ensure!(entries.next().is_none(), "{} is not empty", target.display());
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("{} is no directory that can be used", target.display()))
        }
    }
}
