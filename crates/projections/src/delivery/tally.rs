//! The only way into every view that counts: the sending's own row, the statistics, and the facets of the search.
//!
//! A fold says here what a message or an attempt was before and is now, so that nothing is counted in one view only.

use kite_domain::mutation;
use kite_domain::text::MessageType;

use super::counters::{AttemptStanding, Counter, Counts, MessageStanding};
use super::facets::Facets;
use super::lot::{Lot, Seal};
use super::statistics::{Key, Statistics};

/// All views, as far as they show one sending.
pub(super) struct Tally<'t> {
    pub(super) statistics: &'t mut Statistics,
    pub(super) facets: &'t mut Facets,
    pub(super) sending: &'t mut Counts,
}

impl Tally<'_> {
    /// The sending is sealed at this time: from here on the messages of a lot belong to its tenant, and count.
    pub(super) fn sealed(&mut self, lot: &mut Lot, seal: Seal, accepted_ms: i64) {
        if !lot.sealed(seal, accepted_ms) {
            return;
        }
        self.facets.sealed(lot);
        for (id, message) in (lot.first..).zip(&lot.messages) {
            let standing = MessageStanding::of(message);
            self.count(lot, message.message_type, standing, 1);
            self.facets.add(lot, seal, id, standing);
        }
    }

    /// Updates the counts of the message at this place of a lot, which had this state before.
    pub(super) fn moved(&mut self, lot: &Lot, place: usize, before: MessageStanding) {
        let message = &lot.messages[place];
        let after = MessageStanding::of(message);
        let Some(seal) = lot.seal.filter(|_| before != after) else { return };
        self.count(lot, message.message_type, before, -1);
        self.count(lot, message.message_type, after, 1);
        self.facets.moved(lot, seal, lot.first + place as i64, before, after);
    }

    fn count(&mut self, lot: &Lot, message_type: MessageType, standing: MessageStanding, sign: i64) {
        standing.add_to(self.sending, sign);
        mutation::bug!(OutcomeInOneViewOnly if standing.outcome == Some(kite_domain::lot::Outcome::Expired), return);
        let key = lot.key(message_type, standing.relay, standing.channel);
        standing.add_to(self.statistics.row(key), sign);
    }

    /// Updates the counts of an attempt that has changed.
    pub(super) fn attempt(&mut self, key: Key, before: AttemptStanding, after: AttemptStanding) {
        if before != after {
            before.add_to(self.sending, -1);
            after.add_to(self.sending, 1);
            self.statistics.moved(key, before, after);
        }
    }

    /// Adds to a counter of attempts.
    pub(super) fn add(&mut self, key: Key, counter: Counter, more: i64) {
        *self.statistics.row(key).at(counter) += more;
        *self.sending.at(counter) += more;
    }
}
