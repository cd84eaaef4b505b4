//! The event store of a simulation: in memory, behind await points, with faults.

use async_trait::async_trait;
use kite_domain::event::Event;
use kite_domain::lot::MessagesHeld;
use kite_domain::seq_set::SeqSet;
use kite_event_store::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, Filter, GappyEventStore, Gaps,
    MemoryEventStore, Metadata, NewEvent, Page, Position, ReadError, RecordedEvent, StreamAppend,
};
use smol_str::SmolStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::sync::watch;

use crate::executor::Sim;
use crate::faults::{AppendFault, Armed};
use crate::reach::Situation;
use crate::upgrade::Upgrade;

/// What is in the log. It survives every crash.
pub(crate) type Log = GappyEventStore<MemoryEventStore>;

/// An empty one.
pub(crate) fn empty_log(gaps: Gaps) -> Arc<Log> {
    Arc::new(Log::new(Arc::new(MemoryEventStore::new()), gaps))
}

/// See the module: the log as one process sees it.
pub(crate) struct FaultyStore {
    sim: Arc<Sim>,
    inner: Arc<Log>,
    /// How far the process has heard that the log has come; none: it learns of it at once.
    heard: Option<watch::Sender<Position>>,
    pub(crate) append_faults: Armed<AppendFault>,
    pub(crate) read_faults: Armed<()>,
    /// The process cannot reach the log.
    is_cut_off: AtomicBool,
    /// How often faults have stopped.
    heals: AtomicU32,
    upgrade: Arc<Upgrade>,
    /// The process is older than what others write.
    is_behind: AtomicBool,
    /// It writes to one stream at a time.
    has_streams_apart: bool,
}

/// How late a process learns of an append, of its own too.
const HEARD_MS_MAX: u64 = 1_500;
/// How often an append that stalls looks whether faults have stopped.
const STALLED_LOOK_MS: u64 = 250;

impl FaultyStore {
    pub(crate) fn new(sim: Arc<Sim>, inner: Arc<Log>, upgrade: Arc<Upgrade>) -> Self {
        Self {
            sim,
            inner,
            heard: None,
            append_faults: Armed::default(),
            read_faults: Armed::default(),
            is_cut_off: AtomicBool::new(false),
            heals: AtomicU32::new(0),
            upgrade,
            is_behind: AtomicBool::new(false),
            has_streams_apart: false,
        }
    }

    /// Nothing over several streams is atomic, nor in order.
    pub(crate) fn with_streams_apart(self) -> Self {
        Self { has_streams_apart: true, ..self }
    }

    /// Its process learns late how far the log has come.
    pub(crate) fn heard_late(self) -> Self {
        let heard = watch::Sender::new(*self.inner.head().borrow());
        Self { heard: Some(heard), ..self }
    }

    /// Tells the process how far the log has come, some time after it has.
    pub(crate) async fn tell_head(self: Arc<Self>) {
        let Some(heard) = &self.heard else { return };
        let mut head = self.inner.head();
        loop {
            let known = *head.borrow_and_update();
            heard.send_if_modified(|heard| std::mem::replace(heard, known) != known);
            if head.changed().await.is_err() {
                return;
            }
            self.sim.sleep_ms(self.sim.below(HEARD_MS_MAX)).await;
            while self.is_cut_off() {
                self.sim.sleep_ms(HEARD_MS_MAX).await;
            }
            self.sim.reach(Situation::HeadHeardLate);
        }
    }

    /// Into the log.
    async fn write(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        if self.has_streams_apart && batch.appends.len() > 1 {
            return self.write_apart(batch).await;
        }
        let answers = self.inner.append(batch).await;
        self.inner.tell_head();
        answers
    }

    /// One after the other in any order, and others come between; a process that dies leaves the rest out.
    async fn write_apart(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        let Batch { mode, urgency, appends } = batch;
        let count = appends.len();
        if mode == BatchMode::Atomic {
            return vec![Err(AppendError::NotAtomic); count];
        }
        let mut left: Vec<(usize, StreamAppend)> = appends.into_iter().enumerate().collect();
        let mut answers = vec![Err(AppendError::NotTried); count];
        while !left.is_empty() {
            let is_guard = mode == BatchMode::Guarded && left.len() == count;
            let mut next = if is_guard { 0 } else { self.sim.below(left.len() as u64) as usize };
            // Those to one stream stay in their order.
            let stream = &left[next].1.stream;
            next = left.iter().position(|(_, append)| append.stream == *stream).unwrap_or(next);
            let (place, append) = left.remove(next);
            let single = Batch { mode: BatchMode::Independent, urgency, appends: vec![append] };
            let mut answer = self.inner.append(single).await;
            self.inner.tell_head();
            answers[place] = answer.pop().unwrap_or(Err(AppendError::AnswerLost));
            if is_guard && answers[place].is_err() {
                break;
            }
            self.sim.some_yields().await;
            if self.sim.per_cent(5) {
                self.sim.sleep_ms(self.sim.below(60)).await;
            }
        }
        answers
    }

