//! When keys were last used.
//!
//! A use costs a request one look at a number, and a key one store per second: it is kept with the key in memory. It
//! is seldom written to the log, as one event for many keys: at the first use of a key, and then when the log's value
//! is a day old. So a key that was never used, or not for weeks, is known as such for ever and by every process, and
//! the log grows by a few events per day, however many requests there are. The newer of the two values is shown:
//! exact to the second for calls to this process since it began, otherwise up to a day too old.
//!
//! Deliberately absent: a file or table of its own. It would be lost with the machine, and every process would have
//! another.

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_domain::keys::{KEY_USES_STREAM, KeyUse, KeysUsed};
use kite_event_store::Expected;

use crate::directory::Directory;
use crate::journal::{Cause, Entry, Journal, JournalError};
use crate::worker::{Step, Worker, WorkerError};

/// How often the recorder looks.
const LOOK_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// Keys in one event.
const USES_MAX: usize = 1_000;

/// Writes down when keys were last used.
pub struct KeyUseRecorder {
    journal: Journal,
    directory: Directory,
}

impl KeyUseRecorder {
    /// Writes to this log what is known of the keys in this directory.
    pub fn new(journal: Journal, directory: Directory) -> Self {
        Self { journal, directory }
    }

    fn unrecorded(&self) -> Vec<KeyUse> {
        let state = self.directory.snapshot();
        let tenants = state.api_keys.iter().filter_map(|(id, key)| key.unrecorded(id));
        let operators = state.operator_keys.iter().filter_map(|(id, key)| key.unrecorded(id));
        tenants.chain(operators).take(USES_MAX).collect()
    }

    async fn record(&self, uses: Vec<KeyUse>) -> Result<(), JournalError> {
        let entry = Entry {
            stream: KEY_USES_STREAM.into(),
            expected: Expected::Any,
            tenant: None,
            cause: Cause::new("key-use", self.journal.next_id()),
            events: vec![KeysUsed { uses }.into()],
        };
        self.journal.append_one(entry).await?;
        self.directory.catch_up(&self.journal).await?;
        Ok(())
    }
}

#[async_trait]
impl Worker for KeyUseRecorder {
    fn name(&self) -> &str {
        "key-use"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let uses = self.unrecorded();
        if uses.is_empty() {
            return Ok(Step::Idle(Some(self.journal.now() + LOOK_INTERVAL)));
        }
        self.record(uses).await?;
        Ok(Step::Worked)
    }
}
