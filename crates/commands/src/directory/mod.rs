//! Everything small that the write side must know before it decides: relays, policies, senders, templates, tenants
//! and their keys. Folded from the log and kept in memory. It also looks up who has refused advertisements.
//!
//! A request that writes such a thing reads the log on before it is answered, so that the next request sees the
//! change.
//!
//! A process begins with the events that are in force, as a read model knows them ([`StoredDirectory`]), and reads
//! the log after that. If no read model knows them it reads the whole log.

mod live_key;
mod refusals;
mod state;
mod stored;

pub use live_key::LiveKey;
pub use refusals::RefusalsOf;
pub use state::{DirectoryState, PolicyState, PolicyTail};
pub use stored::{InForce, StoredDirectory, StoredRefusals};

use async_trait::async_trait;
use chrono::TimeDelta;
use kite_domain::event::EventKind;
use kite_domain::in_force;
use kite_domain::opt_out::Refusals;
use kite_domain::sender::{Envelope, SaidBy};
use kite_domain::slug::TenantId;
use kite_event_store::{Filter, Position, RecordedEvent, Tail};
use parking_lot::RwLock;
use smol_str::SmolStr;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{MutexGuard, watch};

use crate::journal::{Journal, JournalError, Told};
use crate::open_work::OpenWorkError;
use crate::worker::describe;
use crate::worker::{Step, Worker, WorkerError};
use refusals::RecentRefusals;

/// What is said of refusals.
const REFUSAL_KINDS: [EventKind; 3] =
    [EventKind::OptOutRecorded, EventKind::OptOutWithdrawn, EventKind::OptOutExtended];

const PAGE: usize = 1_000;
/// If several processes write, a read that is not older than this counts as current.
const CURRENT: TimeDelta = TimeDelta::seconds(1);
/// How often refusals are looked up again because the log has said something meanwhile.
const LOOKS_MAX: usize = 5;

/// The directory. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    state: RwLock<Arc<DirectoryState>>,
    recent: RwLock<RecentRefusals>,
    memory: OnceLock<Arc<dyn StoredDirectory>>,
    /// Held while reading the log on, so that events are folded once and in order.
    place: tokio::sync::Mutex<Place>,
    changes: watch::Sender<u64>,
    /// When it was read to the end last, in milliseconds since 1970.
    read_at_ms: AtomicI64,
    /// How many reads have begun, and the number of the last one that came to the end.
    reads: AtomicU64,
    last_whole_read: AtomicU64,
    /// A newer program wrote something that this one does not understand: the directory stays as it was before that.
    stands_still: AtomicBool,
}

/// How far the log is read.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    position: Position,
    /// The state has everything up to here, whether it is read again or not.
    has: Position,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: RwLock::default(),
                recent: RwLock::default(),
                memory: OnceLock::new(),
                place: tokio::sync::Mutex::default(),
                changes: watch::Sender::new(0),
                read_at_ms: AtomicI64::new(i64::MIN),
                reads: AtomicU64::new(0),
                last_whole_read: AtomicU64::new(0),
                stands_still: AtomicBool::new(false),
            }),
        }
    }
}

