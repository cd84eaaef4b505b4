//! The relay's answer to a hand-over or to a question, and what follows from it.

use chrono::{DateTime, TimeDelta, Utc};
use smol_str::SmolStr;

use super::failover::{Aftermath, Failure, RoutingContext};
use super::message::{AttemptState, Doubt, Outcome};
use super::retry;
use super::{AcceptedSet, DeferredSet, Lot, Refusal, RefusedSet, RelayResponded, UnknownSet};
use crate::event::Event;
use crate::failure::FailureClass;
use crate::mutation::{self, Mutation};
use crate::sending::SendingAccepted;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;

/// How long a message that is in doubt and refused for now waits at least for the next question, and at most,
const DOUBT_PAUSE: TimeDelta = TimeDelta::minutes(1);
const DOUBT_PAUSE_MAX: TimeDelta = TimeDelta::minutes(30);
/// and which part of its life.
const DOUBT_PARTS: i32 = 20;

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
    /// How long the relay wants to be left alone with this message, if it said so.
    pub retry_after: Option<TimeDelta>,
}

/// What a relay's words are an answer to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerTo {
    /// A hand-over: they are about this call, and say nothing of an earlier one.
    #[default]
    Call,
    /// A status query: they are about the message.
    Question,
}

/// What a relay said at once, for the messages of one lot and attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseNote {
    /// How long the call took, in milliseconds; none: nobody lived to see.
    pub call_ms: Option<u32>,
    /// Taken.
    pub accepted: Vec<AcceptedMessage>,
    /// The relay gives no receipts.
    pub accepted_is_final: bool,
    /// Not taken.
    pub refused: Vec<RefusedMessage>,
    /// Not taken now.
    pub refused_for_now: Vec<RefusedForNowMessage>,
    /// When the relay said so; none: now. What is written once more, because nobody knows whether it was, is then the same.
    pub answered_at: Option<DateTime<Utc>>,
    /// Whether the sending was cancelled: then nothing is tried again.
    pub is_cancelled: bool,
    /// No answer.
    pub unknown: Option<UnknownSet>,
    /// Not taken by this call, and welcome later, one set a reason. Of an unknown message that was asked about: certainly not
    /// taken.
    pub deferred: Vec<DeferredSet>,
    /// What was asked.
    pub answer_to: AnswerTo,
    /// Of a hand-over: until when its answer was to be in, by which it is told from a later one. None: it is not told.
    pub answer_by: Option<DateTime<Utc>>,
    /// No call before this one can still be on its way.
    pub is_last_word: bool,
    /// The question what became of a message whose repeated call is refused; none: nobody can be asked.
    pub question_of_repeats: Option<Question>,
    /// The same where it is refused as a duplicate; none also where it could only be handed over again, which would be told
    /// the same.
    pub question_of_duplicates: Option<Question>,
}

/// A question that a relay is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// When.
    pub at: DateTime<Utc>,
    /// See [`UnknownSet::round`].
    pub round: u8,
}

