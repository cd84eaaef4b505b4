//! The event store as the write side uses it: domain events in, domain events out.

use chrono::{DateTime, Utc};
use kite_domain::event::{DecodeError, Event, EventKind};
use kite_domain::slug::TenantId;
use kite_event_store::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, Filter, Metadata, NewEvent, Page,
    Position, ReadError, RecordedEvent, StreamAppend, StreamName, Tail, TraceParent, Urgency,
};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use std::sync::Arc;
use uuid::Uuid;

use crate::clock::{Clock, Ids};
use crate::open_work::OpenWorkError;
use crate::pauses::{GiveWay, Pauses};
use crate::too_old::TooOld;

/// Why an append or a read came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store did not take it.
    #[error("the log did not take the events")]
    Append(#[from] AppendError),
    /// The store did not give it.
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    /// A read model did not answer that stores what would otherwise need the whole log.
    #[error(transparent)]
    Memory(#[from] OpenWorkError),
    /// It gave what cannot be understood.
    #[error("an event of stream {stream} cannot be understood")]
    Decode {
        /// Where it stands.
        stream: StreamName,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl JournalError {
    /// Whether a newer program wrote what is not understood: trying again does not help this program.
    pub fn is_of_newer_program(&self) -> bool {
        matches!(self, Self::Decode { source: DecodeError::UnknownKind { .. }, .. })
    }
}

/// Why something is done, and by whom. It becomes part of the envelope of every event that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `key:<id>`, `operator:<name>`, `admin`, `router`, `worker:<relay>`, `timekeeper`, `relay:<relay>`.
    pub actor: SmolStr,
    /// The same over everything that follows from one request; for what belongs to a sending, its id.
    pub correlation: Uuid,
    /// The event that is answered.
    pub causation: Option<Uuid>,
    /// The trace that it belongs to, where there is one.
    pub traceparent: Option<TraceParent>,
}

impl Cause {
    /// Something that starts here.
    pub fn new(actor: impl Into<SmolStr>, correlation: Uuid) -> Self {
        Self { actor: actor.into(), correlation, causation: None, traceparent: None }
    }

    /// The same, as the consequence of an event.
    #[must_use]
    pub fn of(self, event: Option<Uuid>) -> Self {
        Self { causation: event, ..self }
    }

    /// The same, as a part of a trace.
    #[must_use]
    pub fn in_trace(self, traceparent: Option<TraceParent>) -> Self {
        Self { traceparent, ..self }
    }
}

/// Events for one stream, not yet written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The stream.
    pub stream: StreamName,
    /// How many events it holds, as far as the writer knows.
    pub expected: Expected,
    /// Whose it is; none: the platform's.
    pub tenant: Option<TenantId>,
    /// Why and by whom.
    pub cause: Cause,
    /// Without any, only the expectation is checked.
    pub events: Vec<Event>,
}

impl Entry {
    /// Nothing is written; the append is a condition that the stream has this many events.
    pub fn check(stream: impl Into<StreamName>, version: u64) -> Self {
        Self {
            stream: stream.into(),
            expected: Expected::Version(version),
            tenant: None,
            cause: Cause::new("", Uuid::nil()),
            events: Vec::new(),
        }
    }
}

/// Events that were to be written, given back to be folded.
#[derive(Debug)]
pub struct Kept {
    /// The events.
    pub events: Vec<Event>,
    /// The id of the last of them.
    pub last_id: Uuid,
    /// What became of them.
    pub answer: Result<Appended, AppendError>,
}

/// An event read back.
#[derive(Debug, Clone)]
pub struct Told {
    /// The envelope; its data is already understood.
    pub recorded: RecordedEvent,
    /// What happened.
    pub event: Event,
}

/// The log, for domain events. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    node: SmolStr,
    is_shared: bool,
    too_old: TooOld,
    pauses: Arc<dyn Pauses>,
}

impl Journal {
    /// Speaks to this store, which no other process writes.
    pub fn new(store: Arc<dyn EventStore>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        let node = SmolStr::new_static("alone");
        let (too_old, pauses) = (TooOld::default(), Arc::new(GiveWay));
        Self { store, clock, ids, node, is_shared: false, too_old, pauses }
    }

    /// As the process of this name. No other process ever had the name.
    #[must_use]
    pub fn of_node(self, node: impl Into<SmolStr>) -> Self {
        Self { node: node.into(), ..self }
    }

