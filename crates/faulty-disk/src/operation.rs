//! What is done to a file, and how it fails.

use std::fmt;
use std::path::Path;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file that was not there is made.
    Create,
    /// Bytes are read.
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
    /// The file is locked.
    Lock,
    /// A part of the index of the write-ahead log is locked. As on a real system the only failure is that somebody else
    /// seems to hold the lock.
    LockIndex,
    /// The size is asked for.
    Size,
}

/// Something done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What.
    pub kind: Kind,
    /// The file's name without its directory.
    pub file: String,
    /// Where in the file, and how much; 0 where that means nothing.
    pub offset: usize,
    /// See `offset`.
    pub bytes: usize,
}

/// That an operation has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The disk does not do it.
    Broken,
    /// There is no room.
    Full,
}

impl Kind {
    /// Whether it changes what is on the disk, or could.
    pub fn is_write(self) -> bool {
        match self {
            Self::Create | Self::Write | Self::Truncate | Self::Sync | Self::Delete | Self::Grow => true,
            Self::Read | Self::Lock | Self::LockIndex | Self::Size => false,
        }
    }
}

impl Operation {
    pub(crate) fn new(path: &Path, kind: Kind, offset: usize, bytes: usize) -> Self {
        Self { kind, file: name_of(path), offset, bytes }
    }

    /// Whether it changes what is on the disk, or could.
    pub fn is_write(&self) -> bool {
        self.kind.is_write()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, file, offset, bytes } = self;
        write!(formatter, "{kind:?} of {bytes} bytes at {offset} of {file}")
    }
}

pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
