//! The digests of the seals in a file somewhere else: on another disk, or where only appending is allowed. Somebody
//! who can write the log can make new seals for it, but they would differ from this file.
//!
//! One line per seal: the position up to which it goes, the number of events, the digest.

use anyhow::Context;
use kite_commands::sealer::Witness;
use kite_domain::seal::LogSealed;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file, written.
pub(crate) struct SealFile {
    path: PathBuf,
    open: Mutex<Open>,
    /// The last lines, as they were when it was opened.
    newest: BTreeMap<u64, String>,
}

/// How many of the last lines are compared with the log when a process starts.
const NEWEST: usize = 64;

struct Open {
    file: File,
    /// Up to where the last line goes.
    until: u64,
}

impl SealFile {
    /// Opens it, or makes it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let mut newest = if path.exists() { lines(path)? } else { BTreeMap::new() };
        let until = newest.last_key_value().map_or(0, |(until, _)| *until);
        while newest.len() > NEWEST {
            newest.pop_first();
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let mut file = file.with_context(|| format!("seals_file: cannot open {}", path.display()))?;
        if std::fs::read(path)?.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        Ok(Self { path: path.to_owned(), open: Mutex::new(Open { file, until }), newest })
    }

    /// The digests on the last lines, as they were when it was opened.
    pub(crate) fn newest(&self) -> BTreeMap<u64, String> {
        self.newest.clone()
    }
}

impl Witness for SealFile {
    fn keep(&self, seal: &LogSealed) -> std::io::Result<()> {
        let mut open = self.open.lock();
        if seal.until <= open.until {
            return Ok(());
        }
        let line = format!("{} {} {}\n", seal.until, seal.events, seal.digest);
        open.file.write_all(line.as_bytes())?;
        open.file.sync_data()?;
        open.until = seal.until;
        tracing::trace!(file = %self.path.display(), until = seal.until, "a seal is kept");
        Ok(())
    }
}

/// The digests in a file, by the position up to which they go: at least one.
pub(crate) fn read(path: &Path) -> anyhow::Result<BTreeMap<u64, String>> {
    let digests = lines(path)?;
    anyhow::ensure!(!digests.is_empty(), "{} holds no digest of a seal", path.display());
    Ok(digests)
}

fn lines(path: &Path) -> anyhow::Result<BTreeMap<u64, String>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut digests = BTreeMap::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line?;
        let parts: Vec<&str> = line.split(' ').collect();
        let read = match *parts {
            [until, _, digest] => until.parse().ok().map(|until| (until, digest.to_owned())),
            _ => None,
        };
        // A last line may have been cut off when the machine stopped.
        let Some((until, digest)) = read.filter(|(_, digest)| digest.len() == 64) else {
            tracing::warn!(file = %path.display(), line = number + 1, "a line of the seals is not whole");
            continue;
        };
        digests.insert(until, digest);
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(until: u64) -> LogSealed {
        LogSealed { after: 0, until, events: 3, digest: format!("{until:064x}"), marks: String::new() }
    }

    #[test]
    fn a_seal_is_kept_once_and_a_line_that_was_cut_off_is_no_matter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seals");
        let file = SealFile::open(&path).unwrap();
        for until in [5, 9, 9, 5] {
            file.keep(&seal(until)).unwrap();
        }
        drop(file);
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "12 3 00").unwrap();
        let again = SealFile::open(&path).unwrap();
        again.keep(&seal(9)).unwrap();
        again.keep(&seal(12)).unwrap();
        let kept: Vec<u64> = read(&path).unwrap().into_keys().collect();
        assert_eq!(kept, [5, 9, 12]);
        assert_eq!(again.newest().into_keys().collect::<Vec<_>>(), [5, 9], "as it was when it was opened");
        for nothing in ["", "garbage\n", "12 3 00"] {
            std::fs::write(&path, nothing).unwrap();
            assert!(SealFile::open(&path).is_ok(), "a process that ended before its first seal left it so");
            std::fs::write(&path, nothing).unwrap();
            assert!(read(&path).unwrap_err().to_string().ends_with("holds no digest of a seal"));
        }
    }
}
