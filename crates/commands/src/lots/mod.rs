//! Lots and their sendings: loaded from the log, cached while they are in use, and changed by decisions.
//!
//! A lot is changed under a lock of its own, so that the workers of this process do not conflict; between processes
//! the expected version is the lock. The cache may forget at any time: everything is in the log.

mod changing;
mod claims;
#[cfg(feature = "mutations")]
mod mutations;
mod sendings;
mod told;

use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::Lot;
use kite_domain::mutation::{self, Mutation};
use kite_event_store::{AppendError, Tail};
use parking_lot::Mutex;
use quick_cache::sync::GuardResult;
use smol_str::SmolStr;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::journal::{Journal, JournalError, Told};
use crate::recent::{Recent, Weighed, recent};
pub use changing::Fence;
pub(crate) use changing::urgency_of;
use sendings::KeptSending;
pub use sendings::SealedSending;
pub(crate) use sendings::trace_of;
pub(crate) use told::OF_LOTS;
pub use told::OF_SENDINGS;

/// What an ordinary message of a lot takes in the cache, in bytes: with a variable, which takes most of that, and one
/// attempt.
const MESSAGE_BYTES: u64 = 640;
/// How many messages per lot are expected when the cache is laid out.
const MESSAGES_PER_LOT: u64 = 20;
/// What an ordinary sending takes in its cache, in bytes: its terms, and a text.
const SENDING_BYTES: u64 = 1_280;

/// Why a lot could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LotsError {
    /// There is no such lot, or its sending was never sealed.
    #[error("there is no lot {0}")]
    NotFound(LotId),
    /// Others kept changing it.
    #[error("lot {0} is being changed by others")]
    Contended(LotId),
    /// The condition of the change does not hold any more; nothing was written.
    #[error("somebody else has been elected")]
    Fenced,
    /// The log.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<AppendError> for LotsError {
    fn from(error: AppendError) -> Self {
        Self::Journal(error.into())
    }
}

/// A lot as it is in the log.
#[derive(Debug, Clone)]
pub(crate) struct LoggedLot {
    pub(crate) lot: Lot,
    /// How many events that took.
    pub(crate) version: u64,
    /// The last of them: what is decided next follows from it.
    pub(crate) last_event: Option<Uuid>,
}

impl LoggedLot {
    /// An event that came after those that are folded.
    fn note(&mut self, told: &Told) {
        self.lot.evolve(&told.event);
        self.version = told.recorded.version;
        self.last_event = Some(told.recorded.id);
    }
}

type Opened = OwnedMutexGuard<Option<LoggedLot>>;

/// A lot that was asked for, by its place among all of them.
type Place = (usize, Result<Opened, LotsError>);

/// A lot in the cache; none while it changes.
type LotCell = Arc<tokio::sync::Mutex<Option<LoggedLot>>>;

/// With the size of the lot now, although it may still grow by some attempts.
fn lot_cell(logged: LoggedLot) -> Weighed<LotCell> {
    let bytes = logged.lot.memory_bytes();
    Weighed::new(Arc::new(tokio::sync::Mutex::new(Some(logged))), bytes)
}

/// What is said of a lot by what is kept of it, if others write to the log, too.
#[derive(Clone, Copy)]
enum Kept {
    /// As it is now, for whoever will learn otherwise by a conflict.
    Counts,
    /// As it was: what has come since is read.
    MayBeOld,
}

/// All lots. Cheap to clone.
#[derive(Clone)]
pub struct Lots {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    lots: Recent<LotId, LotCell>,
    sendings: Recent<SendingId, Arc<Mutex<KeptSending>>>,
    /// Incremented whenever somebody is about to be told that a sending has changed.
    changes_told: AtomicU64,
}

impl Lots {
    /// Keeps about `messages_max` ordinary messages in memory, and fewer large ones.
    pub fn new(journal: Journal, messages_max: u64) -> Self {
        let lots_expected = messages_max / MESSAGES_PER_LOT;
        let lots = recent(messages_max.saturating_mul(MESSAGE_BYTES), lots_expected);
        let sendings = recent(lots_expected.saturating_mul(SENDING_BYTES), lots_expected);
        Self { inner: Arc::new(Inner { journal, lots, sendings, changes_told: AtomicU64::new(0) }) }
    }

    /// The log.
    pub fn journal(&self) -> &Journal {
        &self.inner.journal
    }

    /// Caches a lot that was just appended, so that it need not be read back. Call it before anybody else can know
    /// the lot. One that is cached already stays.
    pub(crate) fn remember(&self, logged: LoggedLot) {
        let id = logged.lot.id;
        if let GuardResult::Guard(place) = self.inner.lots.get_value_or_guard(&id, None) {
            let _ = place.insert(lot_cell(logged));
        }
    }

    /// Drops the cached lots of a sending, because they may not be in the log.
    pub(crate) fn forget_lots(&self, sending: SendingId, lots: u32) {
        (0..lots).for_each(|number| drop(self.inner.lots.remove(&LotId { sending, number })));
    }

