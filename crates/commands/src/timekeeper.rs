//! Does what is due by time alone: scheduled sendings are released, lifetimes and receipt deadlines end, cancelled
//! lots are ended, sendings are completed, parked receipts are tried again, expired approvals of senders are
//! recorded.
//!
//! About once a second it asks the open-work read model what may be due; the streams then decide. A stale hint costs
//! a look, a missing one comes with the next scan.
//!
//! If the read model has parked something of a sending, it gives no hints about it, and may never. Such sendings are
//! gone through again and again, a few lots each time, until the model is fixed.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::mutation;
use kite_domain::sending::{Sending, SendingCompleted, SendingReleased};
use kite_event_store::{AppendError, BatchMode, Expected};
use smol_str::SmolStr;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::directory::Directory;
use crate::journal::{Cause, Entry, JournalError};
use crate::lots::{Lots, LotsError, trace_of};
use crate::manage::senders::{self, SenderError};
use crate::open_work::OpenWork;
use crate::parked::ParkedRetries;
use crate::receipts::ReceiptBook;
use crate::worker::{Step, TickError, Worker, WorkerError};

/// How often it looks.
const SCAN_INTERVAL_MS: i64 = 1_000;
/// How much of each kind it does in one step, at least and at most.
const PORTION_MIN: usize = 256;
const PORTION_MAX: usize = 16_384;
/// How many streams are held at once while they are changed.
const CHUNK: usize = 256;
/// How many of the sendings of which something is parked are asked for at once, and looked at in one step.
const PARKED_PAGE: usize = 64;
/// How many of their messages are looked at in one step, about.
const PARKED_MESSAGES_PER_STEP: u32 = 20_000;

/// Notified about lots with possible work for relay workers, such as at the end of a hold.
pub type LotHint = Arc<dyn Fn(LotId) + Send + Sync>;

/// How much of a kind is asked for. After a full answer it is doubled, so that work does not pile up, and entries
/// that cannot be handled now do not hide those that can.
#[derive(Debug, Clone, Copy)]
struct Portion(usize);

impl Portion {
    fn note(&mut self, got: usize) {
        self.0 = if got >= self.0 { (self.0 * 2).min(PORTION_MAX) } else { PORTION_MIN };
    }
}

/// The portions of each kind.
#[derive(Debug, Clone, Copy)]
struct Portions {
    releases: Portion,
    lots: Portion,
    cancelled: Portion,
    finished: Portion,
}

/// See the module.
pub struct Timekeeper {
    lots: Lots,
    directory: Directory,
    open_work: Arc<dyn OpenWork>,
    receipts: ReceiptBook,
    hint: LotHint,
    actor: SmolStr,
    parked: ParkedRetries,
    portions: Portions,
    unsure: Unsure,
}

/// The way through the sendings of which something is parked.
#[derive(Debug, Default)]
struct Unsure {
    /// Those of the page that are still to be looked at.
    page: VecDeque<SendingId>,
    /// The last one that was asked for; none: from the beginning.
    after: Option<SendingId>,
    /// In the first of the page: the next lot, and how many before it have nothing open.
    next_lot: u32,
    final_lots: u32,
}

impl Unsure {
    /// On to the next sending.
    fn pass(&mut self) {
        self.page.pop_front();
        (self.next_lot, self.final_lots) = (0, 0);
    }
}

/// What was done about a lot, and what of it is left.
struct Closed {
    count: usize,
    open: u32,
    is_paused: bool,
}

impl Timekeeper {
    /// Keeps time for these lots.
    pub fn new(
        lots: Lots,
        directory: Directory,
        open_work: Arc<dyn OpenWork>,
        receipts: ReceiptBook,
        hint: LotHint,
    ) -> Self {
        Self {
            lots,
            directory,
            open_work,
            receipts,
            hint,
            actor: SmolStr::new_static("timekeeper"),
            parked: ParkedRetries::default(),
            portions: Portions {
                releases: Portion(PORTION_MIN),
                lots: Portion(PORTION_MIN),
                cancelled: Portion(PORTION_MIN),
                finished: Portion(PORTION_MIN),
            },
            unsure: Unsure::default(),
        }
    }

    async fn release_due(&mut self, now: DateTime<Utc>) -> Result<(), TickError> {
        let due = self.open_work.due_sendings(now, self.portions.releases.0).await?;
        self.portions.releases.note(due.len());
        self.release(due).await
    }

    async fn release(&self, due: Vec<SendingId>) -> Result<(), TickError> {
        self.write_once(due, |sending| {
            let is_open =
                sending.accepted.is_some() && sending.cancelled_at.is_none() && sending.released_at.is_none();
            is_open.then_some(|id| SendingReleased { sending: id }.into())
        })
        .await
    }

