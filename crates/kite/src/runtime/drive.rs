//! The loop over a worker's `step()`.

use chrono::{DateTime, Utc};
use kite_commands::{Clock, Step, Worker, WorkerError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Supervisor;

/// However idle, a worker looks again after this long: a wake-up only shortens the wait.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// The first pause after a failed step; it doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Steps a worker until it is asked to stop. A step that has begun is brought to its end.
pub(crate) async fn drive(
    mut worker: Box<dyn Worker>,
    mut wake: watch::Receiver<u64>,
    stop: CancellationToken,
    supervisor: Supervisor,
    clock: Arc<dyn Clock>,
) {
    let mut retry_after = RETRY_FIRST;
    while !stop.is_cancelled() {
        wake.mark_unchanged();
        match worker.step().await {
            Ok(Step::Worked) => {
                retry_after = RETRY_FIRST;
                tokio::task::yield_now().await;
            }
            Ok(Step::Idle(until)) => {
                retry_after = RETRY_FIRST;
                wait(&mut wake, &stop, idle_for(until, clock.now())).await;
            }
            Err(WorkerError::Retry(reason)) => {
                tracing::warn!(worker = worker.name(), reason, "step failed, trying again");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = pause(retry_after) => {}
                }
                retry_after = (retry_after * 2).min(RETRY_MAX);
            }
            Err(WorkerError::Fatal(reason)) => {
                supervisor.fail(format!("{}: {reason}", worker.name()));
                return;
            }
        }
    }
}

fn idle_for(until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    until.map_or(IDLE_MAX, |until| (until - now).to_std().unwrap_or(Duration::from_millis(1)).min(IDLE_MAX))
}

async fn wait(wake: &mut watch::Receiver<u64>, stop: &CancellationToken, time: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        changed = wake.changed() => {
            // Whoever wakes is gone: the clock alone is left.
            if changed.is_err() {
                pause(time).await;
            }
        }
        () = pause(time) => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "only the loop that drives the workers waits")]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
