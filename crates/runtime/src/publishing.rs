//! The publisher of a process, which may start to work long after the process began.

use async_trait::async_trait;
use kite_commands::{Step, Worker, WorkerError};
use kite_projections::ReadModels;
use kite_relay::{Publisher, QueueFeeder};

/// Publishes; what others have published is skipped. What the work model knows is swept from it; what comes after is
/// read from the log.
pub(crate) struct Publishing {
    feeder: QueueFeeder,
    models: ReadModels,
    publisher: Option<Publisher>,
}

impl Publishing {
    /// From where the work model is now.
    pub(crate) fn new(feeder: QueueFeeder, models: ReadModels) -> Self {
        let publisher = Publisher::new(feeder.clone(), models.work.position());
        Self { feeder, models, publisher: Some(publisher) }
    }

    /// The position of the work model by now, if that is further.
    #[must_use]
    pub(crate) fn skip(self) -> Self {
        let position = self.models.work.position();
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
            none => none.insert(Publisher::new(self.feeder.clone(), self.models.work.position())),
        };
        publisher.step().await
    }

    fn stands_by(&mut self) {
        if self.publisher.take().is_some() {
            self.feeder.forget();
        }
    }
}
