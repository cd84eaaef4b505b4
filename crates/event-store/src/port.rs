//! The port that every event store adapter implements.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use smol_str::SmolStr;
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

use crate::envelope::{Metadata, NewEvent, RecordedEvent, StreamName};
use crate::errors::SharedError;

/// A place in the whole log; 0 is before the first event.
///
/// Only the order of positions has a meaning: there may be gaps, so they are compared and never counted with
/// ([`EventStore::count_after`] counts).
pub type Position = u64;

/// What the caller believes of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Append whatever is there.
    Any,
    /// The stream holds exactly this many events; 0: there is none.
    Version(u64),
}

/// Events for one stream: all of them are appended, or none.
#[derive(Debug, Clone)]
pub struct StreamAppend {
    /// The stream.
    pub stream: StreamName,
    /// The concurrency check.
    pub expected: Expected,
    /// Who, when and why.
    pub metadata: Metadata,
    /// At least one. (Without events, only the expectation is checked and nothing is written.)
    pub events: Vec<NewEvent>,
}

/// What a refused append means for the others of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchMode {
    /// Nothing: each stands alone.
    Independent,
    /// If the first is refused, none of the others is tried ([`AppendError::NotTried`]). The others are independent,
    /// and may be written at the same time.
    Guarded,
    /// All of them are appended, or none: then the others get [`AppendError::NotTried`]. An append without events is
    /// a condition for all. Not every engine can ([`EventStore::is_atomic_over_streams`]).
    Atomic,
}

/// How long a batch may stand behind others. It changes nothing but that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Its turn comes.
    Ordinary,
    /// Everything else waits for it (first routes), so it goes before what is ordinary, if the engine can.
    Ahead,
    /// The same, and somebody waits for several such batches one after the other: what is ordinary leaves room for it.
    Urgent,
}

/// Appends handed in together, with one durable write if the adapter can. Each [`StreamAppend`] is atomic; the batch
/// is atomic only if its mode says so.
#[derive(Debug, Clone)]
pub struct Batch {
    /// See [`BatchMode`].
    pub mode: BatchMode,
    /// See [`Urgency`].
    pub urgency: Urgency,
    /// In the order in which they are tried.
    pub appends: Vec<StreamAppend>,
}

impl Batch {
    /// Of ordinary urgency.
    pub fn new(mode: BatchMode, appends: Vec<StreamAppend>) -> Self {
        Self { mode, urgency: Urgency::Ordinary, appends }
    }
}

/// The place of an append. Returned only once it is durable. A repeated append gets the version and position of the
/// first time, although the stream may have grown since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The version of the append's last event: the number of events in the stream right after it.
    pub version: u64,
    /// The position of the append's last event.
    pub position: Position,
    /// These very events (by id) were there before: an earlier try had succeeded.
    pub repeated: bool,
}