    /// From now on the log cannot be reached, or can again.
    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Relaxed)
    }

    /// From now on the process is older than what others write, or is not any more.
    pub(crate) fn set_behind(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// As the program of this process sees them.
    fn shown(&self, events: Vec<RecordedEvent>) -> Vec<RecordedEvent> {
        if self.is_behind() { self.upgrade.shown_to_an_older_one(events) } else { events }
    }

    /// An append that stalls continues at once when faults stop.
    async fn stall(&self) {
        let until_ms = self.sim.now_ms() + 4_000 + self.sim.below(20_000) as i64;
        let heals = self.heals.load(Ordering::Relaxed);
        while self.sim.now_ms() < until_ms && self.heals.load(Ordering::Relaxed) == heals {
            self.sim.sleep_ms(STALLED_LOOK_MS).await;
        }
    }

    /// Faults stop.
    pub(crate) fn heal(&self) {
        self.append_faults.disarm();
        self.read_faults.disarm();
        self.heals.fetch_add(1, Ordering::Relaxed);
    }

    /// Before every call: others continue, and sometimes it takes a while.
    async fn approach(&self) {
        self.sim.some_yields().await;
        if self.sim.per_cent(10) {
            let ms = self.sim.below(25);
            self.sim.sleep_ms(ms).await;
        }
    }

    async fn read_approach(&self) -> Result<(), ReadError> {
        self.approach().await;
        if self.is_cut_off() {
            return Err(ReadError::unavailable("cut off"));
        }
        match self.read_faults.strike() {
            Some(()) => Err(ReadError::unreadable("a simulated fault")),
            None => Ok(()),
        }
    }

    /// Writes the first `count` appends only; for all the answer is lost.
    async fn write_some(&self, mut batch: Batch, count: usize) -> Vec<Result<Appended, AppendError>> {
        let answers = vec![Err(AppendError::AnswerLost); batch.appends.len()];
        batch.appends.truncate(count);
        if !batch.appends.is_empty() {
            self.write(batch).await;
        }
        answers
    }

    /// An event that means nothing, by another process, at the end of each lot's stream.
    async fn outrun(&self, batch: &Batch) {
        for append in &batch.appends {
            let is_lot = append.stream.starts_with("lot-") && append.expected != Expected::Version(0);
            if !is_lot {
                continue;
            }
            let held = MessagesHeld {
                messages: SeqSet::default(),
                reason: "another process was here".to_owned(),
                until_ms: Vec::new(),
            };
            let event = Event::from(held);
            let id = kite_commands::Ids::next(&*self.sim.clock);
            let new = NewEvent {
                id,
                kind: SmolStr::new_static(event.kind()),
                schema_version: event.schema_version(),
                data: event.to_json().into(),
            };
            let metadata =
                Metadata { actor: "another".into(), time: self.sim.now(), ..append.metadata.clone() };
            let rival = StreamAppend {
                stream: append.stream.clone(),
                expected: Expected::Any,
                metadata,
                events: vec![new],
            };
            self.write(Batch::new(BatchMode::Independent, vec![rival])).await;
        }
    }
}

fn busy(batch: &Batch) -> Vec<Result<Appended, AppendError>> {
    let mut answers = vec![Err(AppendError::Busy); batch.appends.len()];
    if batch.mode != BatchMode::Independent {
        answers.iter_mut().skip(1).for_each(|answer| *answer = Err(AppendError::NotTried));
    }
    answers
}

#[async_trait]
impl EventStore for FaultyStore {
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        self.approach().await;
        let count = batch.appends.len();
        if self.is_cut_off() {
            return vec![Err(AppendError::unavailable("cut off")); count];
        }
        if !self.is_behind() {
            self.upgrade.writes(batch.appends.iter().flat_map(|append| &append.events));
        }
        let answers = match self.append_faults.strike() {
            None => self.write(batch).await,
            Some(AppendFault::Busy) => busy(&batch),
            Some(AppendFault::WrittenAnswerLost) => {
                self.sim.reach(Situation::AppendAnswerLost);
                self.write_some(batch, count).await
            }
            Some(AppendFault::PartlyWrittenAnswerLost) if batch.mode == BatchMode::Atomic => {
                let all = if self.sim.per_cent(50) { count } else { 0 };
                self.write_some(batch, all).await
            }
            Some(AppendFault::PartlyWrittenAnswerLost) => {
                let some = self.sim.below(count as u64 + 1) as usize;
                self.write_some(batch, some).await
            }
            Some(AppendFault::NotWrittenAnswerLost) => self.write_some(batch, 0).await,
            Some(AppendFault::Rival) => {
                self.outrun(&batch).await;
                let answers = self.write(batch).await;
                if answers.iter().any(|answer| matches!(answer, Err(AppendError::Conflict { .. }))) {
                    self.sim.reach(Situation::AppendConflict);
                }
                answers
            }
            Some(AppendFault::Slow) => {
                let ms = 200 + self.sim.below(1_500);
                self.sim.sleep_ms(ms).await;
                self.write(batch).await
            }
            Some(AppendFault::Stalled) => {
                self.sim.reach(Situation::AppendStalled);
                self.stall().await;
                self.write(batch).await
            }
        };
        self.sim.some_yields().await;
        // Cut off after it was written: the answer does not come.
        if self.is_cut_off() { vec![Err(AppendError::AnswerLost); count] } else { answers }
    }

    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.read_approach().await?;
        let answer = self.inner.read_stream(stream, after_version, limit).await;
        self.sim.some_yields().await;
        answer.map(|events| self.shown(events))
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        self.read_approach().await?;
        let answer = self.inner.read_all(after, limit, filter).await;
        self.sim.some_yields().await;
        // Whoever reads all of it, to seal it, reads what is written there and not what it means.
        match filter.kinds {
            Some(_) => answer.map(|page| Page { events: self.shown(page.events), ..page }),
            None => answer,
        }
    }

    async fn read_told(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        match &self.heard {
            Some(heard) if after >= *heard.borrow() => Ok(Page { events: Vec::new(), next: after }),
            _ => self.read_all(after, limit, filter).await,
        }
    }

    fn count_after(&self, after: Position) -> u64 {
        self.inner.count_after(after)
    }

    fn is_atomic_over_streams(&self) -> bool {
        !self.has_streams_apart
    }

    fn positions_have_no_gaps(&self) -> bool {
        self.inner.positions_have_no_gaps()
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.heard.as_ref().map_or_else(|| self.inner.head(), watch::Sender::subscribe)
    }
}