impl Directory {
    /// Begins with what a read model knows, and reads the log on to its present end. What the read model does not
    /// know is read from the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn begin(
        &self,
        journal: &Journal,
        memory: Arc<dyn StoredDirectory>,
    ) -> Result<(), JournalError> {
        let mut place = self.inner.place.lock().await;
        let refusals_position = memory.refusals_position();
        let in_force = memory.in_force().await.unwrap_or_else(|error| {
            tracing::warn!(error = describe(&error), "what is in force is read from the whole log");
            None
        });
        if place.position == 0 {
            *self.inner.recent.write() = RecentRefusals::since(refusals_position);
            if let Some(in_force) = in_force {
                match read_each(journal, &in_force.events).await {
                    Ok(told) => {
                        self.fold_state(&told);
                        let position = in_force.position.min(refusals_position);
                        *place = Place { position, has: in_force.position };
                    }
                    // It reads the log up to there.
                    Err(error) if error.is_of_newer_program() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // Only the first one counts: whoever has looked things up there continues with it.
        let _ = self.inner.memory.set(memory);
        match self.read_on(journal, place).await {
            // It stands still, and others do what rests on it.
            Err(error) if journal.is_shared() && error.is_of_newer_program() => Ok(()),
            read => read.map(drop),
        }
    }

    /// The directory now. The returned snapshot does not change.
    pub fn snapshot(&self) -> Arc<DirectoryState> {
        self.inner.state.read().clone()
    }

    /// Looks up the refusals of these addresses of a tenant's recipients. [`Directory::refusals_now`] says whether
    /// they are still current.
    ///
    /// # Errors
    /// If they cannot be looked up: then nobody knows who may get an advertisement.
    pub async fn refusals_of<'a>(
        &self,
        journal: &Journal,
        tenant: &TenantId,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<RefusalsOf, JournalError> {
        let mut of = RefusalsOf::new(tenant, addresses);
        for _ in 0..LOOKS_MAX {
            let wanted = of.wanted(&self.inner.recent.read());
            if let Some(memory) = self.inner.memory.get() {
                of.found(memory.refusals(tenant.clone(), wanted).await?);
                // From the beginning: what is parked says something only after what came before it.
                for stream in of.parked_streams().to_vec() {
                    for told in journal.read_stream(&stream, 0).await? {
                        of.note_parked(told.recorded.position, &told.event);
                    }
                }
            }
            if self.refusals_now(&of).is_some() {
                return Ok(of);
            }
        }
        Err(too_fast())
    }

    /// The refusals that were looked up, as they are by now; none: the log has since said something that needs
    /// another lookup.
    pub fn refusals_now<'o>(&self, of: &'o RefusalsOf) -> Option<Cow<'o, Refusals>> {
        of.now(&self.inner.recent.read())
    }

    /// Looks something up in what these addresses refuse.
    ///
    /// # Errors
    /// See [`Directory::refusals_of`].
    pub async fn look_at_refusals<'a, T>(
        &self,
        journal: &Journal,
        tenant: &TenantId,
        addresses: impl IntoIterator<Item = &'a str>,
        look: impl FnOnce(&Refusals) -> T,
    ) -> Result<T, JournalError> {
        let of = self.refusals_of(journal, tenant, addresses).await?;
        let now = self.refusals_now(&of).ok_or_else(too_fast)?;
        Ok(look(&now))
    }

    /// The current content of a stream, in order: its events in force, and all that came after them. The last one is
    /// the last of the stream.
    pub(crate) async fn stream_now(
        &self,
        journal: &Journal,
        stream: &SmolStr,
    ) -> Result<Vec<Told>, JournalError> {
        let versions = match self.inner.memory.get() {
            None => None,
            Some(memory) => memory.in_force_of(stream.clone()).await.unwrap_or_else(|error| {
                tracing::warn!(error = describe(&error), %stream, "what is in force is read from the whole stream");
                None
            }),
        };
        let versions = versions.unwrap_or_default();
        let Some(last) = versions.last().copied() else { return journal.read_stream(stream, 0).await };
        let events: Vec<(SmolStr, u64)> =
            versions.into_iter().map(|version| (stream.clone(), version)).collect();
        let mut told = read_each(journal, &events).await?;
        told.extend(journal.read_stream(stream, last).await?);
        Ok(told)
    }

    /// Moves whenever the directory changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Reads on from the log to its present end. Returns whether anything was new.
    pub async fn catch_up(&self, journal: &Journal) -> Result<bool, JournalError> {
        let place = self.inner.place.lock().await;
        self.read_on(journal, place).await
    }

    /// Whether the log cannot be read on, because a newer program wrote something that this one does not understand.
    /// Then nobody may decide by what is known.
    pub fn stands_still(&self) -> bool {
        self.inner.stands_still.load(Ordering::Relaxed)
    }

    /// For whoever is woken when the head moves: reads on as far as the head has told, and once in a while to the end.
    async fn follow(&self, journal: &Journal) -> Result<bool, JournalError> {
        let mut place = self.inner.place.lock().await;
        match journal.is_shared() && self.is_current(journal) {
            true => self.read_pages(journal, &mut place, Reach::Told).await,
            false => self.read_on(journal, place).await,
        }
    }

    /// [`Directory::catch_up`] that returns the position reached.
    pub(crate) async fn read_until(&self, journal: &Journal) -> Result<Position, JournalError> {
        self.catch_up(journal).await?;
        Ok(self.inner.place.lock().await.position)
    }

    async fn read_on(
        &self,
        journal: &Journal,
        mut place: MutexGuard<'_, Place>,
    ) -> Result<bool, JournalError> {
        let read = self.inner.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let read_at_ms = journal.now().timestamp_millis();
        let has_news = self.read_pages(journal, &mut place, Reach::End).await?;
        self.inner.read_at_ms.store(read_at_ms, Ordering::Relaxed);
        self.inner.last_whole_read.store(read, Ordering::SeqCst);
        Ok(has_news)
    }

    async fn read_pages(
        &self,
        journal: &Journal,
        place: &mut Place,
        reach: Reach,
    ) -> Result<bool, JournalError> {
        let filter = Filter::kinds(in_force::KINDS.into_iter().chain(REFUSAL_KINDS));
        let mut has_news = false;
        loop {
            let page = match reach {
                Reach::Told => journal.read_told(place.position, PAGE, &filter).await,
                Reach::End => journal.read_all(place.position, PAGE, &filter).await,
            };
            match &page {
                // Of what was not told yet nothing is known.
                Ok((_, next)) if matches!(reach, Reach::Told) && *next == place.position => {}
                Ok(_) => self.inner.stands_still.store(false, Ordering::Relaxed),
                Err(JournalError::Decode { .. }) => self.inner.stands_still.store(true, Ordering::Relaxed),
                // That says nothing about whether it exists.
                Err(_) => {}
            }
            let (told, next) = page?;
            // A page may be empty although there is more: only a position that does not move is the end.
            let is_end = next == place.position;
            self.fold(&told, place.has);
            place.position = next;
            // At once: the next page may be one that cannot be read, and whoever waits for this one may go away.
            if !told.is_empty() {
                has_news = true;
                self.inner.changes.send_modify(|count| *count += 1);
            }
            if is_end {
                break;
            }
        }
        if let Some(memory) = self.inner.memory.get() {
            self.inner.recent.write().forget_until(memory.refusals_position());
        }
        Ok(has_news)
    }

    /// If other processes write to the log, too: reads it on unless that was done a moment ago. A process that stood
    /// still meanwhile would decide by outdated knowledge.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn stay_current(&self, journal: &Journal) -> Result<(), JournalError> {
        if !journal.is_shared() || self.is_current(journal) {
            return Ok(());
        }
        let place = self.inner.place.lock().await;
        // Whoever waited for another one to read on has nothing left to read.
        if self.is_current(journal) {
            return Ok(());
        }
        self.read_on(journal, place).await.map(drop)
    }

    fn is_current(&self, journal: &Journal) -> bool {
        self.was_current_within(journal, CURRENT)
    }

    /// Whether the log was read to its end so lately.
    pub fn was_current_within(&self, journal: &Journal, span: TimeDelta) -> bool {
        let read_at_ms = self.inner.read_at_ms.load(Ordering::Relaxed);
        let since_ms = journal.now().timestamp_millis().saturating_sub(read_at_ms);
        (0..span.num_milliseconds()).contains(&since_ms)
    }

    /// Looks something up. If other processes write to the log, too, the log is read on once before the result is
    /// "not there": another process may just have written it.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn find<T>(
        &self,
        journal: &Journal,
        look: impl Fn(&DirectoryState) -> Option<T>,
    ) -> Result<Option<T>, JournalError> {
        let found = self.judge(journal, |directory| look(directory).ok_or(())).await?;
        Ok(found.ok())
    }

    /// Judges something by what is known. If other processes write to the log, too, that may be a moment old. So
    /// nothing is refused before the log was read on once: what the request depends on may just have been written.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn judge<T, E>(
        &self,
        journal: &Journal,
        look: impl Fn(&Arc<DirectoryState>) -> Result<T, E>,
    ) -> Result<Result<T, E>, JournalError> {
        self.stay_current(journal).await?;
        let (reads, judged) = (self.reads(), look(&self.snapshot()));
        if judged.is_ok() || !self.read_on_since(journal, reads).await? {
            return Ok(judged);
        }
        Ok(look(&self.snapshot()))
    }

    /// How many reads have begun. A caller that looks at something after asking this knows which read is newer than
    /// its look.
    pub(crate) fn reads(&self) -> u64 {
        self.inner.reads.load(Ordering::SeqCst)
    }

    /// If other processes write to the log, too: makes sure that a read has finished which began after this many
    /// reads. All who wait for a read share it. Returns whether a read was needed.
    pub(crate) async fn read_on_since(&self, journal: &Journal, reads: u64) -> Result<bool, JournalError> {
        if !journal.is_shared() {
            return Ok(false);
        }
        let place = self.inner.place.lock().await;
        if self.inner.last_whole_read.load(Ordering::SeqCst) <= reads {
            self.read_on(journal, place).await?;
        }
        Ok(true)
    }

    /// Of what is read the state has everything up to a position already.
    fn fold(&self, told: &[Told], has: Position) {
        let is_of_refusals = |told: &&Told| REFUSAL_KINDS.contains(&told.event.of_kind());
        for told in told.iter().filter(is_of_refusals) {
            self.inner.recent.write().note(told.recorded.position, &told.event);
        }
        let is_new = |told: &&Told| told.recorded.position > has && !is_of_refusals(told);
        self.fold_state(told.iter().filter(is_new));
    }

    fn fold_state<'t>(&self, told: impl IntoIterator<Item = &'t Told>) {
        let mut changed: Option<DirectoryState> = None;
        for Told { recorded, event } in told {
            let state = changed.get_or_insert_with(|| (**self.inner.state.read()).clone());
            let envelope = envelope(recorded);
            state.evolve(event, &envelope);
            state.senders.evolve(event, envelope);
        }
        if let Some(state) = changed {
            *self.inner.state.write() = Arc::new(state);
        }
    }
}

