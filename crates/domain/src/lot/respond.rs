//! The relay's answer to a hand-over or to a question, and what follows from it.

use chrono::{DateTime, TimeDelta, Utc};
use smol_str::SmolStr;

use super::doubt::{self, Asking, Question};
use super::failover::{Aftermath, Failure, RoutingContext};
use super::message::{AttemptState, Doubt, Outcome};
use super::retry;
use super::{AcceptedSet, DeferredSet, Lot, RefusedForNowSet, RefusedSet, RelayResponded, UnknownSet};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::mutation::{self, Mutation};
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;

/// A message that the relay accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedMessage {
    /// Which message.
    pub seq: u32,
    /// The relay's own reference.
    pub relay_reference: Option<SmolStr>,
}

/// A message that the relay refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedMessage {
    /// Which message.
    pub seq: u32,
    /// The relay's code.
    pub code: SmolStr,
    /// What it means.
    pub class: FailureClass,
    /// The relay's words.
    pub text: Option<String>,
}

/// A message that the relay refused for now, and for a reason of the message's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedForNowMessage {
    /// Which message, and with what.
    pub refused: RefusedMessage,
    /// How long the relay does not want to be called about this message, if it said so.
    pub retry_after: Option<TimeDelta>,
}

/// What a relay's words are an answer to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerTo {
    /// An answer to a hand-over: it is about this call, and says nothing about an earlier one.
    #[default]
    Call,
    /// A status query: they are about the message.
    Question,
    /// A hand-over whose caller did not live to record the answer: there is none.
    Nobody,
}

/// Messages about which there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    /// Which.
    pub messages: SeqSet,
    /// What happened instead.
    pub reason: String,
}

/// What a relay said at once, for the messages of one lot and attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseNote {
    /// How long the call took, in milliseconds; none: the process that called did not live to see the answer.
    pub call_ms: Option<u32>,
    /// Taken.
    pub accepted: Vec<AcceptedMessage>,
    /// The relay gives no receipts.
    pub accepted_is_final: bool,
    /// Not taken.
    pub refused: Vec<RefusedMessage>,
    /// Not taken now.
    pub refused_for_now: Vec<RefusedForNowMessage>,
    /// When the relay answered, or failed to; none: now. An answer that is recorded again, because nobody knows
    /// whether it was, is then the same.
    pub answered_at: Option<DateTime<Utc>>,
    /// Whether the sending was cancelled: then nothing is tried again.
    pub is_cancelled: bool,
    /// No answer.
    pub unknown: Option<NoAnswer>,
    /// Not accepted by this call, and welcome later, one set per reason. For an unknown message that was asked about:
    /// certainly not accepted.
    pub deferred: Vec<DeferredSet>,
    /// What was asked.
    pub answer_to: AnswerTo,
    /// For a hand-over: until when its answer was due, which distinguishes it from a later call. None: it is not
    /// distinguished.
    pub answer_by: Option<DateTime<Utc>>,
    /// See [`UnknownSet::round`]: of the call, or of the question.
    pub round: u8,
    /// How the relay can be asked.
    pub asking: Asking,
}

impl Lot {
    /// Records what the relay said, and what follows from its refusals, in one append.
    ///
    /// A message that was handed over again after an answer was lost may be with the relay, or on its way there,
    /// although the repeated call was not accepted: `lot/doubt.rs` says what the answer proves by then. What is
    /// refused for now goes to the same relay again, for as long as there is time (`lot/retry.rs`).
    ///
    /// If a call was so late that somebody else has called since, only what the relay accepted counts.
    ///
    /// Recording the same answer again changes nothing.
    pub fn respond(
        &self,
        terms: &SendingAccepted,
        relay: &RelayId,
        attempt: u16,
        note: ResponseNote,
        context: &RoutingContext<'_>,
    ) -> Vec<Event> {
        let mut response = Response::new((self, terms), (relay, attempt), &note, context);
        mutation::bug!(DuplicateTakenAsAccepted, let note = super::mutations::duplicates_accepted(note, &response));
        let ResponseNote { call_ms, accepted, refused, refused_for_now, mut deferred, .. } = note;
        response.refused(refused);
        response.without_answer(note.unknown);
        let again = response.refused_for_now(refused_for_now, &mut deferred);
        response.put_off(deferred);
        response.tried_again(again, note.is_cancelled);
        response.end_attempts();
        let is_known = |seq: u32| self.attempt_at(seq, relay, attempt).is_some();
        response.into_events(call_ms, accepted_set(accepted, note.accepted_is_final, is_known))
    }

    /// Whether another call was made for the attempt since the one whose answer was due by then.
    fn was_called_again(&self, seq: u32, attempt: u16, answer_by: Option<DateTime<Utc>>) -> bool {
        let newest_ms = self.answer_by_ms(seq, attempt).filter(|newest_ms| *newest_ms != 0);
        newest_ms.zip(answer_by).is_some_and(|(newest_ms, by)| newest_ms != by.timestamp_millis())
    }
}

