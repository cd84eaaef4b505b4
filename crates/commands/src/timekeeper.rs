//! What time alone brings about: scheduled sendings are released, lifetimes and receipt deadlines end, cancelled lots
//! are finished off, sendings are completed, parked receipts are tried again.
//!
//! It looks at what the open-work read model says may be due, about once a second; the streams then decide. A hint
//! that is stale costs a look, one that is missing comes with the next scan.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::sending::{Sending, SendingCompleted, SendingReleased};
use kite_event_store::{AppendError, BatchMode, Expected};
use smol_str::SmolStr;
use std::sync::Arc;

use crate::directory::Directory;
use crate::journal::{Cause, Entry, JournalError};
use crate::lots::{Lots, LotsError};
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

/// Told about lots whose relay workers may have something to do, such as the end of a hold.
pub type LotHint = Arc<dyn Fn(LotId) + Send + Sync>;

/// How much of a kind is asked for. After a full answer it is twice as much, so that work does not pile up, and what
/// cannot be helped at the moment does not hide what can.
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
        }
    }

    async fn release_due(&mut self, now: DateTime<Utc>) -> Result<(), TickError> {
        let due = self.open_work.due_sendings(now, self.portions.releases.0).await?;
        self.portions.releases.note(due.len());
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
        self.write_once(finished, |sending| {
            let is_open = sending.accepted.is_some() && !sending.completed;
            is_open.then_some(|id| SendingCompleted { sending: id }.into())
        })
        .await
    }

    /// Appends an event to each sending's stream unless it is there. Whoever is faster has done it.
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
                cause: Cause::new(self.actor.clone(), id.0).of(told.last().map(|last| last.recorded.id)),
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

    async fn close_some(&self, ids: &[LotId], now: DateTime<Utc>) -> Result<(), JournalError> {
        let directory = self.directory.snapshot();
        let answers = self
            .lots
            .change(ids, &self.actor, |_, lot, sending| {
                let events = match sending.is_cancelled {
                    true => lot.expire_cancelled(now),
                    false => lot.expire(&sending.terms, &directory.routing_context(&sending.terms, now)),
                };
                let has_ended = !events.is_empty();
                (events, has_ended || sending.is_paused)
            })
            .await;
        let mut failure = None;
        for (id, answer) in ids.iter().zip(answers) {
            match answer {
                // Nobody has to look at what has ended, nor at what is paused.
                Ok(false) => (self.hint)(*id),
                Ok(true) | Err(LotsError::NotFound(_) | LotsError::Contended(_)) => {}
                Err(LotsError::Journal(error)) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Worker for Timekeeper {
    fn name(&self) -> &str {
        "timekeeper"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let now = self.lots.journal().now();
        // One kind that fails does not keep the others waiting.
        let done = [
            self.release_due(now).await,
            self.close_due(now).await,
            self.complete_finished().await,
            self.parked.look(&*self.open_work, &self.receipts, now).await,
        ];
        done.into_iter().collect::<Result<(), TickError>>()?;
        // The hints lag behind what was just done, so it waits in any case before it looks again.
        Ok(Step::Idle(Some(now + chrono::Duration::milliseconds(SCAN_INTERVAL_MS))))
    }
}
