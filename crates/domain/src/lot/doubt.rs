//! An answer that did not come (law 4): when the relay is asked about it, what the relay's answer proves by then, and
//! what the refusal of a repeated call says about the call before it.
//!
//! A call without an answer may have been accepted, and it may still reach the relay for [`ON_ITS_WAY`] after the
//! caller gave up. Until that is known, no other relay gets the message.
//!
//! - The log counts the questions: a question belongs to a *round*, and from the third round on nothing that was
//!   handed over before is still on its way. Then "never came in" is believed, and so is a refusal.
//! - Until then, the refusal of a repeated call says nothing about the call before it. A refusal as a duplicate never
//!   does: the first call may have been accepted, or this may be the first answer once more.
//! - A question that is asked before its time proves no more than the question before it.
//!
//! Relay workers report facts: what was answered, to what, in which round, and how the relay can be asked. What
//! follows from them is decided here.

use chrono::{DateTime, TimeDelta, Utc};

use super::message::Doubt;
use super::respond::{AnswerTo, RefusedForNowMessage, RefusedMessage};
use super::state::NEVER_MS;
use super::{DeferredSet, Lot, Refusal, RefusedSet, RelayResponded, UnknownSet};
use crate::event::Event;
use crate::mutation::{self, Mutation};
use crate::relay::RelayProfile;
use crate::sending::MessageClass;
use crate::seq_set::SeqSet;
use crate::slug::RelayId;

/// How long after the caller gave up a call may still reach a relay.
pub const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(30);

/// Pauses before the first three questions. They are the same for all: what is believed rests on them.
const PAUSES: [TimeDelta; 3] = [TimeDelta::seconds(1), TimeDelta::seconds(5), TimeDelta::seconds(30)];
/// Pauses after those of [`urgent`]; the last one repeats.
const LATE_PAUSES: [TimeDelta; 3] = [TimeDelta::minutes(5), TimeDelta::minutes(30), TimeDelta::hours(1)];

/// From this round on nothing that was handed over before is still on its way, because the pause before it is that
/// long.
const LATE_ROUND: u8 = 3;

/// How long a message that is in doubt and refused for now waits at least for the next question, and at most,
const DOUBT_PAUSE: TimeDelta = TimeDelta::minutes(1);
const DOUBT_PAUSE_MAX: TimeDelta = TimeDelta::minutes(30);
/// and which part of its life.
const DOUBT_PARTS: i32 = 20;

/// How a relay can be asked about messages without an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asking {
    /// It answers status queries.
    pub answers_status: bool,
    /// It drops a message that is handed over again under the same reference.
    pub deduplicates: bool,
}

/// Who calls relays for what stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// This process, and nobody else.
    OnlyUs,
    /// Other processes, too.
    OthersToo,
}

impl Asking {
    /// As the relay's terms say.
    pub fn of(profile: &RelayProfile) -> Self {
        Self { answers_status: profile.answers_status, deduplicates: profile.deduplicates }
    }

    /// Whether it can be asked. If not, it is left alone: handing over again could deliver twice.
    pub fn can_ask(self) -> bool {
        mutation::bug!(UnknownNotAsked, return self.answers_status && self.deduplicates);
        self.answers_status || self.deduplicates
    }
}

/// A question that a relay is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) at: DateTime<Utc>,
    /// See [`UnknownSet::round`].
    pub(super) round: u8,
}

/// What follows if a relay says that it does not know a message that it was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// It never came in, and never will.
    NeverCame,
    /// The call may still reach it. The relay drops repeats, so the message is handed over again.
    HandOverAgain,
    /// The call may still reach it, so the relay is asked again.
    Unclear,
}

impl NotFound {
    /// In the answer to a question of this round.
    pub fn in_round(round: u8, asking: Asking) -> Self {
        if is_late(round) || mutation::is_active(Mutation::NotFoundBelievedAtOnce) {
            Self::NeverCame
        } else if asking.deduplicates {
            Self::HandOverAgain
        } else {
            Self::Unclear
        }
    }
}

/// Messages that may not be handed over again now, sorted by what follows for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotRepeated {
    /// See [`UnknownSet::round`].
    pub round: u8,
    /// They are asked about again.
    pub still_unknown: SeqSet,
    /// Their last repeat was refused, and by now that counts.
    pub refused: Vec<RefusedMessage>,
}

/// Whether everything that was handed over before this round has arrived by now, or never will. Then "never came in"
/// is believed, and so is a refusal.
pub(super) fn is_late(round: u8) -> bool {
    round >= LATE_ROUND
}

