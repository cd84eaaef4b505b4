//! Messages without an answer (law 4): asked about, handed over again under the same reference, or left to their
//! receipt and deadline.
//!
//! - A relay that answers status queries is asked. A message that it still does not know at the third question was
//!   not accepted, because the lost call cannot still be in progress by then: it counts as never handed over. Before
//!   that it is handed over again only if the relay drops repeats.
//! - A relay that only drops repeats is handed the message again, until it accepts it or refuses it as a duplicate.
//! - Any other refusal of a repeat counts from the third question on, too: before that the call before it may still
//!   come in.
//! - A relay that is back after a silence is asked at once (`hasten.rs`), which proves no more than the question
//!   before.
//! - Any other relay is left alone: it cannot be asked, and handing over again could deliver twice.

use chrono::{DateTime, Utc};
use kite_commands::lots::SealedSending;
use kite_commands::{Step, TraceParent, WorkerError};
use kite_domain::breaker::{Observation, Permit};
use kite_domain::ids::{AttemptReference, LotId, MessageId};
use kite_domain::lot::{
    AcceptedMessage, AnswerTo, AttemptState, Callers, Lot, NoAnswer, NotFound, RefusedMessage, ResponseNote,
};
use kite_domain::seq_set::SeqSet;

use super::active_relay::Held;
use super::answer::Answered;
use super::call::defer;
use super::hasten::{self, Looked, Round, look};
use super::intent::{by_lot, still};
use super::{Gate, PROBE_PAUSE, RelayWorker};
use crate::call_trace::{TracedCall, Traces};
use crate::client::{CallFailed, RateLimit, Standing};
use crate::metrics;
use crate::queue::{Job, Lease};

/// A job whose messages are still unknown, and due to be asked about.
struct Due {
    job: Job,
    round: Round,
    /// If it is early, and the relay says nothing.
    later: Vec<Job>,
    /// The trace that its sending was accepted in.
    traceparent: Option<TraceParent>,
}

impl RelayWorker {
    /// Asks about messages whose outcome is unknown.
    pub(super) async fn inquire(
        &mut self,
        lease: Lease,
        held: Held,
        now: DateTime<Utc>,
    ) -> Result<Step, WorkerError> {
        let mut answered = Answered::new(held);
        let jobs = self.still_unknown(lease.jobs, &mut answered, now).await?;
        if jobs.is_empty() || !self.active.asking().can_ask() {
            return self.record(answered).await;
        }
        let again = match self.active.profile.answers_status {
            true => self.ask(jobs, &mut answered, now).await,
            false => jobs.into_iter().map(|due| due.job).collect(),
        };
        if again.is_empty() {
            return self.record(answered).await;
        }
        // Asking took its time, and what may go out depends on the time, and on how the relay stands by now.
        let now = self.active.now();
        if !matches!(self.gate(now).await, Ok(Gate::Open { .. })) {
            let not_before_ms = (now + PROBE_PAUSE).timestamp_millis();
            answered.rest.extend(again.into_iter().map(|job| Job { not_before_ms, ..job }));
            return self.record(answered).await;
        }
        let wanted = again.iter().map(|job| job.messages.len()).sum::<usize>() as u32;
        let room = match self.active.breaker.permit(wanted, now) {
            Permit::All => wanted,
            Permit::Probes(probes) => probes,
            Permit::NotBefore(_) | Permit::ProbesOnTheirWay(_) => {
                let not_before_ms = (now + PROBE_PAUSE).timestamp_millis();
                answered.rest.extend(again.into_iter().map(|job| Job { not_before_ms, ..job }));
                return self.record(answered).await;
            }
        };
        self.hand_over_beside(again, answered, AttemptState::Unknown, room).await
    }

    /// The intent is in the log without an answer, and nobody is waiting for one: from now on the outcome is unknown.
    pub(super) async fn admit_unanswered(
        &mut self,
        lease: Lease,
        held: Held,
        now: DateTime<Utc>,
    ) -> Result<Step, WorkerError> {
        let active = self.active.clone();
        let works = by_lot(lease.jobs);
        let ids: Vec<LotId> = works.iter().map(|work| work.lot).collect();
        let snapshot = active.parts.directory.snapshot();
        let is_shared = active.parts.lots.journal().is_shared();
        let callers = if is_shared { Callers::OthersToo } else { Callers::OnlyUs };
        let results = active
            .parts
            .lots
            .change(&ids, &active.actor, |place, lot, sending| {
                let context = snapshot.routing_context(&sending.terms, now);
                let mut events = Vec::new();
                for job in &works[place].jobs {
                    let submitted = still(lot, active.relay(), job, AttemptState::Submitted);
                    let unknown = NoAnswer {
                        messages: lot.without_answer(submitted, job.attempt, callers, now),
                        reason: "whoever called did not live to record the answer".to_owned(),
                    };
                    let note = ResponseNote {
                        unknown: Some(unknown),
                        answer_to: AnswerTo::Nobody,
                        answered_at: Some(now),
                        asking: active.asking(),
                        ..ResponseNote::default()
                    };
                    events.extend(lot.respond(&sending.terms, active.relay(), job.attempt, note, &context));
                }
                (events, ())
            })
            .await;
        // A dropped lease comes back as it is.
        results.into_iter().collect::<Result<(), _>>()?;
        let mut answered = Answered::new(held);
        answered.stale = ids;
        self.record(answered).await
    }

