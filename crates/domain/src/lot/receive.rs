//! Receipts: whatever their order, the same receipts lead to the same result.

use smol_str::SmolStr;
use std::collections::{HashMap, HashSet};

use super::failover::{Aftermath, Failure, RoutingContext};
use super::message::{AttemptState, Outcome};
use super::{Lot, ReceiptSet, ReceiptsRecorded};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::mutation;
use crate::receipt::ReceiptStatus;
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;

/// One receipt that belongs to this lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which message.
    pub seq: u32,
    /// Which attempt.
    pub attempt: u16,
    /// What it says.
    pub status: ReceiptStatus,
    /// The relay's code.
    pub code: SmolStr,
    /// What it means, for a failure.
    pub class: FailureClass,
    /// The relay charges for it although it failed.
    pub billable_failure: bool,
    /// When, by the relay's clock.
    pub at_ms: i64,
}

/// Receipts that say more than was known: by message and attempt, the place of the one that says most.
type News = HashMap<(u32, u16), usize>;

impl Lot {
    /// Records receipts, whatever their order, and what follows from failures, in one append. A receipt that says
    /// nothing new gives no event. Also returns the places (in `notes`) of those that fit no attempt of this lot.
    pub fn receive(
        &self,
        terms: &SendingAccepted,
        relay: &RelayId,
        notes: &[Note],
        context: &RoutingContext<'_>,
    ) -> (Vec<Event>, Vec<usize>) {
        let mut events = self.attempts_of_the_original(terms, relay, notes, context);
        if events.is_empty() {
            return self.receive_for_known(terms, relay, notes, context);
        }
        let mut lot = self.clone();
        events.iter().for_each(|event| lot.evolve(event));
        let (told, unmatched) = lot.receive_for_known(terms, relay, notes, context);
        events.extend(told);
        (events, unmatched)
    }

    fn receive_for_known(
        &self,
        terms: &SendingAccepted,
        relay: &RelayId,
        notes: &[Note],
        context: &RoutingContext<'_>,
    ) -> (Vec<Event>, Vec<usize>) {
        let mut sets: Vec<ReceiptSet> = Vec::new();
        let mut unmatched = Vec::new();
        let mut news = News::with_capacity(notes.len());
        for (place, note) in notes.iter().enumerate() {
            let handed_over =
                self.attempt_at(note.seq, relay, note.attempt).filter(|state| *state != AttemptState::Routed);
            let Some(mut known) = handed_over else {
                unmatched.push(place);
                continue;
            };
            mutation::bug!(ReceiptBeforeResponseDropped if known == AttemptState::Submitted, continue);
            if let Some(best) = news.get(&(note.seq, note.attempt)) {
                known = known.max(state_of(notes[*best].status));
            }
            if state_of(note.status) > known {
                news.insert((note.seq, note.attempt), place);
                add_receipt(&mut sets, note);
            }
        }
        if sets.is_empty() {
            return (Vec::new(), unmatched);
        }
        let recorded = ReceiptsRecorded { relay: relay.clone(), sets };
        let aftermath = self.follow_receipts(terms, notes, &news, context);
        (std::iter::once(recorded.into()).chain(aftermath.into_events()).collect(), unmatched)
    }

    fn follow_receipts(
        &self,
        terms: &SendingAccepted,
        notes: &[Note],
        news: &News,
        context: &RoutingContext<'_>,
    ) -> Aftermath {
        let mut aftermath = Aftermath::default();
        // Delivered by whichever attempt: then no failure of another leads to anything.
        let delivered: HashSet<u32> = news
            .iter()
            .filter(|(_, place)| notes[**place].status == ReceiptStatus::Delivered)
            .map(|((seq, _), _)| *seq)
            .collect();
        for (place, note) in notes.iter().enumerate() {
            let is_best = news.get(&(note.seq, note.attempt)) == Some(&place);
            if !is_best || delivered.contains(&note.seq) {
                continue;
            }
            let failure =
                Failure { class: note.class, code: note.code.clone(), outcome: Outcome::Undelivered };
            if self.fails_now(note.seq, note.attempt, AttemptState::Undelivered) {
                aftermath.follow(self, note.seq, &failure, terms, context);
            } else if self.is_expired_at(note.seq, note.attempt) {
                aftermath.finish(note.seq, Outcome::Undelivered, failure.code, Some(failure.class));
            }
        }
        aftermath
    }

    fn is_expired_at(&self, seq: u32, number: u16) -> bool {
        self.message(seq).is_some_and(|message| {
            message.outcome == Some(Outcome::Expired) && message.attempts_made() == number
        })
    }
}

fn state_of(status: ReceiptStatus) -> AttemptState {
    match status {
        ReceiptStatus::Delivered => AttemptState::Delivered,
        ReceiptStatus::Undelivered => AttemptState::Undelivered,
    }
}

fn add_receipt(sets: &mut Vec<ReceiptSet>, note: &Note) {
    let class = (note.status == ReceiptStatus::Undelivered).then_some(note.class);
    let same = |set: &ReceiptSet| {
        set.attempt == note.attempt
            && set.status == note.status
            && set.code == note.code
            && set.class == class
            && set.billable_failure == note.billable_failure
    };
    let place = sets.iter().position(same).unwrap_or_else(|| {
        sets.push(ReceiptSet {
            attempt: note.attempt,
            status: note.status,
            code: note.code.clone(),
            class,
            billable_failure: note.billable_failure,
            messages: SeqSet::default(),
            at_ms: Vec::new(),
        });
        sets.len() - 1
    });
    let set = &mut sets[place];
    if set.messages.contains(note.seq) {
        return;
    }
    set.messages.push(note.seq);
    let at = set.messages.as_slice().binary_search(&note.seq).expect("it was just put in");
    set.at_ms.insert(at, note.at_ms);
}
