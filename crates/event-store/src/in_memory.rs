//! The log in memory: for tests and for the simulator. Nothing survives the process.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::RwLock;
use std::collections::HashMap;
use tokio::sync::watch;
use uuid::Uuid;

use crate::envelope::{RecordedEvent, StreamName};
use crate::port::{
    AppendError, Appended, Batch, BatchMode, EventStore, Expected, Filter, LogIndex, Page, Position,
    ReadError, StreamAppend,
};

/// An event store without a disk, a thread or a clock: the same calls give the same log.
///
/// Deliberately absent: a bound. It never answers [`AppendError::Busy`] or [`AppendError::TooLarge`].
#[derive(Debug)]
pub struct MemoryEventStore {
    log: RwLock<Log>,
    head: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct Log {
    /// The event at position p is at index p - 1.
    events: Vec<RecordedEvent>,
    streams: HashMap<StreamName, Stream>,
    correlations: HashMap<Uuid, Vec<Position>>,
    /// By the number of the stream and the id of the event.
    ids: HashMap<(usize, Uuid), Position>,
}

#[derive(Debug)]
struct Stream {
    number: usize,
    /// The event of version v is at index v - 1.
    positions: Vec<Position>,
}

impl MemoryEventStore {
    /// An empty log.
    pub fn new() -> Self {
        Self { log: RwLock::default(), head: watch::Sender::new(0) }
    }
}

impl Default for MemoryEventStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    fn event(&self, position: Position) -> &RecordedEvent {
        &self.events[position as usize - 1]
    }

    /// All of the appends, or none.
    fn append_all(&mut self, appends: Vec<StreamAppend>) -> Vec<Result<Appended, AppendError>> {
        let (count, length) = (appends.len(), self.events.len());
        let mut answers = Vec::with_capacity(count);
        for append in appends {
            match self.append(append) {
                Ok(appended) => answers.push(Ok(appended)),
                Err(error) => {
                    let place = answers.len();
                    self.take_back(length);
                    answers = vec![Err(AppendError::NotTried); count];
                    answers[place] = Err(error);
                    break;
                }
            }
        }
        answers
    }

    /// Takes back all events but so many.
    fn take_back(&mut self, length: usize) {
        for event in self.events.drain(length..).rev() {
            if let Some(stream) = self.streams.get_mut(&event.stream) {
                stream.positions.pop();
                self.ids.remove(&(stream.number, event.id));
            }
            self.correlations.get_mut(&event.metadata.correlation).and_then(Vec::pop);
        }
    }

    fn append(&mut self, append: StreamAppend) -> Result<Appended, AppendError> {
        let actual = self.streams.get(&append.stream).map_or(0, |stream| stream.positions.len()) as u64;
        let as_expected = match append.expected {
            Expected::Any => true,
            Expected::Version(version) => version == actual,
        };
        if append.events.is_empty() && as_expected {
            return Ok(Appended { version: actual, position: self.events.len() as u64, repeated: true });
        }
        if !as_expected || self.has_taken_id(&append) {
            return self.earlier(&append).ok_or(AppendError::Conflict { actual });
        }

        let StreamAppend { stream: name, metadata, events, .. } = append;
        let metadata = metadata.at_log_precision();
        let number = self.streams.len();
        let new = || Stream { number, positions: Vec::new() };
        let stream = self.streams.entry(name.clone()).or_insert_with(new);
        let correlated = self.correlations.entry(metadata.correlation).or_default();
        for event in events {
            let position = self.events.len() as u64 + 1;
            stream.positions.push(position);
            correlated.push(position);
            self.ids.insert((stream.number, event.id), position);
            self.events.push(RecordedEvent {
                position,
                stream: name.clone(),
                version: stream.positions.len() as u64,
                id: event.id,
                kind: event.kind,
                schema_version: event.schema_version,
                metadata: metadata.clone(),
                data: event.data,
            });
        }
        let version = stream.positions.len() as u64;
        Ok(Appended { version, position: self.events.len() as u64, repeated: false })
    }

