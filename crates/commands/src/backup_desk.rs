//! What the process that has the data can do about backups of it, and knows about them.
//!
//! A port: the binary implements it, crate `kite-api` uses it, and neither depends on the other.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_event_store::{Position, SharedError};

use crate::failure::Failure;

/// Where a backup stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupState {
    /// It is being taken.
    Running {
        /// Up to this position everything is copied.
        position: Position,
    },
    /// It is whole, and durable.
    Whole {
        /// How many events it holds.
        events: u64,
        /// How large it is.
        bytes: u64,
        /// The program that took it.
        kite_version: String,
    },
    /// It came to nothing.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The name of its directory.
    pub name: String,
    /// When it was begun.
    pub taken_at: DateTime<Utc>,
    /// Up to which position it goes.
    pub until: Position,
    /// Where it stands.
    pub state: BackupState,
}

/// Why no backup is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupRefusal {
    /// Nobody has said where to.
    #[error("this process has no directory for backups: set backup_dir in its configuration")]
    NoDirectory,
    /// One at a time.
    #[error("the backup {0} is being taken")]
    Running(String),
    /// Nothing is overwritten.
    #[error("there is a backup {0} already")]
    Exists(String),
    /// The directory cannot be used.
    #[error("the directory for backups cannot be used")]
    Unusable(#[source] SharedError),
}

impl BackupRefusal {
    /// The directory cannot be used, for this reason.
    pub fn unusable(reason: impl Into<Failure>) -> Self {
        Self::Unusable(SharedError::new(reason))
    }
}

/// The longest name of a backup.
pub const NAME_BYTES_MAX: usize = 100;

/// Whether a backup may have this name: letters, digits, `-`, `_` and `.`, the first one a letter or digit. So it is
/// a single part of a path, not hidden, and leads nowhere else.
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(is_plain)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// See the module.
#[async_trait]
pub trait BackupDesk: Send + Sync + 'static {
    /// Begins a backup, which continues by itself.
    async fn begin(&self, name: Option<String>, actor: &str) -> Result<Backup, BackupRefusal>;

    /// The newest first.
    async fn list(&self) -> Result<Vec<Backup>, BackupRefusal>;
}

/// For processes that hold no data.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBackups;

#[async_trait]
impl BackupDesk for NoBackups {
    async fn begin(&self, _name: Option<String>, _actor: &str) -> Result<Backup, BackupRefusal> {
        Err(BackupRefusal::NoDirectory)
    }

    async fn list(&self) -> Result<Vec<Backup>, BackupRefusal> {
        Err(BackupRefusal::NoDirectory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["a", "kite-20260302T030000Z", "before.upgrade_2", &"x".repeat(NAME_BYTES_MAX)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "/etc",
            "a\\b",
            "a b",
            "ä",
            "-x",
            "a\n",
            "a\0",
            &"x".repeat(101),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