    /// That all messages of a sending are final can only become true, never untrue again: the hint is enough.
    async fn complete_finished(&mut self) -> Result<(), TickError> {
        let finished = self.open_work.finished_sendings(self.portions.finished.0).await?;
        self.portions.finished.note(finished.len());
        self.complete(finished).await
    }

    async fn complete(&self, finished: Vec<SendingId>) -> Result<(), TickError> {
        self.write_once(finished, |sending| {
            let is_open = sending.accepted.is_some() && !sending.completed;
            is_open.then_some(|id| SendingCompleted { sending: id }.into())
        })
        .await
    }

    /// Appends an event to each sending's stream unless it is there. If somebody else was faster, it is done.
    async fn write_once<E: Fn(SendingId) -> Event>(
        &self,
        ids: Vec<SendingId>,
        decide: impl Fn(&Sending) -> Option<E>,
    ) -> Result<(), TickError> {
        for some in ids.chunks(CHUNK) {
            self.write_some_once(some, &decide).await?;
        }
        Ok(())
    }

    #[tracing::instrument(name = "keep time", level = "debug", skip_all, fields(sendings = ids.len()))]
    async fn write_some_once<E: Fn(SendingId) -> Event>(
        &self,
        ids: &[SendingId],
        decide: &impl Fn(&Sending) -> Option<E>,
    ) -> Result<(), TickError> {
        let journal = self.lots.journal();
        let mut entries = Vec::new();
        let mut events = Vec::new();
        for id in ids.iter().copied() {
            let told = journal.read_stream(&id.stream(), 0).await?;
            let mut sending = Sending::default();
            told.iter().for_each(|told| sending.evolve(&told.event, told.recorded.metadata.time));
            let Some(event) = decide(&sending).map(|event| event(id)) else { continue };
            events.push((id, event.clone()));
            entries.push(Entry {
                stream: id.stream(),
                expected: Expected::Version(told.last().map_or(0, |last| last.recorded.version)),
                tenant: sending.accepted.map(|accepted| accepted.tenant.clone()),
                cause: Cause::new(self.actor.clone(), id.0)
                    .of(told.last().map(|last| last.recorded.id))
                    .in_trace(trace_of(&told)),
                events: vec![event],
            });
        }
        let mut failure = None;
        for (answer, (id, event)) in
            journal.append(BatchMode::Independent, entries).await.into_iter().zip(events)
        {
            match answer {
                Ok(_) => self.lots.note_sending(id, &event),
                Err(AppendError::Conflict { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), |error| Err(JournalError::from(error).into()))
    }

    async fn close_due(&mut self, now: DateTime<Utc>) -> Result<(), TickError> {
        let mut ids = self.open_work.due_lots(now, self.portions.lots.0).await?;
        self.portions.lots.note(ids.len());
        let cancelled = self.open_work.cancelled_lots(self.portions.cancelled.0).await?;
        self.portions.cancelled.note(cancelled.len());
        // The model says so, so the log does too; what is kept may be from before.
        cancelled.iter().for_each(|lot| self.lots.forget_sending(lot.sending));
        ids.extend(cancelled);
        ids.sort_unstable();
        ids.dedup();
        let mut failure = None;
        for some in ids.chunks(CHUNK) {
            if let Err(error) = self.close_some(some, now).await {
                failure = Some(error);
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Records expired approvals. Nobody waits for that: an expired sender cannot be used, recorded or not. It lets
    /// the log say when and why a sender could no longer be used. Also counts the requests that wait for the
    /// operator.
    async fn note_expired_senders(&self, now: DateTime<Utc>) -> Result<(), TickError> {
        let directory = self.directory.snapshot();
        let journal = self.lots.journal();
        let waiting = directory.senders.iter().filter(|(_, _, identity)| identity.request.is_some()).count();
        metrics::gauge!("kite_sender_requests_waiting").set(waiting as f64);
        let over = directory.senders.iter().filter(|(_, _, identity)| identity.has_ended_unnoted(now));
        for (_, tenant, identity) in over.take(CHUNK) {
            let cause = Cause::new(self.actor.clone(), journal.next_id());
            let address = identity.terms.address.as_str();
            let noted = senders::change(journal, &self.directory, (&cause, tenant, address), |known, now| {
                Ok(known.expire(tenant, now))
            });
            match noted.await {
                Ok(_) | Err(SenderError::Refused(_)) => {}
                Err(SenderError::Journal(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Looks at some of the sendings of which something is parked.
    async fn look_at_parked(&mut self, now: DateTime<Utc>) -> Result<(), TickError> {
        mutation::bug!(ParkedWorkForgotten, return Ok(()));
        if self.unsure.page.is_empty() {
            let page = self.open_work.parked_sendings(self.unsure.after, PARKED_PAGE).await?;
            self.unsure.after = page.last().copied().filter(|_| page.len() >= PARKED_PAGE);
            self.unsure.page = page.into();
        }
        let mut messages_left = PARKED_MESSAGES_PER_STEP;
        let mut failure = None;
        while let Some(id) = self.unsure.page.front().copied().filter(|_| messages_left > 0) {
            match self.look_at_sending(id, messages_left, now).await {
                Ok(messages) => messages_left = messages_left.saturating_sub(messages),
                // One that cannot be read must not hide those after it.
                Err(error) => {
                    failure = Some(error);
                    self.unsure.pass();
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Does what is due for a sending and its next lots, by their streams. Returns how many messages were looked at.
    async fn look_at_sending(
        &mut self,
        id: SendingId,
        messages_max: u32,
        now: DateTime<Utc>,
    ) -> Result<u32, TickError> {
        let told = self.lots.journal().read_stream(&id.stream(), 0).await?;
        let mut sending = Sending::default();
        told.iter().for_each(|told| sending.evolve(&told.event, told.recorded.metadata.time));
        let Some(terms) = sending.accepted.clone().filter(|_| !sending.completed) else {
            self.unsure.pass();
            return Ok(0);
        };
        let accepted = told.iter().find(|told| matches!(told.event, Event::SendingAccepted(_)));
        let accepted_at = accepted.map_or(now, |told| told.recorded.metadata.time);
        if sending.cancelled_at.is_some() {
            self.lots.forget_sending(id);
        } else if terms.scheduled_at.is_some_and(|at| at > accepted_at && at <= now) {
            self.release(vec![id]).await?;
        }
        let messages_per_lot = terms.messages.div_ceil(terms.lots.max(1)).max(1);
        let count = (messages_max / messages_per_lot).clamp(1, CHUNK as u32);
        let end = self.unsure.next_lot.saturating_add(count).min(terms.lots);
        let ids: Vec<LotId> =
            (self.unsure.next_lot..end).map(|number| LotId { sending: id, number }).collect();
        self.unsure.final_lots += self.close_some(&ids, now).await?;
        self.unsure.next_lot = end;
        if end >= terms.lots {
            let is_final = self.unsure.final_lots >= terms.lots;
            self.unsure.pass();
            if is_final {
                self.complete(vec![id]).await?;
            }
        }
        Ok(messages_per_lot.saturating_mul(count))
    }

    /// Answers how many of the lots have nothing open.
    #[tracing::instrument(name = "close lots", level = "debug", skip_all, fields(lots = ids.len()))]
    async fn close_some(&self, ids: &[LotId], now: DateTime<Utc>) -> Result<u32, JournalError> {
        self.directory.stay_current(self.lots.journal()).await?;
        let directory = self.directory.snapshot();
        let answers = self
            .lots
            .change(ids, &self.actor, |_, lot, sending| {
                let events = match sending.is_cancelled {
                    true => lot.expire_cancelled(now),
                    false => lot.expire(&sending.terms, &directory.routing_context(&sending.terms, now)),
                };
                let (count, open) = (events.len(), lot.counts().open);
                (events, Closed { count, open, is_paused: sending.is_paused })
            })
            .await;
        let mut failure = None;
        let mut final_lots = 0;
        for (id, answer) in ids.iter().zip(answers) {
            match answer {
                Ok(Closed { count: 0, open, is_paused }) => {
                    final_lots += u32::from(open == 0);
                    // Nobody has to look at what is paused.
                    if !is_paused {
                        (self.hint)(*id);
                    }
                }
                Ok(_) | Err(LotsError::NotFound(_) | LotsError::Contended(_) | LotsError::Fenced) => {}
                Err(LotsError::Journal(error)) => failure = Some(error),
            }
        }
        failure.map_or(Ok(final_lots), Err)
    }
}

#[async_trait]
impl Worker for Timekeeper {
    fn name(&self) -> &str {
        "timekeeper"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        // A copy whose original may still be in use decides nothing about messages that both logs contain.
        if !self.directory.snapshot().instance.may_hand_over() {
            return Ok(Step::Idle(None));
        }
        let now = self.lots.journal().now();
        let settled_at = self.directory.snapshot().instance.settled_at();
        // One kind that fails does not keep the others waiting.
        let done = [
            self.release_due(now).await,
            self.close_due(now).await,
            self.complete_finished().await,
            self.look_at_parked(now).await,
            self.note_expired_senders(now).await,
            self.parked.look(&*self.open_work, &self.receipts, now, settled_at).await,
        ];
        done.into_iter().collect::<Result<(), TickError>>()?;
        // The hints lag behind what was just done, so it waits in any case before it looks again.
        Ok(Step::Idle(Some(now + chrono::Duration::milliseconds(SCAN_INTERVAL_MS))))
    }
}
