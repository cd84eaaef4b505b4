//! A projector as a worker like the others, and reports of the projectors' progress.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::{Clock, Step, Worker, WorkerError, describe};
use kite_event_store::{Attention, EventStore, Following, Position};
use kite_projections::{COALESCING, ProjectError, Runner};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The progress of this process's projectors. Cheap to clone.
#[derive(Clone, Default)]
pub struct ProjectorWatch {
    standings: Arc<Mutex<BTreeMap<&'static str, ProjectorStanding>>>,
}

/// How one of them does.
#[derive(Debug, Clone)]
pub struct ProjectorStanding {
    /// The checkpoint.
    pub position: Position,
    /// How many events it has parked.
    pub parked: u64,
    /// When its last step succeeded, or when it was started.
    pub well_at: DateTime<Utc>,
    /// Why no step went well since.
    pub failure: Option<String>,
}

impl ProjectorWatch {
    /// What a step came to.
    pub fn note(&self, projector: &dyn Runner, failure: Option<String>, now: DateTime<Utc>) {
        let mut standings = self.standings.lock();
        let fresh = ProjectorStanding { position: 0, parked: 0, well_at: now, failure: None };
        let standing = standings.entry(projector.name()).or_insert(fresh);
        standing.position = projector.position();
        standing.parked = projector.parked();
        if failure.is_none() {
            standing.well_at = now;
        }
        standing.failure = failure;
    }

    /// Another process does it.
    fn stands_by(&self, projector: &dyn Runner) {
        self.standings.lock().remove(projector.name());
    }

    /// Each of them by its name, without those that another process steps.
    pub fn standings(&self) -> BTreeMap<&'static str, ProjectorStanding> {
        self.standings.lock().clone()
    }
}

/// See the module. When the process stops it first catches up with the log.
pub struct Projecting {
    name: String,
    projector: Box<dyn Runner>,
    clock: Arc<dyn Clock>,
    watch: ProjectorWatch,
    _following: Following,
}

impl Projecting {
    /// Steps this projector.
    pub fn new(projector: Box<dyn Runner>, clock: Arc<dyn Clock>, watch: ProjectorWatch) -> Self {
        watch.note(&*projector, None, clock.now());
        let _following = Following::default();
        Self { name: format!("project-{}", projector.name()), projector, clock, watch, _following }
    }

    /// As long as there is a process: of each such model it has one of its own.
    #[must_use]
    pub(crate) fn following(self, log: &dyn EventStore) -> Self {
        Self { _following: log.follow(Attention::Steady), ..self }
    }
}

#[async_trait]
impl Worker for Projecting {
    fn name(&self) -> &str {
        &self.name
    }

    fn finishes(&self) -> bool {
        true
    }

    /// A little later there is more to write at once.
    fn gathers(&self) -> Duration {
        COALESCING
    }

    fn stands_by(&mut self) {
        self.watch.stands_by(&*self.projector);
        self.projector.stands_by();
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let stepped = self.projector.step(self.clock.now()).await;
        let failure = stepped.as_ref().err().map(|error| describe(error));
        self.watch.note(&*self.projector, failure, self.clock.now());
        match stepped {
            Ok(kite_projections::Projected::Advanced { has_more: true, .. }) => Ok(Step::Worked),
            Ok(_) => Ok(Step::Idle(None)),
            Err(ProjectError::TakenOver { .. }) => Err(WorkerError::fatal("another process has taken over")),
            Err(error @ ProjectError::Damaged { .. }) => Err(WorkerError::fatal(error)),
            // A full disk, for one: when there is room again, it continues.
            Err(error) => Err(WorkerError::retry(error)),
        }
    }
}
