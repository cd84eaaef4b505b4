//! Only Kite's own user may read what it stores: messages, recipients, the credentials of relays.

use anyhow::{Context, ensure};
use rustix::fs::Mode;
use rustix::process::umask;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const DIRECTORY: u32 = 0o700;
const FILE: u32 = 0o600;
/// What the event store makes before the log itself: a first start that was killed in between leaves only this.
const LOG_LOCK: &str = "events.db.lock";
/// What an operator may put here before the first start.
const CONFIGURATION: &str = "kite.toml";
/// More of what is in the way is not named.
const NAMES_MAX: usize = 3;

/// Everything that this process makes from now on can be read only by its user, whatever the environment says.
pub(crate) fn keep_to_ourselves() {
    umask(Mode::from_raw_mode(0o077));
}

/// Makes the data directory if necessary, and lets only its user read it and the files in it: an earlier version left
/// that to the environment.
///
/// # Errors
/// If the directory cannot be made, or belongs to somebody else.
pub(crate) fn private_directory(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    restrict(directory, DIRECTORY)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            restrict(&entry.path(), FILE)?;
        }
    }
    Ok(())
}

/// A directory with files but without a log, or the name of the one that it belongs to (`sign`), belongs to somebody else, or has lost its log. Kite must not put a log
/// beside somebody's files, or hide them from others. A write-ahead log without its log is a log that was lost.
///
/// # Errors
/// If the directory is such a one.
pub(crate) fn refuse_foreign(directory: &Path, sign: &str) -> anyhow::Result<()> {
    if directory.join(sign).exists() {
        return Ok(());
    }
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // A new file system has `lost+found`; what begins with a dot is nothing that a person keeps here.
        let is_expected = [LOG_LOCK, CONFIGURATION, "lost+found"].contains(&&*name) || name.starts_with('.');
        if !is_expected {
            names.push(name);
        }
    }
    names.sort_unstable();
    let more = if names.len() > NAMES_MAX { ", …" } else { "" };
    names.truncate(NAMES_MAX);
    ensure!(
        names.is_empty(),
        "{} is no data directory of Kite: there is no {sign} in it, but {}{more}. A new one has to be empty, but \
         for a {CONFIGURATION}; if it had a log, restore that first",
        directory.display(),
        names.join(", ")
    );
    Ok(())
}

fn restrict(path: &Path, mode: u32) -> anyhow::Result<()> {
    let found = path.metadata()?.permissions().mode() & 0o777;
    if found & !mode == 0 {
        return Ok(());
    }
    set_permissions(path, Permissions::from_mode(found & mode))
        .with_context(|| format!("others can read {}, and that cannot be changed", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::LOG;

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        refuse_foreign(&data.join("new"), LOG).unwrap();
        std::fs::create_dir(data.join("lost+found")).unwrap();
        std::fs::write(data.join(".keep"), "").unwrap();
        refuse_foreign(data, LOG).unwrap();
        for name in ["events.db.lock", "kite.toml"] {
            std::fs::write(data.join(name), "").unwrap();
            refuse_foreign(data, LOG).unwrap();
        }
        for name in ["events.db-wal", "events.db-shm", "key.pem"] {
            std::fs::write(data.join(name), "").unwrap();
            let refusal = refuse_foreign(data, LOG).unwrap_err().to_string();
            assert!(refusal.contains(&format!("but {name}. ")), "{refusal}");
            std::fs::remove_file(data.join(name)).unwrap();
        }
        for name in ["d", "b", "a", "c"] {
            std::fs::write(data.join(name), "").unwrap();
        }
        let refusal = refuse_foreign(data, LOG).unwrap_err().to_string();
        assert!(refusal.contains("no events.db in it, but a, b, c, …"), "{refusal}");
        std::fs::write(data.join(LOG), "").unwrap();
        refuse_foreign(data, LOG).unwrap();
    }

    #[test]
    fn what_others_could_read_they_can_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let file = data.join("events.db");
        std::fs::write(&file, "").unwrap();
        set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        private_directory(&data).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data), mode(&file)), (0o700, 0o600));
    }
}