impl Lot {
    /// Records what the relay said, and what follows from its refusals, in one append.
    ///
    /// A message that was handed over again after an answer was lost may be with the relay, or on its way there, although
    /// the repeated call was not taken. A deferral of that call leaves it unknown. So does its refusal, for as long as an
    /// earlier call may still come in; and its refusal as a duplicate always, which may be because the first call was
    /// taken, or be the first answer once more. By the table of failures a duplicate never goes elsewhere, and so not from
    /// this doubt either.
    ///
    /// What is refused for now goes to the same relay again, for as long as there is time (`lot/retry.rs`).
    ///
    /// Of a call that came so late that somebody else has made another one since, only counts what the relay took.
    ///
    /// The same note once more changes nothing.
    pub fn respond(
        &self,
        terms: &SendingAccepted,
        relay: &RelayId,
        attempt: u16,
        note: ResponseNote,
        context: &RoutingContext<'_>,
    ) -> Vec<Event> {
        let ResponseNote {
            call_ms,
            mut accepted,
            accepted_is_final,
            refused,
            refused_for_now,
            answered_at,
            is_cancelled,
            unknown,
            mut deferred,
            answer_to,
            answer_by,
            is_last_word,
            question_of_repeats,
            question_of_duplicates,
        } = note;
        let is_known = |seq: u32| self.attempt_at(seq, relay, attempt).is_some();
        let is_ours = |seq: u32| is_known(seq) && !self.was_called_again(seq, attempt, answer_by);
        // Handed over once more since it was asked about: that call has its own answer.
        let is_asked_late = |seq: u32| {
            answer_to == AnswerTo::Question
                && self.attempt_at(seq, relay, attempt) == Some(AttemptState::Submitted)
        };
        let (repeats, mut refused): (Vec<_>, Vec<_>) = refused
            .into_iter()
            .filter(|one| is_ours(one.seq) && !is_asked_late(one.seq))
            .partition(|one| self.doubt(one.seq, attempt) != Doubt::None);
        let (mut duplicates, repeats): (Vec<_>, Vec<_>) = repeats
            .into_iter()
            .partition(|one| one.class == FailureClass::Duplicate && answer_to == AnswerTo::Call);
        if mutation::is_active(Mutation::DuplicateTakenAsAccepted) {
            let taken = |one: RefusedMessage| AcceptedMessage { seq: one.seq, relay_reference: None };
            accepted.extend(duplicates.drain(..).map(taken));
        }
        let duplicates = refused_sets(duplicates).into_iter().map(|set| UnknownSet {
            messages: set.messages,
            reason: set.text.unwrap_or_else(|| "a repeated call was refused as a duplicate".to_owned()),
            inquire_at: question_of_duplicates.map(|question| question.at),
            round: question_of_duplicates.map_or(0, |question| question.round),
            duplicate_code: Some(set.code),
            refusal: None,
            receipt_by: None,
        });
        let is_believed = is_last_word || mutation::is_active(Mutation::RefusedRepeatBelieved);
        let early = if is_believed {
            refused.extend(repeats);
            Vec::new()
        } else {
            repeats
        };
        let early = refused_sets(early).into_iter().map(|set| UnknownSet {
            messages: set.messages,
            reason: "a repeated call was refused, and an earlier one may still be on its way".to_owned(),
            inquire_at: question_of_repeats.map(|question| question.at),
            round: question_of_repeats.map_or(0, |question| question.round),
            duplicate_code: None,
            refusal: Some(Refusal { code: set.code, class: set.class, text: set.text }),
            receipt_by: None,
        });
        let unknown = unknown.and_then(|set| {
            let is_it =
                |seq: u32| is_ours(seq) && self.is_handed_over(seq, relay, attempt) && !is_asked_late(seq);
            let messages = picked(&set.messages, is_it);
            (!messages.is_empty()).then_some(UnknownSet { messages, ..set })
        });
        let (in_doubt, refused_for_now): (Vec<_>, Vec<_>) = refused_for_now
            .into_iter()
            .filter(|one| {
                let state = self.attempt_at(one.refused.seq, relay, attempt);
                matches!(state, Some(AttemptState::Submitted | AttemptState::Unknown))
                    && is_ours(one.refused.seq)
                    && !is_asked_late(one.refused.seq)
            })
            .partition(|one| self.doubt(one.refused.seq, attempt) != Doubt::None);
        let answered_at = answered_at.unwrap_or(context.now);
        for one in in_doubt {
            let pause = doubt_pause(self.id.sending.made_at(), terms.expires_at, answered_at);
            defer_in_doubt(&mut deferred, &one, answered_at, pause);
        }
        let mut back = Vec::new();
        let mut doubtful = Vec::new();
        for set in deferred {
            let open = picked(&set.messages, |seq| is_ours(seq) && !is_asked_late(seq));
            let (set, doubt) = self.cut_deferred(DeferredSet { messages: open, ..set }, attempt, answer_to);
            back.extend(set);
            doubtful.extend(doubt);
        }
        let mut back = back.into_iter();

        let mut aftermath = Aftermath::default();
        let mut for_now = Vec::new();
        for one in refused_for_now {
            let again = self.again(&one, attempt, context.now);
            let seq = one.refused.seq;
            if is_cancelled {
                if self.fails_now(seq, attempt, AttemptState::Refused) {
                    self.finish_cancelled(seq, &mut aftermath);
                }
                retry::collect(&mut for_now, one.refused, again);
            } else if again.is_in_time(terms) {
                retry::collect(&mut for_now, one.refused, again);
            } else {
                refused.push(one.refused);
            }
        }
        for one in refused.iter().filter(|one| self.fails_now(one.seq, attempt, AttemptState::Refused)) {
            let failure = Failure { class: one.class, code: one.code.clone(), outcome: Outcome::Undelivered };
            aftermath.follow(self, one.seq, &failure, terms, context);
        }
        if let Some(set) = unknown.as_ref().filter(|set| set.inquire_at.is_none()) {
            let open = set.messages.iter().filter(|seq| self.fails_now(*seq, attempt, AttemptState::Unknown));
            open.for_each(|seq| aftermath.follow_unknown(self, seq, terms, context));
        }
        let responded = RelayResponded {
            relay: relay.clone(),
            attempt,
            call_ms,
            accepted: accepted_set(accepted, accepted_is_final, is_known),
            refused: refused_sets(refused),
            unknown,
            deferred: back.next(),
            refused_for_now: for_now,
        };
        let says_nothing = responded.accepted.is_none()
            && responded.refused.is_empty()
            && responded.refused_for_now.is_empty()
            && responded.unknown.is_none()
            && responded.deferred.is_none();
        let more = |unknown, deferred| {
            Event::from(RelayResponded {
                relay: relay.clone(),
                attempt,
                call_ms,
                accepted: None,
                refused: Vec::new(),
                unknown,
                deferred,
                refused_for_now: Vec::new(),
            })
        };
        let in_doubt = duplicates.chain(early).chain(doubtful).map(|unknown| more(Some(unknown), None));
        let back = back.map(|deferred| more(None, Some(deferred)));
        let responded = (!says_nothing).then(|| Event::from(responded));
        responded.into_iter().chain(back).chain(in_doubt).chain(aftermath.into_events()).collect()
    }

