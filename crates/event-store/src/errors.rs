//! How errors are told, and kept for many.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// An error with its sources, in one line.
pub fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// An error that many are told, with its sources. Cheap to clone. Two are equal that say the same.
#[derive(Clone)]
pub struct SharedError(Arc<dyn Error + Send + Sync>);

impl SharedError {
    /// To be told to many.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl PartialEq for SharedError {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || describe(self) == describe(other)
    }
}

impl Eq for SharedError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AppendError;

    #[derive(Debug, thiserror::Error)]
    #[error("a write failed")]
    struct Failed(#[source] std::io::Error);

    #[test]
    fn whoever_is_told_a_shared_error_is_told_its_sources_once() {
        let stopped = |words| AppendError::stopped(Failed(std::io::Error::other(words)));
        assert_eq!(
            describe(&stopped("the disk is full")),
            "the event store has stopped: a write failed: the disk is full"
        );
        assert_eq!(stopped("the disk is full"), stopped("the disk is full").clone());
        assert_ne!(stopped("the disk is full"), stopped("the disk is gone"), "their sources differ");
    }
}
