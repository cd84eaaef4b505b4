//! The one place where tasks and threads are started, followed until they end, and asked to stop.

mod background;
mod host;

pub(crate) use background::Background;
pub(crate) use host::{Threads, pause};

use futures::FutureExt;
use parking_lot::Mutex;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Follows every task of the process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Supervisor {
    tasks: TaskTracker,
    stop: CancellationToken,
    failure: watch::Sender<Option<String>>,
    threads: std::sync::Arc<Mutex<Vec<std::thread::JoinHandle<()>>>>,
}

impl Supervisor {
    /// Follows nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            failure: watch::Sender::new(None),
            threads: std::sync::Arc::default(),
        }
    }

    /// Cancelled when everything is to stop.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task that ends by itself after [`Supervisor::stop`] is cancelled. If it panics, the process stops: a
    /// missing part must not go unnoticed.
    pub(crate) fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.clone().watched(task));
    }

    /// As [`Supervisor::start`], on another runtime.
    pub(crate) fn start_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(self.clone().watched(task), runtime);
    }

    /// Starts a task on behalf of a caller from outside. If it panics, that is logged and concerns nobody else: no
    /// caller may stop the process.
    pub(crate) fn start_guest(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!("a connection was given up: what serves it panicked");
            }
        });
    }

    async fn watched(self, task: impl Future<Output = ()> + Send + 'static) {
        if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
            self.fail(format!("a part of the process panicked: {words}"));
        }
    }

    /// Starts a named thread that runs a future to its end, for work that would hold up the others. Its priority is
    /// lower than that of threads that move messages: reading may lag a little, a one-time password may not.
    ///
    /// # Errors
    /// If the machine gives no thread.
    pub(crate) fn start_background_thread(
        &self,
        name: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let runtime = Handle::current();
        let builder = std::thread::Builder::new().name(name.to_owned());
        let watched = self.clone().watched(work);
        self.threads.lock().push(builder.spawn(move || {
            background::give_way(background::READING_NICENESS);
            runtime.block_on(watched);
        })?);
        Ok(())
    }

    /// Something happened after which the process cannot continue correctly.
    pub(crate) fn fail(&self, reason: String) {
        tracing::error!(reason, "cannot go on");
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(reason);
            is_first
        });
    }

    /// The first failure that was reported to [`Supervisor::fail`], if there was one.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Waits until something calls [`Supervisor::fail`], and says what.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the supervisor is gone".to_owned(),
        }
    }

    /// Asks everything to stop and waits for it, at most this long. Returns whether all has ended.
    pub(crate) async fn shut_down(&self, timeout: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(timeout, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "stopping although not everything has ended");
            return false;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        tokio::time::timeout(timeout, joined).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_stops_the_process() {
        let supervisor = Supervisor::new();
        supervisor.start(async { panic!("the router is confused") });
        assert!(supervisor.failed().await.contains("the router is confused"));
    }

    #[tokio::test]
    async fn what_panics_for_a_caller_concerns_nobody_else() {
        let supervisor = Supervisor::new();
        supervisor.start_guest(async { panic!("the caller is confused") });
        assert!(supervisor.shut_down(Duration::from_secs(60)).await);
        assert_eq!(supervisor.failure(), None);
    }

    #[tokio::test]
    async fn so_does_a_background_thread() {
        let supervisor = Supervisor::new();
        supervisor.start_background_thread("project-test", async { panic!("{} is confused", "it") }).unwrap();
        assert!(supervisor.failed().await.contains("it is confused"));
    }
}
