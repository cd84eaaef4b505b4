//! Errors in one line.

use kite_commands::event_store::{AppendError, ReadError};
use kite_commands::{JournalError, LotsError, WorkerError};
use std::error::Error;

/// An error with its sources.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What the driver is to do about a failed read or write of the log.
pub(crate) fn journal_failure(error: &JournalError) -> WorkerError {
    match error {
        JournalError::Decode { .. }
        | JournalError::Append(AppendError::Stopped(_))
        | JournalError::Read(ReadError::Stopped(_)) => WorkerError::Fatal(describe(error)),
        JournalError::Append(_) | JournalError::Read(_) => WorkerError::Retry(describe(error)),
    }
}

/// What the driver is to do about a lot that could not be read or changed.
pub(crate) fn lots_failure(error: &LotsError) -> WorkerError {
    match error {
        LotsError::Journal(journal) => journal_failure(journal),
        LotsError::NotFound(_) | LotsError::Contended(_) => WorkerError::Retry(describe(error)),
    }
}