/// The question that follows a call or question of this round; 0: that follows the first call, or a restart. After a
/// call the next question waits long enough that the call cannot still be on its way in a round that assumes so.
pub(super) fn question_after(
    answer_to: AnswerTo,
    round: u8,
    class: MessageClass,
    now: DateTime<Utc>,
) -> Question {
    let pause = pause_after(round, class);
    let pause = match answer_to {
        AnswerTo::Nobody => return Question { at: now, round: 0 },
        AnswerTo::Call if round >= LATE_ROUND - 1 => pause.max(ON_ITS_WAY),
        AnswerTo::Call | AnswerTo::Question => pause,
    };
    Question { at: now + pause, round: round.saturating_add(1) }
}

fn pause_after(round: u8, class: MessageClass) -> TimeDelta {
    if let Some(pause) = PAUSES.get(usize::from(round)) {
        return *pause;
    }
    let late = round - LATE_ROUND;
    let (times, pause) = urgent(class);
    match late.checked_sub(times) {
        None => pause,
        Some(later) => LATE_PAUSES[usize::from(later).min(LATE_PAUSES.len() - 1)],
    }
}

/// After the third question, messages of a class are asked about this often, with this pause: for as long as they are
/// useful, and no longer. Many questions about a lot that nobody waits for any more would only fill the log.
fn urgent(class: MessageClass) -> (u8, TimeDelta) {
    match class {
        MessageClass::Otp => (30, TimeDelta::seconds(5)),
        MessageClass::Notice => (10, TimeDelta::seconds(30)),
        MessageClass::Ad => (0, TimeDelta::zero()),
    }
}

/// The round of a question that is asked before its time: the one before. A relay that drops repeats may have been
/// called again since, so nothing is believed of it that a third question would prove.
fn before_its_time(round: u8, asking: Asking) -> u8 {
    let before = round.saturating_sub(1);
    if asking.deduplicates { before.min(LATE_ROUND - 1) } else { before }
}

impl Lot {
    /// What an earlier call for this attempt left open.
    pub(super) fn doubt(&self, seq: u32, number: u16) -> Doubt {
        let attempt = self.message(seq).and_then(|message| message.attempt(number));
        attempt.map_or(Doubt::None, |attempt| attempt.doubt)
    }

    /// Of the messages that were handed over and have no answer, those whose answer can no longer come. If other
    /// processes call, too, each has the time that its intent gives; if no other process does, the earlier caller is
    /// gone.
    pub fn without_answer(
        &self,
        submitted: SeqSet,
        attempt: u16,
        callers: Callers,
        now: DateTime<Utc>,
    ) -> SeqSet {
        if callers == Callers::OnlyUs || mutation::is_active(Mutation::UnansweredTooEarly) {
            return submitted;
        }
        let now_ms = now.timestamp_millis();
        let is_over = |seq: &u32| self.answer_by_ms(*seq, attempt).is_some_and(|by_ms| by_ms < now_ms);
        submitted.iter().filter(is_over).collect()
    }

    /// Unknown messages that may not be handed over again now: the relay is asked about them, or the refusal of the
    /// last repeat counts once nothing can arrive any more. For all others there is nothing to do, and the log says
    /// so by now.
    pub fn not_repeated(&self, messages: SeqSet, attempt: u16, asking: Asking) -> NotRepeated {
        let round = self.round_of(&messages, attempt);
        if asking.answers_status {
            return NotRepeated { round, still_unknown: messages, refused: Vec::new() };
        }
        let refused = |seq: u32| {
            let Refusal { code, class, text } = self.refusal_of(seq, attempt)?.clone();
            Some(RefusedMessage { seq, code, class, text })
        };
        let refused: Vec<RefusedMessage> = messages.iter().filter_map(refused).collect();
        if is_late(round) {
            return NotRepeated { round, still_unknown: SeqSet::default(), refused };
        }
        let still_unknown = refused.iter().map(|one| one.seq).collect();
        NotRepeated { round, still_unknown, refused: Vec::new() }
    }

    /// The round of a question about these messages that is asked before its time.
    pub fn round_before_its_time(&self, messages: &SeqSet, attempt: u16, asking: Asking) -> u8 {
        before_its_time(self.round_of(messages, attempt), asking)
    }

    /// Whether a relay that is back after a silence may be asked about the message before its time. Not if it is held
    /// for the night, and not if it is never asked about.
    pub fn may_be_hastened(&self, seq: u32, now: DateTime<Utc>) -> bool {
        let newest = self.message(seq).and_then(|message| message.attempts.last());
        newest.is_some_and(|attempt| attempt.not_before_ms != NEVER_MS)
            && self.held_until_ms(seq) <= now.timestamp_millis()
    }

