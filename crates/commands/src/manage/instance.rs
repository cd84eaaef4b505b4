//! That a log is a copy, and that its original is dead.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::instance::{self, InstanceCopied, InstanceReleased, Standing};
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
            match standing(events) {
                Standing::Copy { taken_at, .. } if original_dead_since < taken_at => {
                    Err(ManageRefusal::AliveThen(taken_at))
                }
                Standing::Copy { .. } => Ok((Some(released.into()), ())),
                Standing::Released { .. } | Standing::Settled { .. } => Ok((None, ())),
                Standing::Original => Err(ManageRefusal::NoCopy),
            }
        })
        .await
    }
}

fn standing(events: &[Event]) -> Standing {
    events.iter().fold(Standing::default(), |mut standing, event| {
        // Nothing here is decided by when it was settled.
        standing.evolve(event, DateTime::UNIX_EPOCH);
        standing
    })
}
