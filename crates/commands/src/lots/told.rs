//! Whoever follows the log is told of lots and sendings before they have to be looked at, so they need not be read back.

use kite_domain::event::{Event, EventKind};
use kite_domain::ids::SendingId;
use kite_domain::lot::Lot;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::atomic::Ordering;

use super::{LoggedLot, Lots};
use crate::journal::Told;

/// What it helps to be told of, of lots.
pub(crate) const OF_LOTS: [EventKind; 1] = [EventKind::LotAccepted];
/// The same of sendings.
pub const OF_SENDINGS: [EventKind; 5] = [
    EventKind::SendingAccepted,
    EventKind::SendingReleased,
    EventKind::SendingPaused,
    EventKind::SendingResumed,
    EventKind::SendingCancelled,
];

impl Lots {
    /// Keeps what an event begins, and folds what it changes of a sending, as far as nothing newer is kept. For who follows the log, in its
    /// order. A process that runs alone has all that from the acceptance on.
    pub fn note_told(&self, told: &Told) {
        if !self.inner.journal.is_shared() {
            return;
        }
        match &told.event {
            Event::LotAccepted(_) if told.recorded.version == 1 => {
                let Some(lot) = Lot::fold([&told.event]) else { return };
                self.remember(LoggedLot { lot, version: 1, last_event: Some(told.recorded.id) });
            }
            Event::SendingAccepted(accepted) if told.recorded.version == 1 => {
                self.keep_told(accepted.sending, told);
            }
            Event::SendingReleased(released) => self.change_told(released.sending, told),
            Event::SendingPaused(paused) => self.change_told(paused.sending, told),
            Event::SendingResumed(resumed) => self.change_told(resumed.sending, told),
            Event::SendingCancelled(cancelled) => self.change_told(cancelled.sending, told),
            _ => {}
        }
    }

    fn change_told(&self, id: SendingId, told: &Told) {
        // First: whoever has just read it either sees that something was told, or has what is kept changed or removed.
        self.inner.changes_told.fetch_add(1, Ordering::SeqCst);
        let Some(kept) = self.inner.sendings.peek(&id) else { return };
        let mut kept = kept.value.lock();
        match told.recorded.version.cmp(&(kept.version + 1)) {
            Less => {}
            Equal => {
                kept.sending.evolve(&told.event, told.recorded.metadata.time);
                kept.version += 1;
            }
            // Something in between was not told.
            Greater => {
                drop(kept);
                self.inner.sendings.remove(&id);
            }
        }
    }
}
