//! What the relay said, on its way into the log.

use chrono::{DateTime, Utc};
use kite_commands::{LotsError, Step, WorkerError, describe};
use kite_domain::ids::LotId;
use kite_domain::lot::{AnswerTo, NoAnswer, RefusedMessage, ResponseNote};
use kite_domain::not_understood::{Misread, SaidHow};
use kite_domain::receipt::RawReceipt;
use kite_domain::seq_set::SeqSet;
use std::collections::HashMap;

use super::active_relay::Held;
use super::{ActiveRelay, RelayWorker};
use crate::metrics;
use crate::queue::Job;

/// Answers for the messages of a lease, and what is left of the lease.
pub(super) struct Answered {
    held: Held,
    /// Jobs that go back to the queue.
    pub(super) rest: Vec<Job>,
    notes: Vec<LotNotes>,
    places: HashMap<LotId, usize>,
    /// What a status query told beyond the hand-over.
    pub(super) receipts: Vec<RawReceipt>,
    /// Lots whose jobs are to be derived again.
    pub(super) stale: Vec<LotId>,
    /// What the relay said and nobody understood.
    misread: Vec<(SaidHow, Misread)>,
}

struct LotNotes {
    lot: LotId,
    /// By attempt and what was asked.
    notes: Vec<(u16, ResponseNote)>,
}

/// Where a message's answer is to be noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    lot: usize,
    note: usize,
}

impl Answered {
    pub(super) fn new(held: Held) -> Self {
        Self {
            held,
            rest: Vec::new(),
            notes: Vec::new(),
            places: HashMap::new(),
            receipts: Vec::new(),
            stale: Vec::new(),
            misread: Vec::new(),
        }
    }

    /// The place for answers to calls, or to questions, about an attempt of a lot.
    pub(super) fn place(&mut self, lot: LotId, attempt: u16, answer_to: AnswerTo) -> Place {
        let notes = &mut self.notes;
        let place = *self.places.entry(lot).or_insert_with(|| {
            notes.push(LotNotes { lot, notes: Vec::with_capacity(1) });
            notes.len() - 1
        });
        let notes = &mut self.notes[place].notes;
        let is_it = |(known, note): &(u16, ResponseNote)| (*known, note.answer_to) == (attempt, answer_to);
        let note = notes.iter().position(is_it).unwrap_or_else(|| {
            notes.push((attempt, ResponseNote { answer_to, ..ResponseNote::default() }));
            notes.len() - 1
        });
        Place { lot: place, note }
    }

    pub(super) fn note(&mut self, place: Place) -> &mut ResponseNote {
        &mut self.notes[place.lot].notes[place.note].1
    }

    /// There was no answer about these messages to a call or question of this round.
    pub(super) fn unknown(
        &mut self,
        active: &ActiveRelay,
        place: Place,
        round: u8,
        messages: &SeqSet,
        reason: &str,
        now: DateTime<Utc>,
    ) {
        let note = self.heard(active, place, round, now);
        let unanswered = || NoAnswer { messages: SeqSet::default(), reason: reason.to_owned() };
        let set = note.unknown.get_or_insert_with(unanswered);
        messages.iter().for_each(|seq| set.messages.push(seq));
    }

    /// This message was refused in answer to a call or question of this round.
    pub(super) fn refused(
        &mut self,
        active: &ActiveRelay,
        place: Place,
        round: u8,
        refused: RefusedMessage,
        now: DateTime<Utc>,
    ) {
        self.heard(active, place, round, now).refused.push(refused);
    }

    /// A set of answers from which something follows. If they are of several rounds, the earliest counts, because it
    /// proves least.
    fn heard(
        &mut self,
        active: &ActiveRelay,
        place: Place,
        round: u8,
        now: DateTime<Utc>,
    ) -> &mut ResponseNote {
        let note = self.note(place);
        let is_first = note.unknown.is_none() && note.refused.is_empty();
        note.round = if is_first { round } else { note.round.min(round) };
        note.asking = active.asking();
        note.answered_at = Some(now);
        note
    }

    fn count(&self, relay: &kite_domain::slug::RelayId) {
        let mut counts = [0; 5];
        for (_, note) in self.notes.iter().flat_map(|lot| &lot.notes) {
            counts[0] += note.accepted.len();
            counts[1] += note.refused.len();
            counts[2] += note.unknown.as_ref().map_or(0, |set| set.messages.len());
            counts[3] += note.deferred.iter().map(|set| set.messages.len()).sum::<usize>();
            counts[4] += note.refused_for_now.len();
        }
        let results = ["accepted", "refused", "unknown", "deferred", "refused_for_now"];
        for (result, count) in results.into_iter().zip(counts) {
            metrics::responses(relay, self.held.class, result, count);
        }
    }
}

