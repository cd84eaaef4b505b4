//! A rolling upgrade: some processes write events in a newer version than another one understands, which is upgraded last.

use kite_domain::event::EventKind;
use kite_event_store::{NewEvent, RecordedEvent};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A version that this program does not know either: so it looks to a process that is behind.
const OF_TOMORROW: u16 = 900;

/// What a newer program writes in another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Newer {
    /// First routes, and those after a failure.
    Routes,
    /// What relays answered.
    Responses,
    /// Delivery reports.
    Receipts,
    /// Sendings are paused, or resumed.
    Pauses,
    /// How relays stand.
    Relays,
    /// Policies, and advice on them.
    Policies,
}

impl Newer {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Routes, Self::Responses, Self::Receipts, Self::Pauses, Self::Relays, Self::Policies];

    fn kinds(self) -> &'static [EventKind] {
        match self {
            Self::Routes => &[EventKind::MessagesRouted],
            Self::Responses => &[EventKind::RelayResponded],
            Self::Receipts => &[EventKind::ReceiptsRecorded],
            Self::Pauses => &[EventKind::SendingPaused, EventKind::SendingResumed],
            Self::Relays => &[
                EventKind::RelayDefined,
                EventKind::RelaySuspended,
                EventKind::RelayResumed,
                EventKind::RelayBreakerChanged,
            ],
            Self::Policies => &[EventKind::PolicyDefined, EventKind::WeightsAdvised],
        }
    }
}

/// What has been written in a newer version. All processes share it.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    newer: Mutex<BTreeSet<Newer>>,
    written: Mutex<BTreeSet<Uuid>>,
}

impl Upgrade {
    /// From now on newer processes write this in another version.
    pub(crate) fn begins(&self, newer: Newer) {
        self.newer.lock().insert(newer);
    }

    /// A newer process writes these.
    pub(crate) fn writes<'e>(&self, events: impl Iterator<Item = &'e NewEvent>) {
        let newer = self.newer.lock();
        if newer.is_empty() {
            return;
        }
        let is_newer =
            |event: &&NewEvent| newer.iter().any(|one| one.kinds().iter().any(|kind| event.kind == *kind));
        self.written.lock().extend(events.filter(is_newer).map(|event| event.id));
    }

    /// The events as an older process sees them.
    pub(crate) fn shown_to_an_older_one(&self, mut events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
        let written = self.written.lock();
        for event in events.iter_mut().filter(|event| written.contains(&event.id)) {
            event.schema_version = OF_TOMORROW;
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::event::{DecodeError, Event};

    #[test]
    fn what_is_newer_is_of_a_version_that_nobody_knows() {
        for kind in Newer::ALL.iter().flat_map(|newer| newer.kinds()) {
            let read = Event::from_json(kind.as_str(), OF_TOMORROW, b"{}");
            assert!(matches!(read, Err(DecodeError::UnknownKind { .. })), "{kind:?}");
        }
    }
}
