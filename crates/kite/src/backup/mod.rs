//! Backups: a directory with a copy of the log and a manifest that describes it.
//!
//! Everything is in the log: read models are rebuilt from it. A backup is written under another name and gets its own
//! only when every byte is durable, so that an incomplete copy never looks like a complete one. The next backup in
//! the same place removes what a killed one left behind.

mod command;
mod desk;
mod manifest;
mod restore;
mod take;

pub(crate) use command::{backup, restore};
pub(crate) use desk::Desk;

use anyhow::{Context, bail};
use std::fs::{DirEntry, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::data_dir::{LOG, MANIFEST};

/// How the name ends of what is not whole.
const PARTIAL: &str = ".partial";

/// The directory in which something is made before it gets its name: beside it, so that it can be renamed.
fn partial_of(target: &Path) -> anyhow::Result<PathBuf> {
    let name =
        target.file_name().with_context(|| format!("{} is no name for a directory", target.display()))?;
    Ok(target.with_file_name(format!(".{}{PARTIAL}", name.to_string_lossy())))
}

/// A directory in the making, that nobody else makes at the same time.
struct Partial {
    path: PathBuf,
    target: PathBuf,
    lock: File,
}

/// Marks a directory that is being made as in use by this process.
const LOCK: &str = "lock";

impl Partial {
    /// Begins. The remains of earlier attempts that have ended are removed.
    fn begin(target: &Path) -> anyhow::Result<Self> {
        refuse_what_is_there(target)?;
        let path = partial_of(target)?;
        remove_what_is_left(parent_of(target), &path);
        if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        if path.exists() {
            let held = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
            let held = held.with_context(|| format!("{} is in the way", path.display()))?;
            if !is_left_by_all(&held, &path) {
                bail!("somebody else is writing {}", target.display());
            }
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        crate::private::private_directory(&path)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        // Somebody else may have taken it for what is left of another try.
        if !is_left_by_all(&lock, &path) {
            bail!("somebody else is writing {}", target.display());
        }
        Ok(Self { path, target: target.to_owned(), lock })
    }

    /// A file in it.
    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// It is complete: it gets its name, durably.
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
        File::open(parent_of(&self.target))?.sync_all()?;
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

/// The directory that it is in, or will be.
fn parent_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether nobody uses it, and from now on nobody will. A lock that was opened may belong to a directory that has
/// been removed since, and replaced by another one.
fn is_left_by_all(lock: &File, partial: &Path) -> bool {
    lock.try_lock().is_ok() && is_in_place(lock, partial)
}

fn is_in_place(lock: &File, partial: &Path) -> bool {
    let identity = |found: Metadata| (found.dev(), found.ino());
    let there = partial.join(LOCK).metadata().map(identity);
    there.is_ok_and(|there| lock.metadata().map(identity).is_ok_and(|held| held == there))
}

/// Removes the remains of killed attempts, whatever they were making: each is as large as a log. A directory is
/// removed only if it has a name of ours and only files of ours in it, and nobody holds its lock. If that fails, the
/// new backup continues nevertheless.
fn remove_what_is_left(directory: &Path, own: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path != own) {
        if !is_left_over(&path) {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(path.join(LOCK)) else { continue };
        if !is_left_by_all(&lock, &path) {
            continue;
        }
        match std::fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::info!(directory = %path.display(), "what was left of a try that was killed is removed")
            }
            Err(error) => {
                tracing::warn!(%error, directory = %path.display(), "what is left of a try could not be removed");
            }
        }
    }
}

fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let is_directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    if !is_directory || !name.starts_with('.') || !name.ends_with(PARTIAL) {
        return false;
    }
    let is_ours = |entry: std::io::Result<DirEntry>| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == LOCK || name == MANIFEST || name.starts_with(LOG)
        })
    };
    path.join(LOCK).exists() && std::fs::read_dir(path).is_ok_and(|mut entries| entries.all(is_ours))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::refuse_inside;

    /// A directory in the making, with this in it.
    fn made(directory: &Path, name: &str, files: &[&str]) -> PathBuf {
        let path = directory.join(name);
        std::fs::create_dir(&path).unwrap();
        files.iter().for_each(|file| std::fs::write(path.join(file), "").unwrap());
        path
    }

    #[test]
    fn what_is_left_of_others_that_were_killed_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let of = |name: &str, files: &[&str]| made(directory.path(), name, files);
        let gone = [
            of(".kite-1.partial", &[LOCK, LOG, "events.db-wal"]),
            of(".copy.partial", &[LOCK, "backup.json"]),
        ];
        let at_work = of(".kite-2.partial", &[LOCK, LOG]);
        let held = File::options().write(true).open(at_work.join(LOCK)).unwrap();
        held.try_lock().unwrap();
        let kept = [
            of(".film.partial", &[LOCK, "film.mp4"]),
            of(".no-lock.partial", &[LOG]),
            of("kite-3.partial", &[LOCK, LOG]),
            of("kite-4", &["backup.json", LOG]),
            at_work,
        ];
        std::os::unix::fs::symlink(&kept[3], directory.path().join(".link.partial")).unwrap();
        Partial::begin(&directory.path().join("kite-5")).unwrap().give_up();
        assert!(gone.iter().all(|path| !path.exists()));
        assert!(kept.iter().all(|path| path.exists()));
    }

    #[test]
    fn nobody_makes_what_another_has_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let partial = made(directory.path(), ".kite-1.partial", &[LOCK]);
        let lock = File::open(partial.join(LOCK)).unwrap();
        let other = File::open(partial.join(LOCK)).unwrap();
        assert!(is_left_by_all(&lock, &partial));
        assert!(!is_left_by_all(&other, &partial), "it is ours");
        drop((lock, other));
        let lock = File::open(partial.join(LOCK)).unwrap();
        std::fs::remove_file(partial.join(LOCK)).unwrap();
        assert!(!is_left_by_all(&lock, &partial));
        std::fs::write(partial.join(LOCK), "").unwrap();
        assert!(!is_left_by_all(&lock, &partial), "it is another's");
    }

    #[test]
    fn what_is_inside_is_found_by_whatever_name() {
        let directory = tempfile::tempdir().unwrap();
        let data = made(directory.path(), "data", &[LOG]);
        std::os::unix::fs::symlink(&data, directory.path().join("link")).unwrap();
        for inside in ["data", "data/backup", "data/a/b", "link/backup", "data/../data/backup"] {
            let refusal = refuse_inside(&directory.path().join(inside), &data).unwrap_err().to_string();
            assert!(refusal.contains("is inside"), "{refusal}");
        }
        for outside in ["data-backup", "backups/data", "data/../backup"] {
            refuse_inside(&directory.path().join(outside), &data).unwrap();
        }
        let none = directory.path().join("link/../none");
        refuse_inside(&directory.path().join("none/backup"), &none).unwrap_err();
        refuse_inside(&directory.path().join("none/../backup"), &none).unwrap();
    }
}