/// Why an append did not happen, or may not have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream is not at the expected version; or some of the events' ids, but not all of them in this order, are
    /// already used by events of the stream.
    #[error("the stream holds {actual} events, not the expected number")]
    Conflict {
        /// How many events the stream holds.
        actual: u64,
    },
    /// Another append of the batch, on which this one depends, failed; nothing was written.
    #[error("not tried, because another append of the batch failed")]
    NotTried,
    /// The store's queue is full; nothing was written. Try later.
    #[error("the event store is busy")]
    Busy,
    /// The store cannot be reached at the moment; nothing was written. Try later.
    #[error("the event store cannot be reached")]
    Unavailable(#[source] SharedError),
    /// All or none, over several streams, is more than this engine can ([`EventStore::is_atomic_over_streams`]); nothing was written.
    #[error("the event store cannot append to several streams at once")]
    NotAtomic,
    /// Larger than the store accepts; nothing was written.
    #[error("an append of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// The size of the data.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// It may or may not be in the log, now or in a moment: append again with the same ids to find out.
    #[error("the answer of the event store was lost")]
    AnswerLost,
    /// The store has stopped after a failed write and accepts nothing any more. Restart the process.
    #[error("the event store has stopped")]
    Stopped(#[source] SharedError),
}

impl AppendError {
    /// The store cannot be reached, for this reason.
    pub fn unavailable(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(SharedError::new(reason))
    }

    /// The store has stopped, for this reason.
    pub fn stopped(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Stopped(SharedError::new(reason))
    }
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The engine could not read.
    #[error("the event store cannot read")]
    Unreadable(#[source] SharedError),
    /// The store cannot be reached at the moment. Try later.
    #[error("the event store cannot be reached")]
    Unavailable(#[source] SharedError),
    /// The store has stopped.
    #[error("the event store has stopped")]
    Stopped(#[source] SharedError),
}

impl ReadError {
    /// The engine could not read, for this reason.
    pub fn unreadable(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unreadable(SharedError::new(reason))
    }

    /// The store cannot be reached, for this reason.
    pub fn unavailable(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(SharedError::new(reason))
    }

    /// The store has stopped, for this reason.
    pub fn stopped(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Stopped(SharedError::new(reason))
    }
}

/// Which events a reader of the whole log wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only these types; none: every type.
    pub kinds: Option<BTreeSet<SmolStr>>,
}

impl Filter {
    /// Every event.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Only events of these types.
    pub fn kinds<K: Into<SmolStr>>(kinds: impl IntoIterator<Item = K>) -> Self {
        Self { kinds: Some(kinds.into_iter().map(Into::into).collect()) }
    }

    /// Whether an event of this type passes.
    pub fn admits(&self, kind: &str) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind))
    }
}

/// A piece of the log.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// In the order of the log.
    pub events: Vec<RecordedEvent>,
    /// Everything up to and including this position has been looked at: read on from here. Equal to the requested
    /// position if there is nothing after it.
    pub next: Position,
}

/// An event as it is stored, for checking whether it has changed.
#[derive(Debug, Clone)]
pub struct KeptEvent {
    /// Its place in the whole log.
    pub position: Position,
    /// Its version in its stream; 0 if not even that can be read.
    pub version: u64,
    /// The event, or why it cannot be read: somebody, or the disk, has changed it.
    pub event: Result<RecordedEvent, SharedError>,
}

impl From<RecordedEvent> for KeptEvent {
    fn from(event: RecordedEvent) -> Self {
        Self { position: event.position, version: event.version, event: Ok(event) }
    }
}

/// A piece of the log as it lies in the store.
#[derive(Debug, Clone, Default)]
pub struct KeptPage {
    /// In the order of the log.
    pub events: Vec<KeptEvent>,
    /// As [`Page::next`].
    pub next: Position,
}

impl From<Page> for KeptPage {
    fn from(page: Page) -> Self {
        Self { events: page.events.into_iter().map(KeptEvent::from).collect(), next: page.next }
    }
}

/// A piece of a stream that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Events with a version above this one.
    pub after_version: u64,
}

/// How closely somebody follows what others write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attention {
    /// Reads all of it, and may hear of it a moment later.
    Steady,
    /// Does something about each of these events at once, and may hear of the others a moment later.
    Close(Filter),
}

/// For as long as it is kept, somebody follows the log.
#[derive(Debug, Default)]
pub struct Following {
    _kept: Option<Arc<Attention>>,
}

impl Following {
    /// For as long as this is kept.
    pub(crate) fn by(attention: Arc<Attention>) -> Self {
        Self { _kept: Some(attention) }
    }
}

