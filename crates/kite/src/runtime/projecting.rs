//! The loop over a projector's `step()`, on a thread of its own: folding and SQL would hold up the async threads.

use chrono::{DateTime, Utc};
use kite_commands::Clock;
use kite_event_store::Position;
use kite_projections::{COALESCING, ProjectError, Runner, Step};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use super::Supervisor;
use super::pause;

/// However quiet the log, the projector looks again after this long.
const IDLE_MAX: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How the projectors of this process get on. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct ProjectorWatch {
    standings: Arc<Mutex<BTreeMap<&'static str, Standing>>>,
}

/// How one of them does.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The checkpoint.
    pub(crate) position: Position,
    /// How many events it has parked.
    pub(crate) parked: u64,
    /// When its last step went well, or when it was started.
    pub(crate) well_at: DateTime<Utc>,
    /// Why no step went well since.
    pub(crate) failure: Option<String>,
}

impl ProjectorWatch {
    /// What a step came to.
    pub(crate) fn note(&self, projector: &dyn Runner, failure: Option<String>, now: DateTime<Utc>) {
        let mut standings = self.standings.lock();
        let fresh = Standing { position: 0, parked: 0, well_at: now, failure: None };
        let standing = standings.entry(projector.name()).or_insert(fresh);
        standing.position = projector.position();
        standing.parked = projector.parked();
        if failure.is_none() {
            standing.well_at = now;
        }
        standing.failure = failure;
    }

    /// Each of them by its name.
    pub(crate) fn standings(&self) -> BTreeMap<&'static str, Standing> {
        self.standings.lock().clone()
    }
}

/// Runs a projector until the process stops; by then it has caught up with the log.
pub(crate) async fn project(
    mut projector: Box<dyn Runner>,
    mut head: watch::Receiver<Position>,
    supervisor: Supervisor,
    clock: Arc<dyn Clock>,
    watch: ProjectorWatch,
) {
    let stop = supervisor.stop().clone();
    watch.note(&*projector, None, clock.now());
    loop {
        let stepped = projector.step(clock.now()).await;
        watch.note(&*projector, stepped.as_ref().err().map(with_sources), clock.now());
        match stepped {
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
                supervisor.fail(format!("projector {}: {}", projector.name(), with_sources(&error)));
                return;
            }
            // A full disk, for one: when there is room again, it goes on.
            Err(error) => {
                let error = with_sources(&error);
                tracing::error!(projector = projector.name(), error, "a projection failed, trying again");
                if stop.is_cancelled() {
                    return;
                }
                pause(RETRY_PAUSE).await;
            }
        }
    }
}

fn with_sources(error: &ProjectError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
