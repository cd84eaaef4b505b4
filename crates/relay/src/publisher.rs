//! Derives the work queue from the log.
//!
//! [`Publisher`] reads the log as it grows. [`QueueFeeder`] derives a lot's jobs from the current state of the lot:
//! at start for every open lot, later for lots that did not fit into a full queue, and whenever a sweep finds one.
//! Both may put the same job; the queue keeps one.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::event_store::Position;
use kite_commands::journal::{JournalError, Told};
use kite_commands::lots::{OF_SENDINGS, SealedSending};
use kite_commands::trace;
use kite_commands::{Journal, Lots, LotsError, Step, Worker, WorkerError};
use kite_domain::event::{Event, EventKind};
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{AttemptState, Lot};
use kite_domain::mutation;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::RelayId;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::queue::{Job, JobKind, Put, QueueError, Waits, WorkQueue};

const PAGE: usize = 500;
/// Sendings that are read together: their terms and texts may be large.
const GATHERED_AT_ONCE: usize = 50;
/// Lots that did not fit and are tried again in one step.
const LEFT_AT_ONCE: usize = 32;
/// How long to wait for room in the queue.
const ROOM_PAUSE: TimeDelta = TimeDelta::milliseconds(500);
/// A job that is due later than this and does not fit is left to the sweeper, which comes before then.
const SWEPT_IN_TIME: TimeDelta = TimeDelta::minutes(2);

/// Puts the jobs of a lot, by its current state. Cheap to clone.
#[derive(Clone)]
pub struct QueueFeeder {
    lots: Lots,
    queue: Arc<dyn WorkQueue>,
}

/// What became of the jobs of a lot or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// All of them are in the queue, or are due so late that a sweep brings them in time.
    Whole,
    /// A lane was full: feed the lot again soon.
    Left,
}

/// The queue could not be fed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The lot.
    #[error(transparent)]
    Lots(#[from] LotsError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl FeedError {
    /// Whether it is about the one lot, so that others continue and trying again soon does not help.
    pub(crate) fn is_of_the_lot(&self) -> bool {
        matches!(self, Self::Lots(LotsError::Journal(JournalError::Decode { .. })))
    }

    fn into_worker_error(self) -> WorkerError {
        match self {
            Self::Lots(error) => WorkerError::from(error),
            Self::Queue(error) => WorkerError::retry(error),
        }
    }
}

impl QueueFeeder {
    /// Looks lots up here, puts jobs there.
    pub fn new(lots: Lots, queue: Arc<dyn WorkQueue>) -> Self {
        Self { lots, queue }
    }

    /// Puts everything that the log says is still to be done with a lot. It may be called for any lot at any time:
    /// jobs that are queued or being worked on are left alone.
    pub async fn feed(&self, lot: LotId) -> Result<Fit, FeedError> {
        self.lots.refresh(lot).await?;
        let look = |lot: &Lot, sending: &SealedSending| {
            (lot.tenant.clone(), lot.class, lot.pending(), sending.is_paused)
        };
        let (tenant, class, pending, is_paused) = self.lots.read(lot, look).await?;
        let mut fit = Fit::Whole;
        for work in pending {
            let kind = match work.state {
                // What waits for a paused sending to be resumed must not fill the lane.
                AttemptState::Routed if is_paused => continue,
                AttemptState::Routed => JobKind::Submit,
                AttemptState::Submitted => JobKind::Unanswered,
                AttemptState::Unknown => JobKind::Inquire,
                AttemptState::Accepted
                | AttemptState::Expired
                | AttemptState::Refused
                | AttemptState::Undelivered
                | AttemptState::Delivered => continue,
            };
            // Alone, whoever called before is gone: nobody waits for an answer any more.
            let is_gone = kind == JobKind::Unanswered && !self.journal().is_shared();
            let job = Job {
                lot,
                tenant: tenant.clone(),
                class,
                relay: work.relay,
                attempt: work.attempt,
                kind,
                messages: work.messages,
                not_before_ms: if is_gone { 0 } else { work.not_before_ms },
                waits: Waits::default(),
                cause: None,
            };
            if self.put(job).await? == Fit::Left {
                fit = Fit::Left;
            }
        }
        Ok(fit)
    }

    /// [`QueueFeeder::feed`] for callers that feed many lots: a lot that does not exist, or that others change all
    /// the time, has nothing to be fed now, and must not block those after it.
    pub async fn feed_if_there(&self, lot: LotId) -> Result<Fit, FeedError> {
        match self.feed(lot).await {
            Err(FeedError::Lots(LotsError::NotFound(_) | LotsError::Contended(_))) => Ok(Fit::Whole),
            fed => fed,
        }
    }

