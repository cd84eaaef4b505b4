//! An event store that fails where a test wants it to.

use async_trait::async_trait;

use kite_event_store::{
    AppendError, Appended, Batch, BatchMode, EventStore, Filter, KeptEvent, KeptPage, MemoryEventStore, Page,
    Position, ReadError, RecordedEvent, SharedError, StreamAppend, Tail,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::sync::watch;

/// What goes wrong with one append of a batch. Those before it are written, unless the batch is atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not written, and said so.
    Busy,
    /// The store cannot be reached.
    Unavailable,
    /// More than the store takes at once.
    TooLarge,
    /// Not written, and nothing said.
    LostBefore,
    /// Written, and nothing said.
    LostAfter,
    /// Somebody else was faster (in truth: not written).
    Conflict,
}

/// See the module. Counts single appends, not batches.
pub(crate) struct FaultyStore {
    inner: MemoryEventStore,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    appends: usize,
    fault: Option<(usize, Fault)>,
    /// So many of the next appends find that somebody else was faster.
    conflicts: usize,
    /// From here on nothing is taken any more: the process is dead.
    dead: bool,
    page_max: Option<usize>,
    /// What stands at these positions cannot be read.
    spoilt: BTreeSet<Position>,
    /// Readers of the whole log have it in memory all the same.
    is_remembered: bool,
    /// Nothing of a stream can be read where it is kept.
    is_broken: bool,
    /// Events of streams that were read where they are kept.
    kept_read: usize,
    /// How often each stream was read from its beginning.
    reads: BTreeMap<String, usize>,
    /// How often streams were asked for, one or several at once.
    questions: usize,
    /// Something in these streams cannot be read.
    damaged: BTreeSet<String>,
    /// Where an event of the stream of seals is said to stand in it.
    numbered: Option<(Position, u64)>,
}

impl Plan {
    fn ask(&mut self, tails: &[Tail<'_>]) -> Result<(), ReadError> {
        self.questions += 1;
        for tail in tails.iter().filter(|tail| tail.after_version == 0) {
            *self.reads.entry(tail.stream.to_owned()).or_default() += 1;
        }
        match tails.iter().find(|tail| self.damaged.contains(tail.stream)) {
            Some(tail) => Err(ReadError::unreadable(format!("an event of {} is spoilt", tail.stream))),
            None => Ok(()),
        }
    }

    fn unreadable_after(&self, after: Position) -> Option<Position> {
        self.spoilt.range(after + 1..).next().filter(|_| !self.is_remembered).copied()
    }
}

impl FaultyStore {
    pub(crate) fn new() -> Self {
        Self { inner: MemoryEventStore::new(), plan: Mutex::default() }
    }

    /// The next append but `skip` fails.
    pub(crate) fn fail(&self, skip: usize, fault: Fault) {
        let mut plan = self.plan.lock();
        plan.fault = Some((plan.appends + skip, fault));
        plan.dead = false;
    }

    /// At so many of the next appends somebody else is faster.
    pub(crate) fn overtake(&self, appends: usize) {
        self.plan.lock().conflicts = appends;
    }

    /// Whether the planned fault is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.plan.lock().fault.is_some()
    }

    /// All is well from now on.
    pub(crate) fn heal(&self) {
        let mut plan = self.plan.lock();
        plan.fault = None;
        plan.dead = false;
    }

    /// From the fault on, nothing is written any more until [`FaultyStore::heal`].
    fn dies_with(fault: Fault) -> bool {
        match fault {
            Fault::LostBefore | Fault::LostAfter => true,
            Fault::Busy | Fault::Conflict | Fault::Unavailable | Fault::TooLarge => false,
        }
    }

    /// What stands there is damaged, whatever readers have in memory of it.
    pub(crate) fn spoil(&self, position: Position) {
        self.plan.lock().spoilt.insert(position);
    }

    /// Readers of the whole log are served from memory, where nothing is spoilt.
    pub(crate) fn remember(&self) {
        self.plan.lock().is_remembered = true;
    }

    /// Makes a well one of it again.
    pub(crate) fn restore(&self, position: Position) {
        self.plan.lock().spoilt.remove(&position);
    }

    /// Whether streams cannot be read where they are kept.
    pub(crate) fn break_streams(&self, is_broken: bool) {
        self.plan.lock().is_broken = is_broken;
    }

    /// How many events of streams were read where they are kept.
    pub(crate) fn kept_read(&self) -> usize {
        self.plan.lock().kept_read
    }

    /// How often this stream was read from its beginning.
    pub(crate) fn reads_of(&self, stream: &str) -> usize {
        self.plan.lock().reads.get(stream).copied().unwrap_or_default()
    }

    /// Something in this stream cannot be read from now on.
    pub(crate) fn damage(&self, stream: &str) {
        self.plan.lock().damaged.insert(stream.to_owned());
    }

    /// How often streams were asked for, one or several at once.
    pub(crate) fn questions(&self) -> usize {
        self.plan.lock().questions
    }

    /// Whoever changed this event gave it another place in its stream: the last one, far from the one before.
    pub(crate) fn number(&self, position: Position, version: u64) {
        self.plan.lock().numbered = Some((position, version));
    }

    fn as_kept(&self, event: RecordedEvent) -> KeptEvent {
        let is_spoilt = self.plan.lock().spoilt.contains(&event.position);
        let kept = KeptEvent::from(event);
        if is_spoilt { KeptEvent { event: Err(SharedError::new("it is spoilt")), ..kept } } else { kept }
    }

    /// Pages of the whole log look at no more events than this, so that many are empty although there is more.
    pub(crate) fn look_at_most_at(&self, events: usize) {
        self.plan.lock().page_max = Some(events);
    }