/// A relay's words on their way into events.
pub(super) struct Response<'r> {
    lot: &'r Lot,
    terms: &'r SendingAccepted,
    relay: &'r RelayId,
    attempt: u16,
    context: &'r RoutingContext<'r>,
    answer_to: AnswerTo,
    answer_by: Option<DateTime<Utc>>,
    answered_at: DateTime<Utc>,
    round: u8,
    asking: Asking,
    /// They count.
    refused: Vec<RefusedMessage>,
    refused_for_now: Vec<RefusedForNowSet>,
    unknown: Option<UnknownSet>,
    /// They are where they were before the call.
    back: Vec<DeferredSet>,
    /// They stay unknown whatever this call came to.
    in_doubt: Vec<UnknownSet>,
    aftermath: Aftermath,
}

impl<'r> Response<'r> {
    fn new(
        (lot, terms): (&'r Lot, &'r SendingAccepted),
        (relay, attempt): (&'r RelayId, u16),
        note: &ResponseNote,
        context: &'r RoutingContext<'r>,
    ) -> Self {
        Self {
            lot,
            terms,
            relay,
            attempt,
            context,
            answer_to: note.answer_to,
            answer_by: note.answer_by,
            answered_at: note.answered_at.unwrap_or(context.now),
            round: note.round,
            asking: note.asking,
            refused: Vec::new(),
            refused_for_now: Vec::new(),
            unknown: None,
            back: Vec::new(),
            in_doubt: Vec::new(),
            aftermath: Aftermath::default(),
        }
    }

    fn state(&self, seq: u32) -> Option<AttemptState> {
        self.lot.attempt_at(seq, self.relay, self.attempt)
    }

    /// Whether the answer counts for the message: the attempt is this one, nobody has called again since, and it was
    /// not handed over again since it was asked about, because that call has its own answer.
    pub(super) fn counts(&self, seq: u32) -> bool {
        let Some(state) = self.state(seq) else { return false };
        let is_asked_late = self.answer_to == AnswerTo::Question && state == AttemptState::Submitted;
        !is_asked_late && !self.lot.was_called_again(seq, self.attempt, self.answer_by)
    }

    pub(super) fn is_in_doubt(&self, seq: u32) -> bool {
        self.lot.doubt(seq, self.attempt) != Doubt::None
    }

    /// The question that follows a call of this round, or a question; none: the relay cannot be asked.
    fn question(&self, answer_to: AnswerTo) -> Option<Question> {
        let question = || doubt::question_after(answer_to, self.round, self.lot.class, self.answered_at);
        self.asking.can_ask().then(question)
    }

    /// A refusal counts, except of a repeat while the call before it is in doubt. Returns what counts as accepted,
    /// which a correct program never does.
    fn refused(&mut self, refused: Vec<RefusedMessage>) {
        let ours = refused.into_iter().filter(|one| self.counts(one.seq));
        let (repeats, certain): (Vec<_>, Vec<_>) = ours.partition(|one| self.is_in_doubt(one.seq));
        self.refused = certain;
        let (duplicates, repeats): (Vec<_>, Vec<_>) = repeats
            .into_iter()
            .partition(|one| one.class == FailureClass::Duplicate && self.answer_to == AnswerTo::Call);
        let (question, asking) = (self.question(AnswerTo::Call), self.asking);
        let duplicates = refused_sets(duplicates).into_iter();
        self.in_doubt.extend(duplicates.map(|set| doubt::refused_as_duplicate(set, question, asking)));
        if doubt::is_late(self.round) || mutation::is_active(Mutation::RefusedRepeatBelieved) {
            self.refused.extend(repeats);
        } else {
            let early = refused_sets(repeats).into_iter();
            self.in_doubt.extend(early.map(|set| doubt::refused_too_early(set, question)));
        }
    }

    fn without_answer(&mut self, unknown: Option<NoAnswer>) {
        let Some(NoAnswer { messages, reason }) = unknown else { return };
        let is_handed_over = |seq: u32| self.state(seq).is_some_and(|state| state != AttemptState::Routed);
        let messages = picked(&messages, |seq| self.counts(seq) && is_handed_over(seq));
        if !messages.is_empty() {
            let unknown = doubt::not_known(messages, reason);
            self.unknown = Some(doubt::asked_about(unknown, self.question(self.answer_to)));
        }
    }

    /// Returns what may be tried again. What is in doubt is postponed.
    fn refused_for_now(
        &self,
        refused_for_now: Vec<RefusedForNowMessage>,
        deferred: &mut Vec<DeferredSet>,
    ) -> Vec<RefusedForNowMessage> {
        let is_open =
            |seq: u32| matches!(self.state(seq), Some(AttemptState::Submitted | AttemptState::Unknown));
        let ours = refused_for_now
            .into_iter()
            .filter(|one| is_open(one.refused.seq) && self.counts(one.refused.seq));
        let (in_doubt, again): (Vec<_>, Vec<_>) = ours.partition(|one| self.is_in_doubt(one.refused.seq));
        let life = (self.lot.id.sending.made_at(), self.terms.expires_at);
        for one in in_doubt {
            doubt::defer_in_doubt(deferred, &one, self.answered_at, life);
        }
        again
    }

    fn put_off(&mut self, deferred: Vec<DeferredSet>) {
        for set in deferred {
            let messages = picked(&set.messages, |seq| self.counts(seq));
            let set = DeferredSet { messages, ..set };
            let (back, in_doubt) = self.lot.cut_deferred(set, self.attempt, self.answer_to);
            self.back.extend(back);
            self.in_doubt.extend(in_doubt);
        }
    }

    /// What is refused for now is tried again while there is time; after that it is refused. Nothing of a cancelled
    /// sending is tried again.
    fn tried_again(&mut self, again: Vec<RefusedForNowMessage>, is_cancelled: bool) {
        for one in again {
            let next = self.lot.again(&one, self.attempt, self.context.now);
            let seq = one.refused.seq;
            if is_cancelled && self.lot.fails_now(seq, self.attempt, AttemptState::Refused) {
                self.lot.finish_cancelled(seq, &mut self.aftermath);
            }
            if is_cancelled || next.is_in_time(self.terms) {
                retry::collect(&mut self.refused_for_now, one.refused, next);
            } else {
                self.refused.push(one.refused);
            }
        }
    }

    /// What follows for messages whose attempt ends with this: it was refused, or its result will never be known.
    fn end_attempts(&mut self) {
        let (lot, terms, context) = (self.lot, self.terms, self.context);
        for one in &self.refused {
            if lot.fails_now(one.seq, self.attempt, AttemptState::Refused) {
                let failure =
                    Failure { class: one.class, code: one.code.clone(), outcome: Outcome::Undelivered };
                self.aftermath.follow(lot, one.seq, &failure, terms, context);
            }
        }
        let for_good = self.unknown.iter().filter(|set| set.inquire_at.is_none());
        for seq in for_good.flat_map(|set| set.messages.iter()) {
            if lot.fails_now(seq, self.attempt, AttemptState::Unknown) {
                self.aftermath.follow_unknown(lot, seq, terms, context);
            }
        }
    }

    fn into_events(self, call_ms: Option<u32>, accepted: Option<AcceptedSet>) -> Vec<Event> {
        let nothing = RelayResponded { call_ms, ..RelayResponded::nothing(self.relay.clone(), self.attempt) };
        let mut back = self.back.into_iter();
        let first = RelayResponded {
            accepted,
            refused: refused_sets(self.refused),
            unknown: self.unknown,
            deferred: back.next(),
            refused_for_now: self.refused_for_now,
            ..nothing.clone()
        };
        let back = back.map(|set| RelayResponded { deferred: Some(set), ..nothing.clone() });
        let in_doubt = self.in_doubt.into_iter();
        let in_doubt = in_doubt.map(|set| RelayResponded { unknown: Some(set), ..nothing.clone() });
        let first = (first != nothing).then_some(first);
        let responded = first.into_iter().chain(back).chain(in_doubt).map(Event::from);
        responded.chain(self.aftermath.into_events()).collect()
    }
}

fn picked(messages: &SeqSet, keep: impl Fn(u32) -> bool) -> SeqSet {
    messages.iter().filter(|seq| keep(*seq)).collect()
}

/// One set per code and class; the relay's words are those of the first.
fn refused_sets(refused: Vec<RefusedMessage>) -> Vec<RefusedSet> {
    let mut sets: Vec<RefusedSet> = Vec::new();
    for one in refused {
        match sets.iter_mut().find(|set| set.code == one.code && set.class == one.class) {
            Some(set) => set.messages.push(one.seq),
            None => sets.push(RefusedSet {
                messages: std::iter::once(one.seq).collect(),
                code: one.code,
                class: one.class,
                text: one.text,
            }),
        }
    }
    sets
}

fn accepted_set(
    accepted: Vec<AcceptedMessage>,
    is_final: bool,
    is_ours: impl Fn(u32) -> bool,
) -> Option<AcceptedSet> {
    let mut ours: Vec<AcceptedMessage> = accepted.into_iter().filter(|one| is_ours(one.seq)).collect();
    ours.sort_by_key(|one| one.seq);
    ours.dedup_by_key(|one| one.seq);
    if ours.is_empty() {
        return None;
    }
    let has_references = ours.iter().any(|one| one.relay_reference.is_some());
    let messages = ours.iter().map(|one| one.seq).collect();
    let references = ours.into_iter().map(|one| one.relay_reference.unwrap_or_default());
    let relay_references = if has_references { references.collect() } else { Vec::new() };
    Some(AcceptedSet { messages, relay_references, is_final })
}