    /// Another process publishes from now on.
    pub fn forget(&self) {
        self.queue.forget();
    }

    async fn put(&self, job: Job) -> Result<Fit, QueueError> {
        let not_before_ms = job.not_before_ms;
        if self.queue.put(job).await? != Put::Full {
            return Ok(Fit::Whole);
        }
        let soon = self.journal().now() + SWEPT_IN_TIME;
        Ok(if not_before_ms <= soon.timestamp_millis() { Fit::Left } else { Fit::Whole })
    }

    fn journal(&self) -> &Journal {
        self.lots.journal()
    }
}

/// Reads the log on and puts the jobs that follow from it.
pub struct Publisher {
    feeder: QueueFeeder,
    position: Position,
    /// Where the log ended when this process began. What was handed over up to there and has no answer was handed
    /// over by a process that is gone.
    began_at: Position,
    /// Lots with jobs that did not fit. Twenty bytes each, and never more than there are open lots.
    left: BTreeSet<LotId>,
    /// The last of them that was tried.
    tried: Option<LotId>,
}

impl Publisher {
    /// Messages wait until it has seen these. What else it reads is about a later time.
    pub const AT_ONCE: [EventKind; 3] =
        [EventKind::MessagesRouted, EventKind::MessagesHeld, EventKind::SendingResumed];

    /// Reads on after `position`; the open lots up to there are for the [`crate::Sweeper`].
    pub fn new(feeder: QueueFeeder, position: Position) -> Self {
        let began_at = *feeder.journal().store().head().borrow();
        mutation::bug!(PublisherSkipsAfterRestart, let position = began_at);
        Self { feeder, position, began_at, left: BTreeSet::new(), tried: None }
    }

    /// What is read: of what was handed over, only what was before this process.
    fn kinds(&self) -> impl Iterator<Item = EventKind> {
        let before = (self.position < self.began_at).then_some(EventKind::MessagesSubmitted);
        Self::AT_ONCE.into_iter().chain([EventKind::RelayResponded]).chain(before)
    }

    /// Reads on after this position, if it has not come that far: everything up to there is for the
    /// [`crate::Sweeper`].
    #[must_use]
    pub fn skip_to(self, position: Position) -> Self {
        Self { position: self.position.max(position), ..self }
    }

    /// Where it has read to.
    pub fn position(&self) -> Position {
        self.position
    }

    /// All lots of a sending that continues are fed again, some at a time.
    async fn resume(&mut self, sending: SendingId) -> Result<(), FeedError> {
        // What is kept of it may be from before.
        self.feeder.lots.forget_sending(sending);
        let sealed = self.feeder.lots.sending(sending).await.map_err(LotsError::from)?;
        let lots = sealed.map_or(0, |sealed| sealed.terms.lots);
        self.left.extend((0..lots).map(|number| LotId { sending, number }));
        Ok(())
    }

    /// Reads the sendings of events with jobs, together.
    async fn gather_sendings(&self, told: &[Told], jobs: &[Vec<Bare>]) -> Result<(), WorkerError> {
        let with_jobs = told.iter().zip(jobs).filter(|(_, jobs)| !jobs.is_empty());
        let lots = with_jobs.filter_map(|(told, _)| LotId::from_stream(&told.recorded.stream));
        let sendings: Vec<SendingId> = lots.map(|lot| lot.sending).collect();
        for some in sendings.chunks(GATHERED_AT_ONCE) {
            let gathered = self.feeder.lots.gather_sendings(some.iter().copied()).await;
            gathered.map_err(JournalError::from)?;
        }
        Ok(())
    }

    /// Puts what follows from an event: the jobs that it says itself, or what the lot says.
    async fn publish(&self, told: &Told, jobs: Vec<Bare>) -> Result<Fit, FeedError> {
        let Some(lot) = LotId::from_stream(&told.recorded.stream) else { return Ok(Fit::Whole) };
        match &told.event {
            // What is held, and where, is in the lot.
            Event::MessagesHeld(_) => return self.feeder.feed(lot).await,
            // An intent that the work model had not seen when this process began: perhaps without an answer.
            Event::MessagesSubmitted(_) if told.recorded.position <= self.began_at => {
                return self.feeder.feed(lot).await;
            }
            _ => {}
        }
        if jobs.is_empty() {
            return Ok(Fit::Whole);
        }
        let sending = self.feeder.lots.sending(lot.sending).await.map_err(LotsError::from)?;
        let Some(sending) = sending else { return Ok(Fit::Whole) };
        let span = tracing::debug_span!(parent: None, "publish", %lot, jobs = jobs.len());
        if let Some(traceparent) = told.recorded.metadata.traceparent {
            trace::adopt(&span, traceparent);
        }
        let mut fit = Fit::Whole;
        for (relay, attempt, kind, messages, not_before_ms) in jobs {
            if kind == JobKind::Submit && sending.is_paused {
                continue;
            }
            let job = Job {
                lot,
                tenant: sending.terms.tenant.clone(),
                class: sending.terms.class,
                relay,
                attempt,
                kind,
                messages,
                not_before_ms,
                waits: Waits::default(),
                cause: Some(told.recorded.id),
            };
            if self.feeder.put(job).await? == Fit::Left {
                fit = Fit::Left;
            }
        }
        Ok(fit)
    }

