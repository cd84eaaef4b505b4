//! The publisher of a process, which may start to work long after the process began.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::{Clock, Step, Worker, WorkerError};
use kite_event_store::Position;
use kite_projections::ReadModels;
use kite_relay::{Publisher, QueueFeeder};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// What was in the log so long ago another process has published, if it lived: a lease, and the time until somebody looks.
const PUBLISHED_BY_OTHERS: TimeDelta = TimeDelta::seconds(10);
/// How often it is noted how far the work model is.
const NOTED_EVERY: TimeDelta = TimeDelta::seconds(1);

/// How far the work model was, second by second.
#[derive(Clone)]
pub(crate) struct Track {
    models: ReadModels,
    clock: Arc<dyn Clock>,
    noted: Arc<Mutex<Noted>>,
}

/// The oldest first.
type Noted = VecDeque<(DateTime<Utc>, Position)>;

impl Track {
    /// Nothing is noted yet.
    pub(crate) fn new(models: ReadModels, clock: Arc<dyn Clock>) -> Self {
        Self { models, clock, noted: Arc::default() }
    }

    fn note(&self) {
        let now = self.clock.now();
        let mut noted = self.noted.lock();
        noted.push_back((now, self.models.work.position()));
        // One of them is from before that time.
        while noted.get(1).is_some_and(|(at, _)| *at <= now - PUBLISHED_BY_OTHERS) {
            noted.pop_front();
        }
    }

    /// From where on the log may not have been published, because whoever did it is gone. What is from before is found by the
    /// sweeper, the oldest first, and that may take its time.
    fn begin(&self) -> Position {
        let now = self.models.work.position();
        self.noted.lock().front().map_or(now, |(_, position)| *position.min(&now))
    }
}

#[async_trait]
impl Worker for Track {
    fn name(&self) -> &str {
        "track-of-the-publisher"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        self.note();
        Ok(Step::Idle(Some(self.clock.now() + NOTED_EVERY)))
    }
}

/// Publishes; what others have published is skipped. What the work model knows is swept from it; what comes after, and what came
/// while nobody published, is read from the log.
pub(crate) struct Publishing {
    feeder: QueueFeeder,
    track: Track,
    publisher: Option<Publisher>,
}

impl Publishing {
    /// From where the work model is now.
    pub(crate) fn new(feeder: QueueFeeder, track: Track) -> Self {
        let publisher = Publisher::new(feeder.clone(), track.models.work.position());
        Self { feeder, track, publisher: Some(publisher) }
    }

    /// The position of the work model by now, if that is further.
    #[must_use]
    pub(crate) fn skip(self) -> Self {
        let position = self.track.models.work.position();
        Self { publisher: self.publisher.map(|publisher| publisher.skip_to(position)), ..self }
    }
}

#[async_trait]
impl Worker for Publishing {
    fn name(&self) -> &str {
        "publisher"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            none => none.insert(Publisher::new(self.feeder.clone(), self.track.begin())),
        };
        publisher.step().await
    }

    fn stands_by(&mut self) {
        if self.publisher.take().is_some() {
            self.feeder.forget();
        }
    }
}