    /// Whether an event's id is in the stream already, or twice in the append.
    fn has_taken_id(&self, append: &StreamAppend) -> bool {
        let events = &append.events;
        let stands = |number| events.iter().any(|event| self.ids.contains_key(&(number, event.id)));
        self.streams.get(&append.stream).is_some_and(|stream| stands(stream.number))
            || events
                .iter()
                .enumerate()
                .any(|(index, event)| events[..index].iter().any(|earlier| earlier.id == event.id))
    }

    /// The answer of an earlier try, if the events are in the stream in this order.
    fn earlier(&self, append: &StreamAppend) -> Option<Appended> {
        let number = self.streams.get(&append.stream)?.number;
        let first = self.event(*self.ids.get(&(number, append.events.first()?.id))?);
        let mut last = first;
        for (offset, event) in (0..).zip(&append.events) {
            last = self.event(*self.ids.get(&(number, event.id))?);
            if last.version != first.version + offset {
                return None;
            }
        }
        Some(Appended { version: last.version, position: last.position, repeated: true })
    }

    /// The events at those of `positions` that are after `after`.
    fn pick(&self, positions: &[Position], after: Position, limit: usize) -> Vec<RecordedEvent> {
        let start = positions.partition_point(|position| *position <= after);
        positions[start..].iter().take(limit).map(|position| self.event(*position).clone()).collect()
    }
}

#[async_trait]
impl EventStore for MemoryEventStore {
    async fn append(&self, batch: Batch) -> Vec<Result<Appended, AppendError>> {
        let Batch { mode, appends, .. } = batch;
        let mut log = self.log.write();
        let results = match mode {
            BatchMode::Independent => appends.into_iter().map(|append| log.append(append)).collect(),
            BatchMode::Atomic => log.append_all(appends),
            BatchMode::Guarded => {
                let count = appends.len();
                let mut appends = appends.into_iter();
                let first: Vec<_> = appends.next().map(|first| log.append(first)).into_iter().collect();
                match &first[..] {
                    [Err(_)] => {
                        let others = (1..count).map(|_| Err(AppendError::NotTried));
                        first.into_iter().chain(others).collect()
                    }
                    _ => {
                        let others = appends.map(|append| log.append(append));
                        first.into_iter().chain(others).collect()
                    }
                }
            }
        };
        let head = log.events.len() as u64;
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
        results
    }

    async fn read_stream(
        &self,
        stream: &str,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let log = self.log.read();
        let positions = log.streams.get(stream).map_or(&[][..], |stream| &stream.positions);
        let positions = positions.get(after_version as usize..).unwrap_or_default();
        Ok(log.pick(positions, 0, limit))
    }

    async fn read_all(&self, after: Position, limit: usize, filter: &Filter) -> Result<Page, ReadError> {
        let log = self.log.read();
        let mut page = Page { events: Vec::new(), next: after };
        for event in log.events.get(after as usize..).unwrap_or_default() {
            if page.events.len() >= limit {
                break;
            }
            page.next = event.position;
            if filter.admits(&event.kind) {
                page.events.push(event.clone());
            }
        }
        Ok(page)
    }

    fn count_after(&self, after: Position) -> u64 {
        (self.log.read().events.len() as u64).saturating_sub(after)
    }

    fn head(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }
}

#[async_trait]
impl LogIndex for MemoryEventStore {
    async fn read_correlation(
        &self,
        correlation: Uuid,
        after: Position,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        let log = self.log.read();
        let positions = log.correlations.get(&correlation).map_or(&[][..], Vec::as_slice);
        Ok(log.pick(positions, after, limit))
    }

    async fn position_before(&self, time: DateTime<Utc>) -> Result<Position, ReadError> {
        let log = self.log.read();
        Ok(log.events.partition_point(|event| event.metadata.time < time) as u64)
    }
}