    /// Tries some of what did not fit again, in turn, so that the full lane of one relay does not stand in the way of
    /// the others. Returns whether any of it fits now.
    async fn put_left(&mut self) -> Result<Fit, FeedError> {
        let after = self.tried.map_or(Bound::Unbounded, Bound::Excluded);
        let mut lots: Vec<LotId> =
            self.left.range((after, Bound::Unbounded)).copied().take(LEFT_AT_ONCE).collect();
        if lots.is_empty() {
            lots = self.left.iter().copied().take(LEFT_AT_ONCE).collect();
        }
        self.tried = lots.last().copied();
        let mut fit = Fit::Left;
        for lot in lots {
            if self.feeder.feed_if_there(lot).await? == Fit::Whole {
                self.left.remove(&lot);
                fit = Fit::Whole;
            }
        }
        Ok(fit)
    }
}

type Bare = (RelayId, u16, JobKind, SeqSet, i64);

/// The jobs that an event says itself.
fn jobs_of(event: &Event) -> Vec<Bare> {
    match event {
        Event::MessagesRouted(routed) => {
            let job = |route: &kite_domain::lot::RouteSet| {
                (route.relay.clone(), route.attempt, JobKind::Submit, route.messages.clone(), 0)
            };
            routed.routes.iter().map(job).collect()
        }
        Event::RelayResponded(responded) => follow_ups(responded),
        _ => Vec::new(),
    }
}

/// What follows from a response: questions about what is unknown, another try of what was deferred or refused for
/// now.
fn follow_ups(responded: &kite_domain::lot::RelayResponded) -> Vec<Bare> {
    let job = |kind, messages: &SeqSet, not_before: DateTime<Utc>| {
        let not_before_ms = not_before.timestamp_millis();
        (responded.relay.clone(), responded.attempt, kind, messages.clone(), not_before_ms)
    };
    let inquire = responded.unknown.as_ref().and_then(|set| {
        let inquire_at = set.inquire_at?;
        Some(job(JobKind::Inquire, &set.messages, inquire_at))
    });
    let again = responded.deferred.as_ref().map(|set| job(JobKind::Submit, &set.messages, set.until));
    let for_now = responded.refused_for_now.iter();
    let for_now = for_now.map(|set| job(JobKind::Submit, &set.messages, set.until));
    inquire.into_iter().chain(again).chain(for_now).collect()
}

#[async_trait]
impl Worker for Publisher {
    fn name(&self) -> &str {
        "publisher"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        let room = self.put_left().await.map_err(FeedError::into_worker_error)?;
        let page = self.feeder.journal().read_told_and(self.position, PAGE, self.kinds(), &OF_SENDINGS).await;
        let (told, next) = page.map_err(WorkerError::from)?;
        told.iter().for_each(|told| self.feeder.lots.note_told(told));
        let jobs: Vec<Vec<Bare>> = told.iter().map(|told| jobs_of(&told.event)).collect();
        self.gather_sendings(&told, &jobs).await?;
        for (told, jobs) in told.iter().zip(jobs) {
            if let Event::SendingResumed(resumed) = &told.event {
                self.resume(resumed.sending).await.map_err(FeedError::into_worker_error)?;
                continue;
            }
            // A failure in the middle of a page: the page is read again, and the queue knows what it has.
            if self.publish(told, jobs).await.map_err(FeedError::into_worker_error)? == Fit::Left {
                self.left.extend(LotId::from_stream(&told.recorded.stream));
            }
        }
        if next != self.position {
            self.position = next;
            return Ok(Step::Worked);
        }
        let now = self.feeder.journal().now();
        Ok(match (self.left.is_empty(), room) {
            (true, _) => Step::Idle(None),
            (false, Fit::Whole) => Step::Worked,
            (false, Fit::Left) => Step::Idle(Some(now + ROOM_PAUSE)),
        })
    }
}
