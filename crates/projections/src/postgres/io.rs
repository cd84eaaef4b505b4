//! The thread that connections are driven by, and how others wait for what comes over them.
//!
//! Folds and queries block, wherever they run; so nothing of them may run on the thread that an answer comes to.

use kite_postgres::Silence;
use metrics::{Histogram, histogram};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

use crate::engine::StorageError;

/// Something that has no answer for so long is lost: no statement of ours takes that long.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Io {
    /// None: it is over.
    runtime: Option<Runtime>,
    /// How long answers took: whatever is waited for at once is sent at once.
    round_trip_seconds: Histogram,
    silence: Silence,
}

impl Io {
    pub(super) fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("read-models").enable_all().build()?;
        Ok(Self {
            runtime: Some(runtime),
            round_trip_seconds: histogram!("kite_read_models_round_trip_seconds"),
            silence: Silence::default(),
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is over only when it is dropped")
    }

    /// Lets something go on by itself.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.runtime().spawn(task).abort_handle()
    }

    /// Whether the server says anything.
    pub(super) fn silence(&self) -> Silence {
        self.silence.clone()
    }

    /// Waits, on a thread that may; in vain if the server says nothing to anybody.
    pub(super) fn wait<T, E>(&self, future: impl Future<Output = Result<T, E>>) -> Result<T, StorageError>
    where
        StorageError: From<E>,
    {
        self.block_on(async {
            let begun = Instant::now();
            tokio::select! {
                biased;
                () = self.silence.begun() => Err(StorageError::Silent),
                answer = timeout(ANSWER_WITHIN, future) => {
                    let answer = answer.map_err(|_| StorageError::Silent)?;
                    self.round_trip_seconds.record(begun.elapsed());
                    Ok(answer?)
                }
            }
        })
    }

    /// Waits for as long as it takes.
    pub(super) fn wait_long<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, StorageError>
    where
        StorageError: From<E>,
    {
        Ok(self.block_on(future)?)
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let _entered = self.runtime().enter();
        futures::executor::block_on(future)
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