impl RelayWorker {
    /// Writes the answers to the log, then settles the lease. What the log does not accept is kept and tried again.
    pub(super) async fn record(&mut self, mut answered: Answered) -> Result<Step, WorkerError> {
        self.active.catch_up().await;
        if let Err(error) = self.record_notes(&mut answered).await {
            self.unrecorded = Some(answered);
            return Err(error);
        }
        if !answered.receipts.is_empty() {
            let receipts = answered.receipts.clone();
            match self.active.parts.receipts.record(self.active.relay(), receipts).await {
                Ok(_) => {}
                Err(error) => {
                    self.unrecorded = Some(answered);
                    return Err(WorkerError::from(error));
                }
            }
        }
        if let Err(error) = self.keep_misread(&mut answered).await {
            self.unrecorded = Some(answered);
            return Err(error);
        }
        answered.held.settle(answered.rest).await?;
        for lot in answered.stale {
            // A full lane: the sweep finds it again.
            if let Err(error) = self.active.parts.feeder.feed(lot).await {
                tracing::warn!(%lot, error = describe(&error), "the jobs of a lot could not be derived anew");
            }
        }
        self.write_breaker().await?;
        Ok(Step::Worked)
    }

    /// Keeps unreadable answers, of this call or of one beside it. What the log does not accept stays in `answered`.
    async fn keep_misread(&self, answered: &mut Answered) -> Result<(), WorkerError> {
        let active = &self.active;
        answered.misread.extend(active.client.take_misread());
        if answered.misread.is_empty() {
            return Ok(());
        }
        for how in [SaidHow::Responded, SaidHow::Answered, SaidHow::Pulled, SaidHow::Pushed] {
            let is_so = |(said, _): &&(SaidHow, Misread)| *said == how;
            let misread: Vec<Misread> =
                answered.misread.iter().filter(is_so).map(|(_, one)| one.clone()).collect();
            let kept = active.parts.receipts.keep_not_understood(active.relay(), how, misread).await;
            kept.map_err(WorkerError::from)?;
        }
        answered.misread.clear();
        Ok(())
    }

    /// One append for all lots. Answers that were not accepted by the log stay in `answered`.
    async fn record_notes(&self, answered: &mut Answered) -> Result<(), WorkerError> {
        let active = &self.active;
        let notes = &answered.notes;
        let ids: Vec<LotId> = notes.iter().map(|notes| notes.lot).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let snapshot = active.parts.directory.snapshot();
        let now = active.now();
        let results = active
            .parts
            .lots
            .change(&ids, &active.actor, |place, lot, sending| {
                let context = snapshot.routing_context(&sending.terms, now);
                let respond = |(attempt, note): &(u16, ResponseNote)| {
                    let note = ResponseNote { is_cancelled: sending.is_cancelled, ..note.clone() };
                    lot.respond(&sending.terms, active.relay(), *attempt, note, &context)
                };
                (notes[place].notes.iter().flat_map(respond).collect(), ())
            })
            .await;
        let mut failure = None;
        let mut is_taken = Vec::with_capacity(results.len());
        for (result, id) in results.into_iter().zip(ids) {
            is_taken.push(match result {
                Ok(()) => true,
                Err(LotsError::NotFound(_)) => {
                    tracing::error!(lot = %id, "a lot that was handed over is not in the log");
                    true
                }
                // It never will be by this program. Others find the intent without an answer, and ask.
                Err(LotsError::Journal(error)) if error.is_of_newer_program() => {
                    tracing::error!(lot = %id, error = describe(&error), "what a relay said cannot be recorded, and is left to be asked about");
                    true
                }
                Err(error) => {
                    failure = Some(WorkerError::from(error));
                    false
                }
            });
        }
        match failure {
            None => {
                answered.count(active.relay());
                answered.notes.clear();
                answered.places.clear();
                Ok(())
            }
            Some(failure) => {
                let mut is_taken = is_taken.into_iter();
                answered.notes.retain(|_| !is_taken.next().unwrap_or(false));
                let places = answered.notes.iter().enumerate().map(|(place, notes)| (notes.lot, place));
                answered.places = places.collect();
                Err(failure)
            }
        }
    }
}
