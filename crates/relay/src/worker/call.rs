//! The hand-over: the intent, the call, and the relay's answer.

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::event_store::AppendError;
use kite_commands::journal::JournalError;
use kite_commands::{LotsError, Step, WorkerError, describe};
use kite_domain::breaker::Observation;
use kite_domain::failure::FailureClass;
use kite_domain::ids::LotId;
use kite_domain::lot::{
    AcceptedMessage, AnswerTo, AttemptState, CONNECTION_LOST, DeferredSet, NotRepeated, RefusedForNowMessage,
    RefusedMessage,
};
use kite_domain::mutation::{self, Mutation};
use kite_domain::seq_set::SeqSet;
use smol_str::SmolStr;

use super::active_relay::Held;
use super::answer::{Answered, Place};
use super::intent::{LotWork, Planned, Room, answer_by, by_lot, class_of, plan};
use super::refusals::CallRefusals;
use super::{ActiveRelay, LOG_PAUSE, RelayWorker};
use crate::call_trace::{TracedCall, Traces};
use crate::client::{MessageAnswer, NotTaken, OutgoingMessage, SubmitAnswer};
use crate::handover_time::HANDOVER_LEAD;
use crate::metrics;
use crate::queue::{Job, JobKind};

/// Where an outgoing message comes from.
#[derive(Debug, Clone, Copy)]
struct Origin {
    place: Place,
    seq: u32,
    round: u8,
}

/// Messages to call the relay with.
struct Call {
    messages: Vec<OutgoingMessage>,
    origins: Vec<Origin>,
    /// What it is made for.
    traces: Traces,
    /// Whether the relay may have had them before.
    are_repeats: bool,
}

/// What a call says about the relay.
#[derive(Default)]
struct CallTally {
    worked: u32,
    faulted: u32,
    without_answer: u32,
    /// Turned away because they were too many.
    too_many: u32,
    /// The call did not reach them, or ended at them: they say nothing about the relay.
    not_tried: u32,
    /// Refused for now, for a reason of their own: the relay has answered, whatever the code means. If the relay
    /// itself is in trouble they say nothing.
    for_now: u32,
    /// Repeats refused for a fault of the relay. The relay may answer from memory: it has answered, and nothing more
    /// is known.
    remembered: u32,
}

impl CallTally {
    /// A rate limit that the relay enforces as agreed is no evidence against it. For the breaker, a relay that is out
    /// of service, or does not accept our key, has not answered.
    fn observation(&self) -> Option<Observation> {
        if self.worked + self.faulted + self.remembered > 0 {
            return Some(Observation::Answered {
                worked: self.worked,
                faulted: self.faulted + self.without_answer,
            });
        }
        (self.without_answer > 0).then_some(Observation::NoAnswer { messages: self.without_answer })
    }
}

impl RelayWorker {
    /// Hands over those messages of the jobs that are in `state`, at most `room` of them.
    pub(super) async fn hand_over(
        &mut self,
        jobs: Vec<Job>,
        held: Held,
        state: AttemptState,
        room: u32,
    ) -> Result<Step, WorkerError> {
        self.hand_over_beside(jobs, Answered::new(held), state, room).await
    }

    /// Like [`RelayWorker::hand_over`], with answers that are there already.
    pub(super) async fn hand_over_beside(
        &mut self,
        jobs: Vec<Job>,
        mut answered: Answered,
        state: AttemptState,
        room: u32,
    ) -> Result<Step, WorkerError> {
        let active = self.active.clone();
        let works = by_lot(jobs);
        let class = class_of(&works);
        let refusals = CallRefusals::look_up(&active, &works, class).await;
        let ids: Vec<LotId> = works.iter().map(|work| work.lot).collect();
        let granted = room;
        mutation::bug!(IntentAfterCall, self.call_before_intent(&works, &refusals, state).await);
        // What was waited for until here is no part of the time that the intent has.
        let now = active.now();
        let mut room = Room::new(granted, works.len(), active.pace.turn(now));
        let plans = active
            .parts
            .lots
            .change(&ids, &active.actor, |place, lot, sending| {
                let refusals = refusals.now(&active, lot);
                plan(
                    &active,
                    lot,
                    sending,
                    (place, &works[place]),
                    state,
                    (&mut room, refusals.as_deref()),
                    now,
                )
            })
            .await;
        let are_repeats = state == AttemptState::Unknown;
        let traces = Traces::default();
        let mut call = Call { messages: Vec::new(), origins: Vec::new(), traces, are_repeats };
        for (work, planned) in works.into_iter().zip(plans) {
            match planned {
                Ok(planned) => {
                    prepare(&active, work.lot, planned, &mut answered, &mut call, now);
                }
                Err(error) => answered.rest.extend(after_failed_intent(work, error, now)?),
            }
        }
        active.breaker.give_back(granted.saturating_sub(call.messages.len() as u32));
        // Meanwhile its shares may have gone to others.
        let is_late = (active.now() > now + HANDOVER_LEAD || active.shares.portion(active.now()).held == 0)
            && !mutation::is_active(Mutation::CallAfterItsTime);
        if is_late && !call.messages.is_empty() {
            let_be(&active, &call, &mut answered);
        } else if let Some(first) = call.messages.first().map(|message| message.reference) {
            metrics::submitted(active.relay(), class, call.messages.len());
            let began = active.now();
            let phase_number = active.breaker.phase_number(began);
            let (count, at_ms) = (call.messages.len(), began.timestamp_millis());
            let traced = TracedCall::submit(active.relay(), count, &call.traces, first, at_ms);
            let answer = traced.make(active.client.submit(&call.messages)).await;
            let ended = active.now();
            active.catch_up().await;
            metrics::call(active.relay(), "submit", began, ended);
            let tally = note_answers(&active, &call, answer, &mut answered, ended - began, ended);
            if let Some(observation) = tally.observation() {
                active.breaker.observe(observation, phase_number, ended);
            }
        }
        self.record(answered).await
    }
}