fn too_fast() -> JournalError {
    let why = "what recipients refuse changes faster than it can be looked up";
    OpenWorkError::new(why).into()
}

/// Events by stream and version, in this order.
async fn read_each(journal: &Journal, events: &[(SmolStr, u64)]) -> Result<Vec<Told>, JournalError> {
    let mut told = Vec::with_capacity(events.len());
    for some in events.chunks(PAGE) {
        let tails: Vec<Tail<'_>> = some
            .iter()
            .map(|(stream, version)| Tail { stream, after_version: version.saturating_sub(1) })
            .collect();
        told.extend(journal.read_first_of(&tails).await?);
    }
    Ok(told)
}

fn envelope(recorded: &RecordedEvent) -> Envelope<'_> {
    let by = SaidBy { actor: recorded.metadata.actor.clone(), at: recorded.metadata.time };
    Envelope { stream: &recorded.stream, version: recorded.version, by }
}

/// How far the log is read.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// As far as the head has told.
    Told,
    /// As far as it goes.
    End,
}

/// Keeps the directory of a process up to date with what other processes write.
pub struct DirectoryFeed {
    directory: Directory,
    journal: Journal,
}

impl DirectoryFeed {
    /// Feeds this directory.
    pub fn new(directory: Directory, journal: Journal) -> Self {
        Self { directory, journal }
    }
}

#[async_trait]
impl Worker for DirectoryFeed {
    fn name(&self) -> &str {
        "directory"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        match self.directory.follow(&self.journal).await {
            Ok(true) => Ok(Step::Worked),
            Ok(false) => Ok(Step::Idle(None)),
            Err(error) => Err(error.into()),
        }
    }
}