    /// The messages that are back where they were before the call, and those that stay unknown because an earlier call
    /// may have been taken. A relay that has refused a message as a duplicate is not believed that it never had it.
    fn cut_deferred(
        &self,
        set: DeferredSet,
        attempt: u16,
        answer_to: AnswerTo,
    ) -> (Option<DeferredSet>, Option<UnknownSet>) {
        let forgets = mutation::is_active(Mutation::DoubtForgottenOnDeferral);
        let doubt = |seq: u32| if forgets { Doubt::None } else { self.doubt(seq, attempt) };
        let bound = match answer_to {
            AnswerTo::Call => Doubt::NoAnswer,
            AnswerTo::Question => Doubt::Duplicate,
        };
        let back = picked(&set.messages, |seq| doubt(seq) < bound);
        let doubtful = picked(&set.messages, |seq| doubt(seq) >= bound);
        // The call was not taken, so the question that it stood for is still to be asked.
        let counts = mutation::is_active(Mutation::PauseTakenForQuestions);
        let round = if counts { u8::MAX } else { self.round_of(&doubtful, attempt) };
        let unknown = (!doubtful.is_empty()).then(|| UnknownSet {
            messages: doubtful,
            round,
            reason: set.reason.clone(),
            inquire_at: (answer_to == AnswerTo::Call).then_some(set.until),
            duplicate_code: None,
            refusal: None,
            receipt_by: None,
        });
        ((!back.is_empty()).then_some(DeferredSet { messages: back, ..set }), unknown)
    }

    /// Whether another call was made for the attempt since the one whose answer was to be in by then.
    fn was_called_again(&self, seq: u32, attempt: u16, answer_by: Option<DateTime<Utc>>) -> bool {
        let newest_ms = self.answer_by_ms(seq, attempt).filter(|newest_ms| *newest_ms != 0);
        newest_ms.zip(answer_by).is_some_and(|(newest_ms, by)| newest_ms != by.timestamp_millis())
    }

    /// What an earlier call for this attempt left open.
    fn doubt(&self, seq: u32, number: u16) -> Doubt {
        let attempt = self.message(seq).and_then(|message| message.attempt(number));
        attempt.map_or(Doubt::None, |attempt| attempt.doubt)
    }

    fn is_handed_over(&self, seq: u32, relay: &RelayId, number: u16) -> bool {
        self.attempt_at(seq, relay, number).is_some_and(|state| state != AttemptState::Routed)
    }
}

/// The longer a message lives already, and as long as it lives still, the longer it waits: in days that is not a call a minute.
fn doubt_pause(made_at: Option<DateTime<Utc>>, expires_at: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
    let age = made_at.map_or(TimeDelta::zero(), |made_at| now - made_at);
    let part = age.min(expires_at - now) / DOUBT_PARTS;
    TimeDelta::seconds(part.num_seconds()).clamp(DOUBT_PAUSE, DOUBT_PAUSE_MAX)
}

/// A message is refused for now while an earlier call for it is in doubt: no word about that call, so it is as if this one had
/// been put off, and is asked about later.
fn defer_in_doubt(
    deferred: &mut Vec<DeferredSet>,
    one: &RefusedForNowMessage,
    answered_at: DateTime<Utc>,
    pause: TimeDelta,
) {
    let reason = format!("a repeated call was refused for now ({})", one.refused.code);
    let until = answered_at + one.retry_after.unwrap_or_default().max(pause);
    match deferred.iter_mut().find(|set| set.reason == reason && set.until == until) {
        Some(set) => set.messages.push(one.refused.seq),
        None => {
            deferred.push(DeferredSet { messages: std::iter::once(one.refused.seq).collect(), reason, until })
        }
    }
}

fn picked(messages: &SeqSet, keep: impl Fn(u32) -> bool) -> SeqSet {
    messages.iter().filter(|seq| keep(*seq)).collect()
}

/// One set a code and class; the relay's words are those of the first.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_doubt_is_not_called_once_a_minute_for_a_night() {
        let made_at = DateTime::<Utc>::UNIX_EPOCH;
        let expires_at = made_at + TimeDelta::hours(14);
        let (mut now, mut calls) = (made_at, 0);
        while now < expires_at {
            let pause = doubt_pause(Some(made_at), expires_at, now);
            assert!((DOUBT_PAUSE..=DOUBT_PAUSE_MAX).contains(&pause));
            now += pause;
            calls += 1;
        }
        assert!((100..200).contains(&calls), "{calls}");
        assert_eq!(doubt_pause(None, expires_at, made_at), DOUBT_PAUSE);
    }
}