/// Composes the messages of a lot. One that cannot be composed is refused without a call.
fn prepare(
    active: &ActiveRelay,
    lot: LotId,
    planned: Planned,
    answered: &mut Answered,
    call: &mut Call,
    now: DateTime<Utc>,
) {
    answered.rest.extend(planned.later);
    if planned.is_stale {
        answered.stale.push(lot);
    }
    for (attempt, NotRepeated { round, still_unknown, refused }) in planned.not_repeated {
        if !still_unknown.is_empty() {
            let place = answered.place(lot, attempt, AnswerTo::Question);
            answered.unknown(active, place, round, &still_unknown, "not handed over again now", now);
        }
        for one in refused {
            let place = answered.place(lot, attempt, AnswerTo::Question);
            answered.refused(active, place, round, one, now);
        }
    }
    let writer = active.texts.of(&planned.terms);
    let mut buffer = String::new();
    for going in planned.going {
        let place = answered.place(lot, going.attempt, AnswerTo::Call);
        answered.note(place).answer_by = Some(answer_by(active, now));
        call.traces.note(lot.sending, planned.traceparent);
        call.messages.reserve(going.messages.len());
        call.origins.reserve(going.messages.len());
        for (seq, channel, recipient) in going.messages {
            let Some(recipient) = planned.recipients.get(recipient) else { continue };
            match writer.write(seq, going.attempt, channel, recipient, &mut buffer) {
                Ok(message) => {
                    let was_put_off = going.put_off.contains(seq);
                    call.messages.push(OutgoingMessage { was_put_off, ..message });
                    call.origins.push(Origin { place, seq, round: going.round });
                }
                Err(unwritable) => {
                    let code = SmolStr::new_static(unwritable.code());
                    let text = Some(describe(&unwritable));
                    let refused = RefusedMessage { seq, code, class: FailureClass::Content, text };
                    answered.refused(active, place, going.round, refused, now);
                }
            }
        }
    }
}

/// It took so long to write the intent that its time is over, or nearly: the relay is not called, and the messages
/// are where they were before. By now another process may treat them as unanswered, and what may be sent depends on
/// the time.
fn let_be(active: &ActiveRelay, call: &Call, answered: &mut Answered) {
    let now = active.now();
    tracing::warn!(relay = %active.relay(), messages = call.messages.len(), "the time of a call was over before it was made");
    metrics::late_call(active.relay());
    active.breaker.give_back(call.messages.len() as u32);
    // A log that is slow is not helped by more appends at once.
    let until = now + LOG_PAUSE;
    for origin in &call.origins {
        defer(answered, origin.place, origin.seq, "not called: the time of the call was over", until);
    }
}

/// What happens to a lot's jobs when its intent could not be written.
fn after_failed_intent(work: LotWork, error: LotsError, now: DateTime<Utc>) -> Result<Vec<Job>, WorkerError> {
    // If the intent may be in the log after all, the lot must be looked at as one without an answer.
    let is_in_doubt = matches!(error, LotsError::Journal(JournalError::Append(AppendError::AnswerLost)));
    let is_nowhere = matches!(error, LotsError::NotFound(_));
    let failure = match WorkerError::from(error) {
        fatal @ WorkerError::Fatal(_) => return Err(fatal),
        WorkerError::Retry(failure) => describe(&*failure),
    };
    tracing::warn!(lot = %work.lot, failure, "an intent could not be written");
    if is_nowhere {
        return Ok(Vec::new());
    }
    let not_before_ms = (now + LOG_PAUSE).timestamp_millis();
    let again = |job: Job| {
        let kind = if is_in_doubt { JobKind::Unanswered } else { job.kind };
        Job { kind, not_before_ms, ..job }
    };
    Ok(work.jobs.into_iter().map(again).collect())
}