    /// How many single appends were tried.
    pub(crate) fn appends(&self) -> usize {
        self.plan.lock().appends
    }

    /// Nobody can be faster than one who writes nothing.
    fn is_overtaken(&self, append: &StreamAppend) -> bool {
        let mut plan = self.plan.lock();
        let is_overtaken = plan.conflicts > 0 && !append.events.is_empty();
        plan.conflicts -= usize::from(is_overtaken);
        is_overtaken
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut plan = self.plan.lock();
        let number = plan.appends;
        plan.appends += 1;
        if plan.dead {
            return Some(Fault::LostBefore);
        }
        let fault = plan.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        if let Some(fault) = fault {
            plan.fault = None;
            plan.dead = Self::dies_with(fault);
        }
        fault
    }
}

/// What is answered where nothing is written.
fn refusal(fault: Fault) -> Option<AppendError> {
    match fault {
        Fault::Busy => Some(AppendError::Busy),
        Fault::Unavailable => Some(AppendError::unavailable("cut off")),
        Fault::TooLarge => Some(AppendError::TooLarge { bytes: 2, limit: 1 }),
        Fault::LostBefore => Some(AppendError::AnswerLost),
        Fault::Conflict => Some(AppendError::Conflict { actual: 0 }),
        Fault::LostAfter => None,
    }
}

impl FaultyStore {
    /// A fault of one of them is one of all.
    async fn append_whole(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        let count = batch.appends.len();
        let lost = || vec![Err(AppendError::AnswerLost); count];
        let faults: Vec<Option<Fault>> = (0..count).map(|_| self.next_fault()).collect();
        let Some((place, fault)) =
            faults.into_iter().enumerate().find_map(|(place, fault)| Some((place, fault?)))
        else {
            return self.inner.append(batch).await;
        };
        match refusal(fault) {
            Some(AppendError::AnswerLost) => lost(),
            Some(error) => {
                let mut answers = vec![Err(AppendError::NotTried); count];
                answers[place] = Err(error);
                answers
            }
            None => {
                self.inner.append(batch).await;
                lost()
            }
        }
    }
}

#[async_trait]
impl EventStore for FaultyStore {
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        // A real store takes its time: others have their turn between two appends.
        tokio::task::yield_now().await;
        if batch.mode == BatchMode::Atomic {
            return self.append_whole(batch).await;
        }
        let mut answers: Vec<Result<Appended, AppendError>> = Vec::with_capacity(batch.appends.len());
        for append in batch.appends {
            if batch.mode == BatchMode::Guarded && matches!(answers.first(), Some(Err(_))) {
                answers.push(Err(AppendError::NotTried));
                continue;
            }
            let fault = if self.is_overtaken(&append) { Some(Fault::Conflict) } else { self.next_fault() };
            let answer = match fault.and_then(refusal) {
                Some(error) => Err(error),
                None => {
                    let one = Batch { mode: batch.mode, urgency: batch.urgency, appends: vec![append] };
                    let written = self.inner.append(one).await.pop().unwrap();
                    if fault.is_some() { written.and(Err(AppendError::AnswerLost)) } else { written }
                }
            };
            answers.push(answer);
        }
        answers
    }

    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.plan.lock().ask(&[Tail { stream, after_version }])?;
        self.inner.read_stream(stream, after_version, limit).await
    }

    async fn read_many(
        &self,
        tails: &[Tail<'_>],
        limit: usize,
    ) -> Result<Vec<Vec<RecordedEvent>>, ReadError> {
        self.plan.lock().ask(tails)?;
        self.inner.read_many(tails, limit).await
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        let page_max = self.plan.lock().page_max;
        let looks_until = page_max.map_or(Position::MAX, |events| after + events as Position);
        match self.plan.lock().unreadable_after(after) {
            Some(first) if first <= looks_until => {
                return Err(ReadError::unreadable(format!("the event at position {first} is spoilt")));
            }
            _ => {}
        }
        let Some(looked_at) = page_max else { return self.inner.read_all(after, limit, filter).await };
        let mut page = self.inner.read_all(after, limit.min(looked_at), &Filter::everything()).await?;
        page.events.retain(|event| filter.admits(&event.kind));
        Ok(page)
    }

    async fn read_kept(&self, after: Position, limit: usize) -> Result<KeptPage, ReadError> {
        let page = self.inner.read_all(after, limit, &Filter::everything()).await?;
        let events = page.events.into_iter().map(|event| self.as_kept(event)).collect();
        Ok(KeptPage { events, next: page.next })
    }

    async fn read_kept_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, ReadError> {
        let (is_broken, numbered) = {
            let plan = self.plan.lock();
            (plan.is_broken, plan.numbered)
        };
        if is_broken {
            return Err(ReadError::unreadable("the disk is gone"));
        }
        let events = match numbered {
            None => self.inner.read_stream(stream, after_version, limit).await?,
            Some((position, version)) => {
                let mut events = self.inner.read_stream(stream, 0, usize::MAX).await?;
                let far = events.iter_mut().filter(|event| event.position == position);
                far.for_each(|event| event.version = version);
                events.retain(|event| event.version > after_version);
                events.truncate(limit);
                events
            }
        };
        self.plan.lock().kept_read += events.len();
        Ok(events.into_iter().map(|event| self.as_kept(event)).collect())
    }

    fn count_after(&self, after: Position) -> u64 {
        self.inner.count_after(after)
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.inner.head()
    }
}

/// The bodies of the log, for looking for what may not be there.
pub(crate) async fn everything(store: &FaultyStore) -> VecDeque<RecordedEvent> {
    store.inner.read_all(0, usize::MAX, &Filter::everything()).await.unwrap().events.into()
}
