//! Waiting is injected, like the clock: the write side does not sleep.

use async_trait::async_trait;
use std::time::Duration;

/// Waits.
#[async_trait]
pub trait Pauses: Send + Sync + 'static {
    /// Waits so long.
    async fn pause(&self, time: Duration);
}

/// Yields to others and waits for nothing, for callers without a loop.
#[derive(Debug, Clone, Copy, Default)]
pub struct GiveWay;

#[async_trait]
impl Pauses for GiveWay {
    async fn pause(&self, _: Duration) {
        tokio::task::yield_now().await;
    }
}
