//! Threads of lower priority: for work that may wait for a one-time password, and must not make one wait.

use tokio::runtime::{Builder, Handle, Runtime};

/// The niceness of threads that move campaigns; 0 is normal, 19 the lowest priority.
const CAMPAIGN_NICENESS: i32 = 5;
/// The niceness of threads that only keep read models current.
pub(super) const READING_NICENESS: i32 = 10;

/// A runtime whose threads give way to those of the process's own.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// Starts its threads.
    ///
    /// # Errors
    /// If the machine gives no threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores)
            .enable_all()
            .thread_name("kite-background")
            .on_thread_start(|| give_way(CAMPAIGN_NICENESS))
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where to start tasks.
    pub(crate) fn handle(&self) -> Handle {
        let runtime = self.0.as_ref().expect("it is taken only when this is dropped");
        runtime.handle().clone()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Its tasks were waited for; waiting here would hold up an async thread.
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of this thread. If that fails it competes on equal terms.
pub(super) fn give_way(niceness: i32) {
    let this_thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(this_thread), niceness) {
        tracing::debug!(%error, "the priority of a background thread stays as it is");
    }
}
