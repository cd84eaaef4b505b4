//! Messages that wait for a relay which takes nothing at the moment go to another relay, if there is one.

use chrono::{DateTime, Utc};
use kite_commands::{Step, WorkerError, describe};
use kite_domain::breaker::Awaiting;
use kite_domain::event::Event;
use kite_domain::ids::LotId;
use kite_domain::lot::{AttemptState, Lot};
use kite_domain::seq_set::SeqSet;

use super::active_relay::Held;
use super::intent::{LotWork, by_lot, still};
use super::{BREAKER_TRIPPED, LOG_PAUSE, RETREAT_MAX, RelayWorker, earlier};
use crate::queue::{Job, JobKind, Lease, Taken, Waits};

impl RelayWorker {
    /// One step while the relay may not be called. What stays is looked at again at `until`.
    pub(super) async fn retreat(
        &mut self,
        until: DateTime<Utc>,
        reason: &'static str,
        now: DateTime<Utc>,
    ) -> Result<Step, WorkerError> {
        let lease = match self.take(RETREAT_MAX, self.lanes, now).await? {
            Taken::Lease(lease) => lease,
            Taken::Nothing(next) => return Ok(Step::Idle(earlier(next, Some(until)))),
        };
        let held = Held::new(&self.active, &lease, Vec::new());
        match lease.kind {
            JobKind::Submit => self.take_away(lease, held, until, reason, now).await,
            JobKind::Inquire => {
                self.note_in_doubt(&lease, until, now).await;
                let until = self.looked_at_again(until, reason, now);
                let not_before_ms = until.timestamp_millis();
                let put_off = |job| Job { not_before_ms, waits: Waits::ForTheRelay, ..job };
                held.settle(lease.jobs.into_iter().map(put_off).collect()).await?;
                Ok(Step::Worked)
            }
            JobKind::Unanswered => self.admit_unanswered(lease, held, now).await,
        }
    }

    /// When the remaining messages are looked at again, which may be sooner because of messages that were just found
    /// to wait.
    fn looked_at_again(
        &self,
        until: DateTime<Utc>,
        reason: &'static str,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        if reason != BREAKER_TRIPPED {
            return until;
        }
        self.active.breaker.standing(now).probes_from.map_or(until, |from| from.min(until).max(now))
    }

    /// Messages whose answer was lost wait for the relay, too.
    async fn note_in_doubt(&self, lease: &Lease, until: DateTime<Utc>, now: DateTime<Utc>) {
        for job in &lease.jobs {
            // What cannot be read now is noted when it is looked at again.
            let Ok(Some(sending)) = self.active.parts.lots.sending(job.lot.sending).await else { continue };
            let waiting = Awaiting { class: job.class, expires_at: sending.terms.expires_at };
            self.active.breaker.note_awaiting(waiting, until, now);
        }
    }

    async fn take_away(
        &self,
        lease: Lease,
        held: Held,
        until: DateTime<Utc>,
        reason: &'static str,
        now: DateTime<Utc>,
    ) -> Result<Step, WorkerError> {
        let active = &self.active;
        let works = by_lot(lease.jobs);
        let ids: Vec<LotId> = works.iter().map(|work| work.lot).collect();
        let snapshot = active.parts.directory.snapshot();
        let stays = active
            .parts
            .lots
            .change(&ids, &active.actor, |place, lot, sending| {
                if sending.is_paused {
                    // Whoever resumes it has the jobs derived again, and then they are taken away.
                    return (Vec::new(), Vec::new());
                }
                let context = snapshot.routing_context(&sending.terms, now);
                let take = |candidates: &SeqSet| {
                    lot.take_away(&sending.terms, active.relay(), candidates, reason, &context)
                };
                let (events, stays) = self.move_jobs(lot, &works[place], take);
                if !stays.is_empty() {
                    let terms = &sending.terms;
                    let waiting = Awaiting { class: terms.class, expires_at: terms.expires_at };
                    active.breaker.note_awaiting(waiting, until, now);
                }
                (events, stays)
            })
            .await;
        let until = self.looked_at_again(until, reason, now);
        let mut rest = Vec::new();
        let mut put_off = |jobs: Vec<Job>, until: DateTime<Utc>| {
            let not_before_ms = until.timestamp_millis();
            let put_off = |job| Job { not_before_ms, waits: Waits::ForTheRelay, ..job };
            rest.extend(jobs.into_iter().map(put_off));
        };
        for (work, stays) in works.into_iter().zip(stays) {
            match stays {
                Ok(stays) => put_off(stays, until),
                Err(error) => {
                    tracing::warn!(lot = %work.lot, failure = describe(&error), "messages could not be moved");
                    put_off(work.jobs, until.min(now + LOG_PAUSE));
                }
            }
        }
        held.settle(rest).await?;
        Ok(Step::Worked)
    }

    /// The events that move messages elsewhere, and the jobs of those that stay.
    fn move_jobs(
        &self,
        lot: &Lot,
        work: &LotWork,
        take: impl Fn(&SeqSet) -> Vec<Event>,
    ) -> (Vec<Event>, Vec<Job>) {
        let mut events = Vec::new();
        let mut stays = Vec::new();
        for job in &work.jobs {
            let waiting = still(lot, self.active.relay(), job, AttemptState::Routed);
            let moves = take(&waiting);
            let is_moved = |seq: u32| {
                moves.iter().any(|event| match event {
                    Event::MessagesRouted(routed) => {
                        routed.routes.iter().any(|route| route.messages.contains(seq))
                    }
                    Event::MessagesFinished(finished) => finished.messages.contains(seq),
                    _ => false,
                })
            };
            let messages: SeqSet = waiting.iter().filter(|seq| !is_moved(*seq)).collect();
            if !messages.is_empty() {
                stays.push(Job { messages, ..job.clone() });
            }
            events.extend(moves);
        }
        (events, stays)
    }
}