    /// Other processes write to the log, too, so what is kept in memory is checked against the log before it is used.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { is_shared: true, ..self }
    }

    /// After a conflict, wait with these before the next try; without them, only yield.
    #[must_use]
    pub fn with_pauses(self, pauses: Arc<dyn Pauses>) -> Self {
        Self { pauses, ..self }
    }

    pub(crate) fn pauses(&self) -> &dyn Pauses {
        &*self.pauses
    }

    /// The name of the process.
    pub fn node(&self) -> &SmolStr {
        &self.node
    }

    /// Whether other processes write to the log too.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// What of the log this program is too old for.
    pub fn too_old(&self) -> &TooOld {
        &self.too_old
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn EventStore> {
        &self.store
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A new id.
    pub fn next_id(&self) -> Uuid {
        self.ids.next()
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Writes entries together. One result each, in order.
    pub async fn append(&self, mode: BatchMode, entries: Vec<Entry>) -> Vec<Result<Appended, AppendError>> {
        let kept = self.append_keeping(Urgency::Ordinary, mode, entries).await;
        kept.into_iter().map(|kept| kept.answer).collect()
    }

    /// [`Journal::append`] that gives the events back, to be folded.
    pub async fn append_keeping(&self, urgency: Urgency, mode: BatchMode, entries: Vec<Entry>) -> Vec<Kept> {
        let entries = entries.into_iter().map(|entry| (self.ids.next(), entry)).collect();
        self.append_as(urgency, mode, entries).await
    }

    /// [`Journal::append_keeping`] under ids of the caller's choice, for what must be in the log once however often
    /// it is written: the first event of an entry has its id. What exists already is reported as repeated, or as a
    /// conflict if it exists in another place.
    pub async fn append_as(
        &self,
        urgency: Urgency,
        mode: BatchMode,
        entries: Vec<(Uuid, Entry)>,
    ) -> Vec<Kept> {
        if entries.is_empty() {
            return Vec::new();
        }
        let time = self.clock.now();
        let (appends, events): (Vec<_>, Vec<_>) =
            entries.into_iter().map(|(id, entry)| stream_append(id, entry, time)).unzip();
        let mut answers = self.store.append(Batch { mode, urgency, appends }).await.into_iter();
        let kept = |(events, last_id)| {
            let answer = answers.next().unwrap_or(Err(AppendError::AnswerLost));
            Kept { events, last_id, answer }
        };
        events.into_iter().map(kept).collect()
    }

    /// Writes one entry.
    pub async fn append_one(&self, entry: Entry) -> Result<Appended, AppendError> {
        let mut answers = self.append(BatchMode::Independent, vec![entry]).await;
        answers.pop().unwrap_or(Err(AppendError::AnswerLost))
    }

    /// How many events a stream holds.
    pub async fn count(&self, stream: &str) -> Result<u64, JournalError> {
        // Nothing is written, and the answer says where the stream is.
        let entry = Entry { expected: Expected::Any, ..Entry::check(stream, 0) };
        Ok(self.append_one(entry).await?.version)
    }

    /// A whole stream after a version, however long.
    pub async fn read_stream(&self, stream: &str, after_version: u64) -> Result<Vec<Told>, JournalError> {
        const PAGE: usize = 500;
        let mut told = Vec::new();
        let mut after = after_version;
        loop {
            let page = self.store.read_stream(stream, after, PAGE).await?;
            let is_whole = page.len() < PAGE;
            after = page.last().map_or(after, |last| last.version);
            told.reserve(page.len());
            for recorded in page {
                told.push(self.understand(recorded)?);
            }
            if is_whole {
                return Ok(told);
            }
        }
    }

    /// The tails of several streams, read together; those that are not very long are read at once. One that cannot be
    /// understood does not affect the others.
    pub async fn read_tails(
        &self,
        tails: &[Tail<'_>],
    ) -> Result<Vec<Result<Vec<Told>, JournalError>>, ReadError> {
        const PAGE: usize = 500;
        let pages = match self.store.read_many(tails, PAGE).await {
            Err(ReadError::Unreadable(_)) if tails.len() > 1 => return self.read_each(tails).await,
            pages => pages?,
        };
        let mut read = Vec::with_capacity(tails.len());
        for (tail, page) in tails.iter().zip(pages) {
            let is_whole = page.len() < PAGE;
            let mut told = page.into_iter().map(|one| self.understand(one)).collect::<Result<Vec<_>, _>>();
            if let (Ok(told), false) = (&mut told, is_whole) {
                let after = told.last().map_or(tail.after_version, |last| last.recorded.version);
                match self.read_stream(tail.stream, after).await {
                    Ok(rest) => told.extend(rest),
                    Err(JournalError::Read(error)) => return Err(error),
                    Err(error) => {
                        read.push(Err(error));
                        continue;
                    }
                }
            }
            read.push(told);
        }
        Ok(read)
    }

    /// One of them is damaged: each is read alone, so that the others are there.
    async fn read_each(&self, tails: &[Tail<'_>]) -> Result<Vec<Result<Vec<Told>, JournalError>>, ReadError> {
        let mut read = Vec::with_capacity(tails.len());
        for tail in tails {
            let told = self.read_stream(tail.stream, tail.after_version).await;
            if let Err(JournalError::Read(error @ (ReadError::Unavailable(_) | ReadError::Stopped(_)))) = told
            {
                return Err(error);
            }
            read.push(told);
        }
        Ok(read)
    }

    /// The first event after each of these places, where there is one.
    pub(crate) async fn read_first_of(&self, places: &[Tail<'_>]) -> Result<Vec<Told>, JournalError> {
        let pages = self.store.read_many(places, 1).await?;
        pages.into_iter().flatten().map(|one| self.understand(one)).collect()
    }

    /// A piece of the whole log, and the position to read on from.
    pub async fn read_all(
        &self,
        after: Position,
        limit: usize,
        filter: &Filter,
    ) -> Result<(Vec<Told>, Position), JournalError> {
        self.understand_page(self.store.read_all(after, limit, filter).await?)
    }

    /// [`Journal::read_all`] for whoever is woken when the head moves, see [`EventStore::read_told`].
    pub async fn read_told(
        &self,
        after: Position,
        limit: usize,
        filter: &Filter,
    ) -> Result<(Vec<Told>, Position), JournalError> {
        self.understand_page(self.store.read_told(after, limit, filter).await?)
    }

    /// [`Journal::read_told`] with events of other kinds, which only help: if one of them cannot be understood it is left out, and
    /// whoever needs what it is about will hear why.
    pub async fn read_told_and(
        &self,
        after: Position,
        limit: usize,
        kinds: impl IntoIterator<Item = EventKind>,
        helpful: &[EventKind],
    ) -> Result<(Vec<Told>, Position), JournalError> {
        let kinds: Vec<EventKind> = kinds.into_iter().collect();
        let filter = Filter::kinds(kinds.iter().chain(helpful).copied());
        let page = self.store.read_told(after, limit, &filter).await?;
        let mut told = Vec::with_capacity(page.events.len());
        for recorded in page.events {
            let is_needed = kinds.iter().any(|kind| recorded.kind == *kind);
            match self.understand(recorded) {
                Err(_) if !is_needed => {}
                understood => told.push(understood?),
            }
        }
        Ok((told, page.next))
    }

    fn understand_page(&self, page: Page) -> Result<(Vec<Told>, Position), JournalError> {
        let told = page.events.into_iter().map(|one| self.understand(one)).collect::<Result<_, _>>()?;
        Ok((told, page.next))
    }

    fn understand(&self, recorded: RecordedEvent) -> Result<Told, JournalError> {
        match Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data) {
            Ok(event) => Ok(Told { recorded, event }),
            Err(source) => {
                self.too_old.note(&recorded.stream, &source, self.clock.now());
                Err(JournalError::Decode { stream: recorded.stream, source })
            }
        }
    }
}

fn stream_append(command: Uuid, entry: Entry, time: DateTime<Utc>) -> (StreamAppend, (Vec<Event>, Uuid)) {
    let last_id = event_id(command, entry.events.len().saturating_sub(1));
    let events = entry
        .events
        .iter()
        .enumerate()
        .map(|(index, event)| NewEvent {
            id: event_id(command, index),
            kind: SmolStr::new_static(event.kind()),
            schema_version: event.schema_version(),
            data: event.to_json().into(),
        })
        .collect();
    let append = StreamAppend {
        stream: entry.stream,
        expected: entry.expected,
        metadata: Metadata {
            time,
            tenant: entry.tenant.map(|tenant| SmolStr::from(tenant.as_str())),
            correlation: entry.cause.correlation,
            causation: entry.cause.causation,
            actor: entry.cause.actor,
            traceparent: entry.cause.traceparent,
        },
        events,
    };
    (append, (entry.events, last_id))
}

/// The id of the `index`-th event of a command. It is deterministic, so that a repeat is recognised, and sorts by
/// time like the command's own id (48 bits of milliseconds, then a hash).
fn event_id(command: Uuid, index: usize) -> Uuid {
    if index == 0 {
        return command;
    }
    let mut hash = Sha256::new();
    hash.update(command.as_bytes());
    hash.update((index as u64).to_be_bytes());
    let mut bytes = *command.as_bytes();
    bytes[6..].copy_from_slice(&hash.finalize()[..10]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
