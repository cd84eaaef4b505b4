//! What a backup says of itself.

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{self, SHA256};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use crate::data_dir::MANIFEST;

/// The shape below.
const FORMAT: u32 = 1;
const PIECE_BYTES: usize = 1024 * 1024;
/// A manifest is some hundred bytes.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The shape of this.
    pub(crate) format: u32,
    /// What took it.
    pub(crate) kite_version: String,
    /// When it was begun: it contains everything that the log held then.
    pub(crate) taken_at: DateTime<Utc>,
    /// The position of the last event in it.
    pub(crate) until: u64,
    /// How many events it holds.
    pub(crate) events: u64,
    /// The newest seal in it; none: nothing was sealed yet.
    pub(crate) newest_seal: Option<NewestSeal>,
    /// Every file.
    pub(crate) files: Vec<FileDigest>,
}

/// A seal of the log, as it can be compared with one that was kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewestSeal {
    /// How many seals there are.
    pub(crate) seals: u64,
    /// Up to which position it goes.
    pub(crate) until: u64,
    /// Its digest.
    pub(crate) digest: String,
}

/// A file, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDigest {
    /// Its name in the directory.
    pub(crate) name: String,
    /// How large it is.
    pub(crate) bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub(crate) sha256: String,
}

impl Manifest {
    /// Of a backup that this program takes.
    pub(crate) fn new(taken_at: DateTime<Utc>, until: u64, events: u64, files: Vec<FileDigest>) -> Self {
        let kite_version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, kite_version, taken_at, until, events, newest_seal: None, files }
    }

    /// Of the backup in this directory.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(MANIFEST);
        let file = File::open(&path).with_context(|| {
            format!(
                "{} is no backup, or not a whole one: cannot read {}",
                directory.display(),
                path.display()
            )
        })?;
        let mut text = String::new();
        file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text)?;
        let value: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?;
        ensure!(
            value["format"] == FORMAT,
            "{}: format {} is not known to this version of kite, which knows {FORMAT}",
            path.display(),
            value["format"]
        );
        let manifest: Self =
            serde_json::from_value(value).with_context(|| format!("{} cannot be read", path.display()))?;
        for file in &manifest.files {
            let is_plain = Path::new(&file.name).components().count() == 1 && !file.name.starts_with('.');
            ensure!(is_plain, "{}: {:?} is no file of a backup", path.display(), file.name);
        }
        Ok(manifest)
    }

    /// Writes it, durably.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let mut file = File::create_new(directory.join(MANIFEST))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(())
    }

    /// The size of all files, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// What of the files is not as it was, in words.
    pub(crate) fn differences(&self, directory: &Path) -> Vec<String> {
        let mut differences = Vec::new();
        for known in &self.files {
            match FileDigest::of(directory, &known.name) {
                Err(error) => differences.push(format!("{} cannot be read: {error:#}", known.name)),
                Ok(found) if found.bytes != known.bytes => differences.push(format!(
                    "{} has {} bytes, and had {} when the backup was taken",
                    known.name, found.bytes, known.bytes
                )),
                Ok(found) if found.sha256 != known.sha256 => {
                    differences.push(format!("{} is not as it was when the backup was taken", known.name));
                }
                Ok(_) => {}
            }
            // Whoever opens the log would take it for a part of it.
            let ahead = format!("{}-wal", known.name);
            if directory.join(&ahead).metadata().is_ok_and(|found| found.len() > 0) {
                differences.push(format!("{ahead} was not there: somebody has written to the log"));
            }
        }
        differences
    }
}

impl FileDigest {
    /// Of a file in this directory.
    pub(crate) fn of(directory: &Path, name: &str) -> anyhow::Result<Self> {
        Self::of_copy(directory, name, &mut std::io::sink())
    }

    /// The digest of a file in this directory, which may be copied at the same time.
    pub(crate) fn of_copy(directory: &Path, name: &str, copy: &mut dyn Write) -> anyhow::Result<Self> {
        let mut file = File::open(directory.join(name))?;
        let mut sum = digest::Context::new(&SHA256);
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0;
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            sum.update(&piece[..read]);
            copy.write_all(&piece[..read])?;
            bytes += read as u64;
        }
        Ok(Self { name: name.to_owned(), bytes, sha256: hex::encode(sum.finish()) })
    }
}
