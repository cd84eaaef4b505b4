//! The thread that connections are driven by, and how others wait for what comes over them.
//!
//! Folds and queries block, wherever they run; so nothing of them may run on the thread that an answer comes to.

use metrics::{Histogram, histogram};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::engine::StorageError;

/// Something that has no answer for so long is lost: no statement of ours takes that long.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Io {
    /// None: it is over.
    runtime: Option<Runtime>,
    /// How long each took: whatever is waited for at once is sent at once.
    round_trip_seconds: Histogram,
}

impl Io {
    pub(super) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("read-models").enable_all().build()?;
        let round_trip_seconds = histogram!("kite_read_models_round_trip_seconds");
        Ok(Self { runtime: Some(runtime), round_trip_seconds })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is over only when it is dropped")
    }

    /// Lets something go on by itself.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.runtime().spawn(task).abort_handle()
    }

    /// Waits, on a thread that may.
    pub(super) fn wait<T, E>(&self, future: impl Future<Output = Result<T, E>>) -> Result<T, StorageError>
    where
        StorageError: From<E>,
    {
        self.wait_within(ANSWER_WITHIN, future)
    }

    /// Waits for as long as it takes.
    pub(super) fn wait_long<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StorageError>
    where
        StorageError: From<E>,
    {
        self.wait_within(Duration::MAX, future)
    }

    fn wait_within<T, E>(
        &self,
        patience: Duration,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StorageError>
    where
        StorageError: From<E>,
    {
        let _entered = self.runtime().enter();
        let begun = Instant::now();
        let answer = futures::executor::block_on(tokio::time::timeout(patience, future));
        self.round_trip_seconds.record(begun.elapsed());
        match answer {
            Ok(done) => Ok(done?),
            Err(_) => Err(StorageError::Silent),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // Whoever drops it may be a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