    /// Reads what the log has beyond the cached state of a lot, for callers that conclude something from the
    /// *absence* of work. If the log is shared, every look at a lot does that anyway. A process that runs alone does
    /// without: an append with an old version is refused.
    pub async fn refresh(&self, id: LotId) -> Result<(), LotsError> {
        if self.inner.journal.is_shared() {
            return Ok(());
        }
        let mut guard = self.lock(id).await?;
        let logged = guard.as_mut().ok_or(LotsError::NotFound(id))?;
        for told in self.inner.journal.read_stream(&id.stream(), logged.version).await? {
            tracing::warn!(lot = %id, version = told.recorded.version, "a lot that was kept lagged behind the log");
            logged.note(&told);
        }
        Ok(())
    }

    /// Reads lots that are soon to be changed, so that they are here by then. What cannot be read now is reported when it is needed.
    pub(crate) async fn gather(&self, ids: &[LotId]) {
        let is_missing = |place: &usize| self.inner.lots.peek(&ids[*place]).is_none();
        let places: Vec<usize> = (0..ids.len()).filter(is_missing).collect();
        if places.is_empty() {
            return;
        }
        let mut opened = self.open_all(ids, places).await;
        self.read_on(ids, &mut opened, Kept::Counts).await;
    }

    /// Looks at a lot and its sending.
    pub async fn read<T>(
        &self,
        id: LotId,
        look: impl FnOnce(&Lot, &SealedSending) -> T,
    ) -> Result<T, LotsError> {
        let mut opened = [(0, Ok(self.open(id).await))];
        self.read_on(&[id], &mut opened, Kept::MayBeOld).await;
        let mut sendings = self.sendings_of(&[id], &opened).await;
        let [(_, opened)] = opened;
        let guard = opened?;
        let logged = guard.as_ref().ok_or(LotsError::NotFound(id))?;
        let sending = sendings.pop().unwrap_or(Err(LotsError::NotFound(id)))?;
        Ok(look(&logged.lot, &sending))
    }

    /// Locks in the same order everywhere, so that no two changes wait for each other; the result is in the order of
    /// `places`.
    async fn open_all(&self, ids: &[LotId], places: Vec<usize>) -> Vec<Place> {
        let mut in_lock_order = places.clone();
        in_lock_order.sort_unstable_by_key(|place| ids[*place]);
        let mut opened: Vec<Option<Result<Opened, LotsError>>> = ids.iter().map(|_| None).collect();
        for place in in_lock_order {
            opened[place] = Some(Ok(self.open(ids[place]).await));
        }
        places
            .into_iter()
            .map(|place| (place, opened[place].take().unwrap_or(Err(LotsError::Contended(ids[place])))))
            .collect()
    }

    /// Reads what is not kept of lots and their sendings, all at once. If other processes write, too, what is kept may be old, and
    /// what has come since is read as well: a decision without events meets no conflict, so an old state would not be noticed.
    async fn read_on(&self, ids: &[LotId], opened: &mut [Place], kept: Kept) {
        let journal = &self.inner.journal;
        let may_be_old = journal.is_shared()
            && matches!(kept, Kept::MayBeOld)
            && !mutation::is_active(Mutation::StaleLotConcluded);
        let mut lots: Vec<(usize, SmolStr, u64)> = Vec::with_capacity(opened.len());
        let mut known = BTreeSet::new();
        let mut sendings: Vec<(SendingId, SmolStr, Option<u64>)> = Vec::new();
        for (index, (place, opened)) in opened.iter().enumerate() {
            let id = ids[*place];
            let Ok(guard) = opened else { continue };
            match guard.as_ref() {
                None => lots.push((index, id.stream(), 0)),
                Some(logged) if may_be_old => lots.push((index, id.stream(), logged.version)),
                Some(_) => {}
            }
            if !known.insert(id.sending) {
                continue;
            }
            match self.inner.sendings.get(&id.sending) {
                None => sendings.push((id.sending, id.sending.stream(), None)),
                Some(kept) if may_be_old => {
                    sendings.push((id.sending, id.sending.stream(), Some(kept.value.lock().version)));
                }
                Some(_) => {}
            }
        }
        if lots.is_empty() && sendings.is_empty() {
            return;
        }
        let before = self.inner.changes_told.load(Ordering::SeqCst);
        let of_lots = lots.iter().map(|(_, stream, after)| Tail { stream, after_version: *after });
        let of_sendings =
            sendings.iter().map(|(_, stream, after)| Tail { stream, after_version: after.unwrap_or(0) });
        let tails: Vec<Tail<'_>> = of_lots.chain(of_sendings).collect();
        let read = match journal.read_tails(&tails).await {
            Ok(read) => read,
            Err(error) => {
                for (_, opened) in opened {
                    *opened = Err(JournalError::from(error.clone()).into());
                }
                return;
            }
        };
        let mut read = read.into_iter();
        for ((index, ..), told) in lots.iter().zip(read.by_ref()) {
            let (place, opened) = &mut opened[*index];
            let Ok(guard) = opened else { continue };
            let noted = told.map_err(LotsError::from).and_then(|told| self.note(ids[*place], guard, &told));
            if let Err(error) = noted {
                *opened = Err(error);
            }
        }
        for ((id, _, after), told) in sendings.into_iter().zip(read) {
            let Ok(told) = told else {
                // The next caller that asks for it gets the reason why it cannot be read.
                self.forget_sending(id);
                continue;
            };
            let Some(after) = after else {
                self.keep_sending(id, &told, before);
                continue;
            };
            let Some(kept) = self.inner.sendings.get(&id) else { continue };
            let mut kept = kept.value.lock();
            let Some(last) = told.last().filter(|_| kept.version == after) else { continue };
            kept.version = last.recorded.version;
            for told in &told {
                kept.sending.evolve(&told.event, told.recorded.metadata.time);
            }
        }
    }