/// Records every message's answer, and returns what the call says about the relay.
fn note_answers(
    active: &ActiveRelay,
    call: &Call,
    answer: SubmitAnswer,
    answered: &mut Answered,
    took: TimeDelta,
    now: DateTime<Utc>,
) -> CallTally {
    let call_ms = u32::try_from(took.num_milliseconds()).unwrap_or(0);
    let retry_after = answer.retry_after.and_then(|pause| TimeDelta::from_std(pause).ok());
    let until = |why| now + retry_after.unwrap_or_else(|| pause_of(active, why));
    let trouble = answer.messages.iter().rev().find_map(|message| match message {
        MessageAnswer::NotTaken { why, .. } => Some(*why),
        _ => None,
    });
    mutation::bug!(LostAnswerTakenAsRefused, let answer = super::mutations::lost_taken_as_refused(answer));
    mutation::bug!(OneAnswerForAll, let answer = super::mutations::one_for_all(answer));
    let mut tally = CallTally::default();
    for (origin, message) in call.origins.iter().zip(answer.messages) {
        let seq = origin.seq;
        answered.note(origin.place).call_ms = Some(call_ms);
        match message {
            MessageAnswer::Accepted { relay_reference, duplicate: _ } => {
                tally.worked += 1;
                let note = answered.note(origin.place);
                note.accepted_is_final = active.accepted_is_final();
                note.accepted.push(AcceptedMessage { seq, relay_reference });
            }
            MessageAnswer::Refused { code, general_code, text } => {
                let class = active.class_of(&code, general_code.as_deref());
                match class.is_relay_fault() {
                    true if call.are_repeats => tally.remembered += 1,
                    true => tally.faulted += 1,
                    false => tally.worked += 1,
                }
                let refused = RefusedMessage { seq, code, class, text };
                answered.refused(active, origin.place, origin.round, refused, now);
            }
            MessageAnswer::RefusedForNow { code, general_code, text, retry_after } => {
                let class = active.class_of(&code, general_code.as_deref());
                // That a connection ended proves nothing, neither for the relay nor against it.
                match code == CONNECTION_LOST {
                    true => tally.not_tried += 1,
                    false => tally.for_now += 1,
                }
                let retry_after = retry_after.and_then(|pause| TimeDelta::from_std(pause).ok());
                let refused = RefusedMessage { seq, code, class, text };
                let refused = RefusedForNowMessage { refused, retry_after };
                let note = answered.note(origin.place);
                note.answered_at = Some(now);
                note.refused_for_now.push(refused);
            }
            MessageAnswer::NotTried => {
                tally.not_tried += 1;
                let until = until(trouble.unwrap_or(NotTaken::NoConnection));
                defer(answered, origin.place, seq, not_tried(trouble), until);
            }
            MessageAnswer::Unknown { reason } => {
                tally.without_answer += 1;
                let one: SeqSet = std::iter::once(seq).collect();
                answered.unknown(active, origin.place, origin.round, &one, &reason, now);
            }
            MessageAnswer::NotTaken { why, reason } => {
                let until = until(why);
                match why {
                    NotTaken::RateLimited => tally.too_many += 1,
                    NotTaken::OutOfService => {
                        tally.without_answer += 1;
                        active.pace.pause_until(until);
                    }
                    NotTaken::NoConnection | NotTaken::Unauthorised => tally.without_answer += 1,
                }
                defer(answered, origin.place, seq, &reason, until);
            }
        }
    }
    let mut unused = tally.too_many + tally.not_tried + tally.remembered;
    match trouble {
        None => tally.worked += tally.for_now,
        Some(_) => unused += tally.for_now,
    }
    active.breaker.give_back(unused);
    if tally.worked + tally.faulted + tally.remembered > 0 {
        active.pace.took();
    }
    if tally.too_many > 0 {
        active.pace.slow_down(now, until(NotTaken::RateLimited));
    }
    tally
}

/// The message was certainly not accepted: it is back where it was before the call, and is handed over again from
/// then on.
pub(super) fn defer(answered: &mut Answered, place: Place, seq: u32, reason: &str, until: DateTime<Utc>) {
    let sets = &mut answered.note(place).deferred;
    match sets.iter_mut().find(|set| set.reason == reason) {
        Some(set) => {
            set.messages.push(seq);
            set.until = set.until.max(until);
        }
        None => sets.push(DeferredSet {
            messages: std::iter::once(seq).collect(),
            reason: reason.to_owned(),
            until,
        }),
    }
}

/// What is recorded for a message that the call did not reach. It contains nothing of what the relay said to others.
fn not_tried(trouble: Option<NotTaken>) -> &'static str {
    match trouble {
        Some(NotTaken::NoConnection) => "not tried: there was no connection",
        Some(NotTaken::RateLimited) => "not tried: the relay takes no more for now",
        Some(NotTaken::OutOfService) => "not tried: the relay is out of service",
        Some(NotTaken::Unauthorised) => "not tried: the relay does not know us",
        None => "not tried: the call had ended",
    }
}

fn pause_of(active: &ActiveRelay, why: NotTaken) -> TimeDelta {
    let settings = &active.parts.settings;
    TimeDelta::milliseconds(i64::from(match why {
        NotTaken::RateLimited | NotTaken::OutOfService => settings.pause_ms,
        NotTaken::NoConnection | NotTaken::Unauthorised => settings.no_connection_ms,
    }))
}