    /// The refusal of the newest repeat of this attempt, if it does not count yet.
    pub(super) fn refusal_of(&self, seq: u32, attempt: u16) -> Option<&Refusal> {
        let is_it = |known: &&(u32, u16, Refusal)| (known.0, known.1) == (seq, attempt);
        self.refusals.iter().find(is_it).map(|(_, _, refusal)| refusal)
    }

    /// See [`UnknownSet::round`](super::UnknownSet::round): the lowest round among these messages' attempts.
    pub fn round_of(&self, messages: &SeqSet, attempt: u16) -> u8 {
        let round = |seq: u32| Some(self.message(seq)?.attempt(attempt)?.round);
        messages.iter().filter_map(round).min().unwrap_or(0)
    }

    /// The messages that were asked about least, and the others.
    pub fn asked_about_least(&self, messages: SeqSet, attempt: u16) -> (SeqSet, SeqSet) {
        let least = self.round_of(&messages, attempt);
        let round = |seq: u32| self.message(seq)?.attempt(attempt).map(|attempt| attempt.round);
        let (mut those, mut others) = (SeqSet::default(), SeqSet::default());
        for seq in &messages {
            if round(seq).unwrap_or(least) == least { those.push(seq) } else { others.push(seq) }
        }
        (those, others)
    }

    /// The messages that are back where they were before the call, and those that stay unknown because an earlier
    /// call may have been accepted. If a relay has refused a message as a duplicate, it is not believed when it says
    /// that it never had it.
    pub(super) fn cut_deferred(
        &self,
        set: DeferredSet,
        attempt: u16,
        answer_to: AnswerTo,
    ) -> (Option<DeferredSet>, Option<UnknownSet>) {
        let bound = match answer_to {
            AnswerTo::Call | AnswerTo::Nobody => Doubt::NoAnswer,
            AnswerTo::Question => Doubt::Duplicate,
        };
        let is_doubtful = |seq: &u32| {
            self.doubt(*seq, attempt) >= bound && !mutation::is_active(Mutation::DoubtForgottenOnDeferral)
        };
        let (doubtful, back): (Vec<u32>, Vec<u32>) = set.messages.iter().partition(is_doubtful);
        let (doubtful, back) = (SeqSet::from_iter(doubtful), SeqSet::from_iter(back));
        // The call was not taken, so the question that it stood for is still to be asked.
        let round = self.round_of(&doubtful, attempt);
        mutation::bug!(PauseTakenForQuestions, let round = u8::MAX);
        let unknown = (!doubtful.is_empty()).then(|| UnknownSet {
            inquire_at: (answer_to != AnswerTo::Question).then_some(set.until),
            round,
            ..not_known(doubtful, set.reason.clone())
        });
        ((!back.is_empty()).then_some(DeferredSet { messages: back, ..set }), unknown)
    }
}

/// Messages for which it is not known whether the relay has them, and about which the relay is not asked.
pub(super) fn not_known(messages: SeqSet, reason: String) -> UnknownSet {
    UnknownSet {
        messages,
        reason,
        inquire_at: None,
        round: 0,
        duplicate_code: None,
        refusal: None,
        receipt_by: None,
    }
}

/// The same, with the next question about them; none: the relay cannot be asked.
pub(super) fn asked_about(unknown: UnknownSet, question: Option<Question>) -> UnknownSet {
    UnknownSet {
        inquire_at: question.map(|question| question.at),
        round: question.map_or(0, |question| question.round),
        ..unknown
    }
}

/// That it is not known of an attempt, and nothing else.
pub(super) fn unknown_at(relay: RelayId, attempt: u16, unknown: UnknownSet) -> Event {
    RelayResponded { unknown: Some(unknown), ..RelayResponded::nothing(relay, attempt) }.into()
}

/// A repeated call was refused as a duplicate. If the relay can only be handed the message again, no question is
/// asked, because the answer would be the same.
pub(super) fn refused_as_duplicate(
    set: RefusedSet,
    question: Option<Question>,
    asking: Asking,
) -> UnknownSet {
    let reason = set.text.unwrap_or_else(|| "a repeated call was refused as a duplicate".to_owned());
    let unknown = asked_about(not_known(set.messages, reason), question.filter(|_| asking.answers_status));
    UnknownSet { duplicate_code: Some(set.code), ..unknown }
}

/// A repeated call was refused, and an earlier one may still come in.
pub(super) fn refused_too_early(set: RefusedSet, question: Option<Question>) -> UnknownSet {
    let reason = "a repeated call was refused, and an earlier one may still be on its way".to_owned();
    let unknown = asked_about(not_known(set.messages, reason), question);
    UnknownSet { refusal: Some(Refusal { code: set.code, class: set.class, text: set.text }), ..unknown }
}

