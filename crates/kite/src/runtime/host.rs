//! What the loops of the platform run on here: threads, and the machine's clock.

use kite_commands::Clock;
use kite_commands::clock::SystemClock;
use kite_runtime::{BrokenOff, Host, Place};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Supervisor;

/// The threads of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Threads {
    /// Follows everything but the projectors.
    pub(crate) workers: Supervisor,
    /// Follows the projectors, which stop last.
    pub(crate) projectors: Supervisor,
    /// Threads that give way.
    pub(crate) background: Handle,
}

impl Threads {
    fn supervisor(&self, place: Place) -> &Supervisor {
        match place {
            Place::Front | Place::Background => &self.workers,
            Place::Reading => &self.projectors,
        }
    }
}

impl Host for Threads {
    type UnderWay = ();

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    fn spawn(&self, place: Place, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        match place {
            Place::Front => self.workers.start(task),
            Place::Background => self.workers.start_on(&self.background, task),
            Place::Reading => {
                if let Err(error) = self.projectors.start_background_thread(name, task) {
                    self.projectors.fail(format!("there is no thread for {name}: {error}"));
                }
            }
        }
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        pause(time)
    }

    fn give_way(&self) -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokenOff> {
        tokio::task::spawn_blocking(read).await.map_err(|error| BrokenOff(error.into()))
    }

    fn stop(&self, place: Place) -> CancellationToken {
        self.supervisor(place).stop().clone()
    }

    fn fail(&self, place: Place, reason: String) {
        self.supervisor(place).fail(reason);
    }

    fn begin(&self) {}
}

#[expect(clippy::disallowed_methods, reason = "only what drives the workers waits")]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
