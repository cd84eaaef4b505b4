//! The loop over a projector's `step()`, on a thread of its own: folding and SQL would hold up the async threads.

use kite_commands::Clock;
use kite_event_store::Position;
use kite_projections::{COALESCING, ProjectError, Runner, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::Supervisor;
use super::pause;

/// However quiet the log, the projector looks again after this long.
const IDLE_MAX: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Runs a projector until the process stops; by then it has caught up with the log.
pub(crate) async fn project(
    mut projector: Box<dyn Runner>,
    mut head: watch::Receiver<Position>,
    supervisor: Supervisor,
    clock: Arc<dyn Clock>,
) {
    let stop = supervisor.stop().clone();
    loop {
        match projector.step(clock.now()).await {
            Ok(Step::Advanced { has_more: true, .. }) => {}
            Ok(Step::Advanced { position, .. } | Step::Idle { position }) => {
                if stop.is_cancelled() {
                    return;
                }
                if *head.borrow_and_update() <= position {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = head.changed() => {}
                        () = pause(IDLE_MAX) => {}
                    }
                }
                // A little later there is more to write at once.
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = pause(COALESCING) => {}
                }
            }
            Err(ProjectError::TakenOver { .. }) => {
                supervisor.fail(format!("projector {}: another process has taken over", projector.name()));
                return;
            }
            Err(error @ ProjectError::Damaged { .. }) => {
                supervisor.fail(format!("projector {}: {}", projector.name(), with_sources(error)));
                return;
            }
            // A full disk, for one: when there is room again, it goes on.
            Err(error) => {
                let error = with_sources(error);
                tracing::error!(projector = projector.name(), error, "a projection failed, trying again");
                if stop.is_cancelled() {
                    return;
                }
                pause(RETRY_PAUSE).await;
            }
        }
    }
}

fn with_sources(error: ProjectError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
