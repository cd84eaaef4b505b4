//! What tests of the loops run on.

use chrono::DateTime;
use kite_commands::Clock;
use kite_commands::clock::ManualClock;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::host::{BrokenOff, Host, Place};

/// Time that moves when everybody waits, and nothing else.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) stop: CancellationToken,
    pub(crate) failures: Arc<Mutex<Vec<String>>>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            clock: Arc::new(ManualClock::at(DateTime::UNIX_EPOCH)),
            stop: CancellationToken::new(),
            failures: Arc::default(),
        }
    }
}

impl Host for Stage {
    type UnderWay = ();

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn spawn(&self, _: Place, _: &str, _: impl Future<Output = ()> + Send + 'static) {
        unreachable!("nothing that is tested on it starts a task");
    }

    #[expect(clippy::disallowed_methods, reason = "time is paused here: nobody waits")]
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.clock.advance(chrono::Duration::from_std(time).unwrap());
    }

    async fn give_way(&self) {
        tokio::task::yield_now().await;
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send) -> Result<T, BrokenOff> {
        Ok(read())
    }

    fn stop(&self, _: Place) -> CancellationToken {
        self.stop.clone()
    }

    fn fail(&self, _: Place, reason: String) {
        self.failures.lock().push(reason);
    }

    fn begin(&self) {}
}
