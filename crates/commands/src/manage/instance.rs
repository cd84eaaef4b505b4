//! That a log is a copy, and that its original is dead.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::instance::{self, InstanceCopied, InstanceReleased, Originality};
use kite_event_store::Position;

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;

impl Manage {
    /// From here on this log is a copy: nothing is handed over.
    pub async fn mark_as_copy(
        &self,
        cause: &Cause,
        until: Position,
        taken_at: DateTime<Utc>,
    ) -> Result<Done<()>, ManageError> {
        let copied = InstanceCopied { until, taken_at };
        self.decide(cause, None, instance::STREAM.into(), |_| Ok((Some(copied.clone().into()), ()))).await
    }

    /// The operator says that the original is dead; nothing happens if that was said before.
    pub async fn release_instance(
        &self,
        cause: &Cause,
        original_dead_since: DateTime<Utc>,
        reason: String,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, instance::STREAM.into(), |events| {
            let released = InstanceReleased { original_dead_since, reason: reason.clone() };
            match originality(events) {
                Originality::Copy { taken_at, .. } if original_dead_since < taken_at => {
                    Err(ManageRefusal::AliveThen(taken_at))
                }
                Originality::Copy { .. } => Ok((Some(released.into()), ())),
                Originality::Released { .. } | Originality::Settled { .. } => Ok((None, ())),
                Originality::Original => Err(ManageRefusal::NoCopy),
            }
        })
        .await
    }
}

fn originality(events: &[Event]) -> Originality {
    events.iter().fold(Originality::default(), |mut originality, event| {
        // Nothing here is decided by when it was settled.
        originality.evolve(event, DateTime::UNIX_EPOCH);
        originality
    })
}