    /// What is to be asked about now. A job may be older than the last question, and the log says when the next is due.
    async fn still_unknown(
        &self,
        jobs: Vec<Job>,
        answered: &mut Answered,
        now: DateTime<Utc>,
    ) -> Result<Vec<Due>, WorkerError> {
        let mut unknown = Vec::with_capacity(jobs.len());
        for job in jobs {
            let look = |lot: &Lot, sending: &SealedSending| {
                let waiting = still(lot, self.active.relay(), &job, AttemptState::Unknown);
                (look(lot, waiting, &job, self.active.asking(), now), sending.traceparent)
            };
            let looked = self.active.parts.lots.read(job.lot, look).await;
            let (looked, traceparent) = looked.map_err(WorkerError::from)?;
            let Looked { candidates: messages, round, mut later, is_stale } = looked;
            if is_stale {
                answered.stale.push(job.lot);
            }
            if round.is_in_time() {
                answered.rest.append(&mut later);
            }
            if !messages.is_empty() {
                unknown.push(Due { job: Job { messages, ..job }, round, later, traceparent });
            }
        }
        Ok(unknown)
    }

    /// Asks the relay. Records what it knows, and returns what has to be handed over again.
    async fn ask(&self, jobs: Vec<Due>, answered: &mut Answered, now: DateTime<Utc>) -> Vec<Job> {
        let active = &self.active;
        let reference = |job: &Job, seq| AttemptReference {
            message: MessageId { sending: job.lot.sending, seq },
            attempt: job.attempt,
        };
        let of_job =
            |Due { job, .. }: &Due| job.messages.iter().map(|seq| reference(job, seq)).collect::<Vec<_>>();
        let references: Vec<AttemptReference> = jobs.iter().flat_map(of_job).collect();
        let began = active.now();
        let phase_number = active.breaker.phase_number(began);
        let asked = active.client.status(&references, now);
        let standings = match references.first() {
            Some(first) => {
                let mut traces = Traces::default();
                jobs.iter().for_each(|due| traces.note(due.job.lot.sending, due.traceparent));
                let at_ms = began.timestamp_millis();
                TracedCall::status(active.relay(), references.len(), &traces, *first, at_ms).make(asked).await
            }
            None => asked.await,
        };
        let now = active.now();
        active.catch_up().await;
        metrics::call(active.relay(), "status", began, now);
        let standings = match standings {
            Ok(standings) => standings,
            Err(failed) => {
                self.note_failed_question(&failed, phase_number, now);
                for Due { job, round, later, .. } in jobs {
                    let Round::InTime(round) = round else {
                        answered.rest.extend(later);
                        continue;
                    };
                    let place = answered.place(job.lot, job.attempt, AnswerTo::Question);
                    answered.unknown(active, place, round, &job.messages, &failed.reason, now);
                }
                return Vec::new();
            }
        };
        active.breaker.observe(Observation::Answered { worked: 0, faulted: 0 }, phase_number, now);
        let mut standings = standings.into_iter();
        let mut again = Vec::new();
        for due in jobs {
            let of_job: Vec<Standing> = standings.by_ref().take(due.job.messages.len()).collect();
            again.extend(self.note_standings(due, of_job, answered, now));
        }
        again
    }

    /// Records what the relay knows about a job's messages. Returns the part of it that has to be handed over again.
    fn note_standings(
        &self,
        Due { job, round, later, .. }: Due,
        standings: Vec<Standing>,
        answered: &mut Answered,
        now: DateTime<Utc>,
    ) -> Option<Job> {
        let active = &self.active;
        let number = round.number();
        let not_found = NotFound::in_round(number, active.asking());
        let place = answered.place(job.lot, job.attempt, AnswerTo::Question);
        let mut unclear = SeqSet::default();
        let mut again = SeqSet::default();
        let standings = standings.into_iter().chain(std::iter::repeat(Standing::Unclear));
        for (seq, standing) in job.messages.iter().zip(standings) {
            match standing {
                Standing::Accepted { relay_reference } => {
                    let note = answered.note(place);
                    note.accepted_is_final = active.accepted_is_final();
                    note.accepted.push(AcceptedMessage { seq, relay_reference });
                }
                Standing::Over(receipt) => {
                    let relay_reference = receipt.relay_reference.clone();
                    answered.note(place).accepted.push(AcceptedMessage { seq, relay_reference });
                    answered.receipts.push(receipt);
                }
                Standing::Refused { code } => {
                    let class = active.class_of(&code, None);
                    let refused = RefusedMessage { seq, code, class, text: None };
                    answered.refused(active, place, number, refused, now);
                }
                Standing::NotFound => match not_found {
                    NotFound::NeverCame => defer(answered, place, seq, "the relay never had it", now),
                    NotFound::HandOverAgain => again.push(seq),
                    NotFound::Unclear => unclear.push(seq),
                },
                Standing::Unclear => unclear.push(seq),
            }
        }
        if !unclear.is_empty() {
            match round {
                Round::InTime(round) => {
                    answered.unknown(active, place, round, &unclear, "the status query tells nothing", now);
                }
                Round::Early(_) => answered.rest.extend(hasten::of(&later, &unclear)),
            }
        }
        if again.is_empty() { None } else { Some(Job { messages: again, ..job }) }
    }

    fn note_failed_question(&self, failed: &CallFailed, phase_number: u64, now: DateTime<Utc>) {
        if let Some(pause) = failed.retry_after.and_then(|pause| chrono::TimeDelta::from_std(pause).ok()) {
            self.active.pace.pause_until(now + pause);
        }
        match failed.is_rate_limit {
            RateLimit::Yes => {}
            RateLimit::No => {
                self.active.breaker.observe(Observation::NoAnswer { messages: 0 }, phase_number, now);
            }
        }
    }
}
