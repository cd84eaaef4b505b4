//! What the loops run on.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::worker::Failure;
use kite_commands::{Clock, Pauses};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where a task runs, and in which turn it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Among the tasks that a one-time password may wait for.
    Front,
    /// Among those that give way.
    Background,
    /// On a thread of its own, because it blocks. It ends last: it has to see what the others wrote.
    Reading,
}

/// What was to be done away from others did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("the reading was broken off")]
pub struct BrokenOff(#[source] pub Failure);

/// Spawns, sleeps, reads, and knows the time. Cheap to clone.
pub trait Host: Clone + Send + Sync + 'static {
    /// Held while a step is in progress.
    type UnderWay: Send;

    /// The clock.
    fn clock(&self) -> Arc<dyn Clock>;

    /// The time.
    fn now(&self) -> DateTime<Utc> {
        self.clock().now()
    }

    /// Starts a task. If it panics, that is reported to [`Host::fail`].
    fn spawn(&self, place: Place, name: &str, task: impl Future<Output = ()> + Send + 'static);

    /// Waits so long.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Lets others go first, once.
    fn give_way(&self) -> impl Future<Output = ()> + Send;

    /// Runs blocking work, away from threads that must not block.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, BrokenOff>> + Send;

    /// Cancelled when the tasks of this place are to end.
    fn stop(&self, place: Place) -> CancellationToken;

    /// Something happened after which the process cannot continue correctly.
    fn fail(&self, place: Place, reason: String);

    /// A step begins.
    fn begin(&self) -> Self::UnderWay;
}

/// Lets the write side wait on the host.
pub struct HostPauses<H>(pub H);

#[async_trait]
impl<H: Host> Pauses for HostPauses<H> {
    async fn pause(&self, time: Duration) {
        self.0.sleep(time).await;
    }
}