/// An append-only log of streams with one total order.
///
/// An event's id is unique within its stream. Whether another stream may have an event with the same id depends on
/// the adapter: nobody may rely on either.
///
/// Every adapter promises the following, and [`crate::contract`] has a test for each:
/// - an append that was answered with `Ok` survives a crash of the process and of the machine;
/// - events of one [`StreamAppend`] are adjacent in the stream and appear to readers all at once;
/// - an append whose events (by id, in order) are already in the stream at that place is answered as
///   [`Appended::repeated`], whatever it expected;
/// - a reader that has seen position p never later finds an event at a position below p;
/// - `head` is updated after each durable write, never before.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Appends. One result for each [`StreamAppend`], in their order.
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>>;

    /// Whether the appends of a batch go into the log in its order, and [`BatchMode::Atomic`] holds over several streams. Where it does not, only a
    /// single append is atomic, and a batch of more that is to be is refused.
    fn is_atomic_over_streams(&self) -> bool {
        true
    }

    /// Whether every position up to the newest has an event: if one is missing, it was removed.
    fn positions_have_no_gaps(&self) -> bool {
        true
    }

    /// Events of a stream with a version above `after_version`, at most `limit`, in order. Fewer than `limit`
    /// only at the end of the stream.
    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError>;

    /// The tails of several streams, in one round trip if the engine can; at most `limit` events of each, in the
    /// order of the request. Fewer than `limit` only at the end of a stream.
    async fn read_many(
        &self,
        tails: &[Tail<'_>],
        limit: usize,
    ) -> Result<Vec<Vec<RecordedEvent>>, ReadError> {
        let mut read = Vec::with_capacity(tails.len());
        for tail in tails {
            read.push(self.read_stream(tail.stream, tail.after_version, limit).await?);
        }
        Ok(read)
    }

    /// Events of the whole log after `after`, at most `limit` of those that pass the filter. A page may hold fewer,
    /// even none, although there are more (pages are limited in bytes and in the number of events looked at): only
    /// `next == after` means that there is nothing after it yet.
    ///
    /// `after` is 0, a position that the store has returned, or one below the position of an event.
    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError>;

    /// Like [`EventStore::read_all`], for whoever waits for [`EventStore::head`] before reading again: what is after the
    /// position that was told there may be left out. So nobody asks a server for what is known not to be there.
    async fn read_told(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        self.read_all(after, limit, filter).await
    }

    /// Like [`EventStore::read_all`] for every event, but from the storage and never from memory. An event that
    /// cannot be read is reported in its place and does not affect the others.
    async fn read_kept(&self, after: Position, limit: usize) -> Result<KeptPage, ReadError> {
        Ok(self.read_all(after, limit, &Filter::everything()).await?.into())
    }

    /// Like [`EventStore::read_stream`], but from the storage, as [`EventStore::read_kept`] does it. Every call reads
    /// its whole result at once: ask for no more than fits into memory.
    async fn read_kept_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, ReadError> {
        let events = self.read_stream(stream, after_version, limit).await?;
        Ok(events.into_iter().map(KeptEvent::from).collect())
    }

    /// Says how closely the log will be followed, for as long as the result is kept. An engine that has to ask for what others
    /// write asks less often, and for less, if nobody does.
    fn follow(&self, _attention: Attention) -> Following {
        Following::default()
    }

    /// How many events are after a position, as far as the store knows without reading: to report how far somebody is
    /// behind.
    fn count_after(&self, after: Position) -> u64;

    /// The position of the last durable event, as it moves: wait for it, then read. It may lag: an appended event can
    /// be read before it is reported here. It ends with the store that is closed.
    fn head(&self) -> watch::Receiver<Position>;
}

/// Looking things up in the log other than by stream and position. An engine that has no index for it leaves this to
/// another one.
#[async_trait]
pub trait LogIndex: Send + Sync + 'static {
    /// Events with this correlation after position `after`, at most `limit`, in the order of the log. Fewer
    /// than `limit` only when there are no more.
    async fn read_correlation(
        &self,
        correlation: Uuid,
        after: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError>;

    /// A position after which every event with this time or a later one is, found by halving. Read on from it.
    ///
    /// Times are set by the appending process and so are only roughly in the order of positions: take a time that is
    /// earlier by the greatest difference of clocks, and leave out what does not belong.
    async fn position_before(&self, time: DateTime<Utc>) -> Result<Position, ReadError>;
}