    /// The sendings of opened lots as they are now. Waiting for the locks took time, and a confirmed pause must hold:
    /// nothing is awaited between this last look and the decisions.
    async fn sendings_of(&self, ids: &[LotId], opened: &[Place]) -> Vec<Result<SealedSending, LotsError>> {
        // Nothing could be read, and that is the answer of each.
        if opened.iter().all(|(_, opened)| opened.is_err()) {
            return opened.iter().map(|(place, _)| Err(LotsError::Contended(ids[*place]))).collect();
        }
        const LOOKS_MAX: u32 = 3;
        for _ in 0..LOOKS_MAX {
            let kept =
                opened.iter().map(|(place, _)| self.kept(ids[*place].sending)).collect::<Option<Vec<_>>>();
            if let Some(kept) = kept {
                return kept.into_iter().map(Ok).collect();
            }
            for (place, _) in opened {
                // What cannot be read is reported below.
                let _ = self.sending(ids[*place].sending).await;
            }
        }
        // There is no room to keep them all at once. What was read counts if no change was confirmed meanwhile.
        const READS_MAX: u32 = 20;
        for _ in 0..READS_MAX {
            let changes = self.inner.changes_told.load(Ordering::SeqCst);
            let mut sendings = Vec::with_capacity(opened.len());
            for (place, _) in opened {
                let sending = self.sending(ids[*place].sending).await;
                sendings.push(match sending {
                    Ok(sending) => sending.ok_or(LotsError::NotFound(ids[*place])),
                    Err(error) => Err(error.into()),
                });
            }
            if self.inner.changes_told.load(Ordering::SeqCst) == changes {
                return sendings;
            }
        }
        opened.iter().map(|(place, _)| Err(LotsError::Contended(ids[*place]))).collect()
    }

    /// Locks a lot, reading it from the log if it is not kept.
    async fn lock(&self, id: LotId) -> Result<Opened, LotsError> {
        let mut guard = self.open(id).await;
        if guard.is_none() {
            let told = self.inner.journal.read_stream(&id.stream(), 0).await?;
            self.note(id, &mut guard, &told)?;
        }
        Ok(guard)
    }

    /// Locks a lot as it is kept; nothing if it is not, or if whoever changed it went away before it was folded.
    async fn open(&self, id: LotId) -> Opened {
        let cell = match self.inner.lots.get(&id) {
            Some(cell) => cell,
            None => {
                let cell = Weighed::new(LotCell::default(), 0);
                // Another task may have put one in meanwhile; then both use that one.
                match self.inner.lots.get_value_or_guard(&id, None) {
                    GuardResult::Value(kept) => kept,
                    GuardResult::Guard(place) => {
                        let _ = place.insert(cell.clone());
                        cell
                    }
                    GuardResult::Timeout => cell,
                }
            }
        };
        cell.value.lock_owned().await
    }

    /// Folds what has come of a lot since, or all of it if nothing is kept.
    fn note(&self, id: LotId, opened: &mut Opened, told: &[Told]) -> Result<(), LotsError> {
        if let Some(logged) = opened.as_mut() {
            told.iter().for_each(|told| logged.note(told));
            return Ok(());
        }
        let Some(lot) = Lot::fold(told.iter().map(|told| &told.event)) else {
            self.inner.lots.remove_if(&id, |kept| Arc::ptr_eq(&kept.value, OwnedMutexGuard::mutex(opened)));
            return Err(LotsError::NotFound(id));
        };
        let version = told.last().map_or(0, |last| last.recorded.version);
        let last_event = told.last().map(|last| last.recorded.id);
        let bytes = lot.memory_bytes();
        **opened = Some(LoggedLot { lot, version, last_event });
        // The same cell, with its size by now. If it was forgotten meanwhile, another one may be there and know more.
        let cell = OwnedMutexGuard::mutex(opened);
        if self.inner.lots.peek(&id).is_some_and(|kept| Arc::ptr_eq(&kept.value, cell)) {
            // It was not used twice for that.
            let _ = self.inner.lots.replace(id, Weighed::new(cell.clone(), bytes), true);
        }
        Ok(())
    }
}