/// A message is refused for now while an earlier call for it is in doubt. That says nothing about the earlier call,
/// so it counts as if this call had been postponed, and is asked about later.
pub(super) fn defer_in_doubt(
    deferred: &mut Vec<DeferredSet>,
    one: &RefusedForNowMessage,
    answered_at: DateTime<Utc>,
    life: (Option<DateTime<Utc>>, DateTime<Utc>),
) {
    let reason = format!("a repeated call was refused for now ({})", one.refused.code);
    let pause = doubt_pause(life.0, life.1, answered_at);
    let until = answered_at + one.retry_after.unwrap_or_default().max(pause);
    match deferred.iter_mut().find(|set| set.reason == reason && set.until == until) {
        Some(set) => set.messages.push(one.refused.seq),
        None => {
            deferred.push(DeferredSet { messages: std::iter::once(one.refused.seq).collect(), reason, until })
        }
    }
}

/// The longer a message has lived, and the longer it still lives, the longer it waits. Over days that is not a call
/// every minute.
fn doubt_pause(made_at: Option<DateTime<Utc>>, expires_at: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
    let age = made_at.map_or(TimeDelta::zero(), |made_at| now - made_at);
    let part = age.min(expires_at - now) / DOUBT_PARTS;
    TimeDelta::seconds(part.num_seconds()).clamp(DOUBT_PAUSE, DOUBT_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use AnswerTo::{Call, Question as Asked};
    use MessageClass::{Ad, Notice, Otp};

    fn seconds(answer_to: AnswerTo, class: MessageClass, rounds: &[u8]) -> Vec<i64> {
        let now = DateTime::UNIX_EPOCH;
        let pause = |round: &u8| (question_after(answer_to, *round, class, now).at - now).num_seconds();
        rounds.iter().map(pause).collect()
    }

    #[test]
    fn the_third_question_is_late_and_the_pauses_up_to_it_are_the_same_for_all() {
        for class in [Otp, Notice, Ad] {
            assert_eq!(seconds(Call, class, &[0, 1, 2]), [1, 5, 30]);
            assert_eq!(seconds(Asked, class, &[0, 1, 2]), [1, 5, 30]);
        }
        let round = |round| question_after(Call, round, Otp, DateTime::UNIX_EPOCH).round;
        assert_eq!([0, 1, 2, 254, 255].map(round), [1, 2, 3, 255, 255]);
        assert_eq!([1, 2, 3, 255].map(is_late), [false, false, true, true]);
        assert!(PAUSES[2] >= ON_ITS_WAY);
    }

    #[test]
    fn later_ones_follow_what_the_message_is_worth() {
        assert_eq!(seconds(Asked, Otp, &[3, 4, 32, 33, 34, 35, 255]), [5, 5, 5, 300, 1_800, 3_600, 3_600]);
        assert_eq!(seconds(Asked, Notice, &[3, 12, 13, 14, 15]), [30, 30, 300, 1_800, 3_600]);
        assert_eq!(seconds(Asked, Ad, &[3, 4, 5, 255]), [300, 1_800, 3_600, 3_600]);
    }

    #[test]
    fn after_a_repeated_call_it_is_waited_until_that_one_has_come_in() {
        assert_eq!(seconds(Call, Otp, &[2, 3, 4, 33]), [30, 30, 30, 300]);
    }

    #[test]
    fn where_nobody_lived_to_record_an_answer_it_is_asked_at_once_and_counted_from_the_beginning() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(question_after(AnswerTo::Nobody, 7, Otp, now), Question { at: now, round: 0 });
    }

    #[test]
    fn a_question_before_its_time_counts_as_the_one_before() {
        let asking = |deduplicates| Asking { answers_status: true, deduplicates };
        let rounds = [0, 1, 2, 3, 4, 9];
        assert_eq!(rounds.map(|round| before_its_time(round, asking(false))), [0, 0, 1, 2, 3, 8]);
        assert_eq!(rounds.map(|round| before_its_time(round, asking(true))), [0, 0, 1, 2, 2, 2]);
    }

    #[test]
    fn that_a_relay_knows_nothing_is_believed_from_the_third_question_on() {
        let [only_asked, both] =
            [false, true].map(|deduplicates| Asking { answers_status: true, deduplicates });
        let of = |asking| [0, 1, 2, 3, 9].map(|round| NotFound::in_round(round, asking));
        use NotFound::{HandOverAgain, NeverCame, Unclear};
        assert_eq!(of(only_asked), [Unclear, Unclear, Unclear, NeverCame, NeverCame]);
        assert_eq!(of(both), [HandOverAgain, HandOverAgain, HandOverAgain, NeverCame, NeverCame]);
    }

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
