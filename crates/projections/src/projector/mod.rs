//! Folding the log into a read model, step by step.
//!
//! A step reads a piece of the log after the checkpoint and applies it in one transaction with the new checkpoint. It
//! waits for nothing except the read of the log; writing the tables blocks. In production every projector runs on a
//! thread of its own, in a simulation all of them on one.
//!
//! A bad event (a constraint, an overflow, a fold that panics) must not stop unrelated events. A piece that fails for
//! such a reason is tried again in smaller ones until the event that fails is alone. That event is parked (see
//! [`crate::parked`]) and everything else continues. A disk that is full or fails is not the fault of an event: then
//! nothing is parked, and the same piece is tried again.

#[cfg(feature = "mutations")]
mod mutations;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::mutation::{self, Mutation};
use kite_event_store::{EventStore, Filter, Position, RecordedEvent, StreamName, describe};
use metrics::{Gauge, Histogram, gauge, histogram};
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use crate::database;
use crate::engine::{StorageError, Tables};
use crate::error::{ApplyError, ProjectError};
use crate::parked::{self, Cause, Parking};
use crate::postgres::Written;
use crate::read_model::{ReadModel, StreamPiece};
use crate::storage::Writer;

/// How long the driving loop collects events after a step that reached the end of the log, before the next one. A
/// message that passes through several states in that time is written once.
pub const COALESCING: Duration = Duration::from_millis(60);

/// The most events in one transaction.
const EVENTS_MAX: usize = 2_000;
/// Past this many bytes of events no more are read for the same transaction.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many usual pieces are in a large one.
const LARGENESS: usize = 8;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projected {
    /// There was nothing after the checkpoint.
    Idle {
        /// The checkpoint.
        position: Position,
    },
    /// The checkpoint has moved.
    Advanced {
        /// The checkpoint.
        position: Position,
        /// How many events were applied.
        events: usize,
        /// There is more to be read at once.
        has_more: bool,
    },
}

/// A projector of any read model.
#[async_trait]
pub trait Runner: Send {
    /// The read model's name.
    fn name(&self) -> &'static str;

    /// The checkpoint.
    fn position(&self) -> Position;

    /// How many events are parked.
    fn parked(&self) -> u64;

    /// Applies the next piece of the log. `now` is for the metric of the lag only.
    ///
    /// # Errors
    /// See [`ProjectError`]; after [`ProjectError::TakenOver`] and [`ProjectError::Damaged`] this projector must not
    /// continue.
    async fn step(&mut self, now: DateTime<Utc>) -> Result<Projected, ProjectError>;

    /// Another process projects for now: what is known of the tables is learned again before the next step.
    fn stands_by(&mut self);
}

/// Steps projectors until each has read the log up to `head`, when no loop steps them.
///
/// # Errors
/// See [`Runner::step`].
pub async fn catch_up(
    projectors: &mut [Box<dyn Runner>],
    head: Position,
    now: DateTime<Utc>,
) -> Result<(), ProjectError> {
    for projector in projectors {
        while projector.position() < head {
            if let Projected::Idle { .. } = projector.step(now).await? {
                break;
            }
        }
    }
    Ok(())
}

/// Folds the log into the tables of one read model.
pub(crate) struct Projector<M> {
    store: Arc<dyn EventStore>,
    writer: Writer,
    model: M,
    filter: Filter,
    position: Position,
    /// Limits how far the log is read, for a comparison with a live model.
    until: Position,
    told: watch::Sender<Position>,
    measures: Measures,
    /// The tables show what the log said then; none until the log was read for the first time.
    current_at: Option<DateTime<Utc>>,
    /// How many events are parked.
    parked: u64,
    /// Streams with a parked event that others build on.
    waiting: HashSet<StreamName>,
    /// The most events in the next transaction: fewer for a while after a piece that could not be applied as a whole.
    pace: usize,
    /// How much larger than usual a transaction may be.
    largeness: usize,
}

/// A piece of the log, decoded.
struct Piece {
    events: Vec<(RecordedEvent, Event)>,
    parked: Vec<Parking>,
    next: Position,
    has_more: bool,
}

impl Piece {
    /// How many events of the log are in it.
    fn len(&self) -> usize {
        self.events.len() + self.parked.len()
    }

    /// Keeps so many of the events to be applied, from the first, and the position of the last of them.
    fn keep(&mut self, events: usize) {
        if events >= self.events.len() {
            return;
        }
        self.events.truncate(events.max(1));
        self.next = self.events.last().map_or(self.next, |(recorded, _)| recorded.position);
        let next = self.next;
        self.parked.retain(|parking| parking.recorded.position <= next);
        self.has_more = true;
    }

    /// Parks the only event.
    fn park(&mut self, reason: String) {
        self.parked.extend(self.events.drain(..).map(|(recorded, _)| Parking {
            recorded,
            cause: Cause::Unwritable,
            reason: reason.clone(),
        }));
    }
}

/// Why a piece was not written.
enum WriteError {
    /// Another process has written it, or more.
    Overtaken,
    /// One of the events cannot be applied, however often it is tried.
    Event(String),
    /// None of them could be, at the moment.
    Piece(ProjectError),
}

impl<M: ReadModel> Projector<M> {
    pub(crate) fn new(
        store: Arc<dyn EventStore>,
        writer: Writer,
        told: watch::Sender<Position>,
    ) -> Result<Self, StorageError> {
        let mut projector = Self {
            store,
            writer,
            model: M::default(),
            filter: M::filter(),
            position: 0,
            until: Position::MAX,
            told,
            measures: Measures::new(M::NAME),
            current_at: None,
            parked: 0,
            waiting: HashSet::new(),
            pace: EVENTS_MAX,
            largeness: 1,
        };
        if projector.writer.is_shared() {
            projector.model.keep_more();
        }
        projector.writer.is_new()?;
        projector.learn()?;
        Ok(projector)
    }

    /// Learns how the tables stand.
    fn learn(&mut self) -> Result<(), StorageError> {
        (self.position, self.waiting, self.parked) = self.writer.ask(|connection| {
            Ok((
                database::position(connection)?,
                parked::waiting_streams::<M>(connection)?,
                parked::count(connection)?,
            ))
        })?;
        self.measures.parked.set(self.parked as f64);
        Ok(())
    }

    /// Never applies anything after this position.
    pub(crate) fn until(mut self, position: Position) -> Self {
        self.until = position;
        self
    }

    /// Takes much more in a transaction than one may that others wait for: what passes through several states in it is written once.
    pub(crate) fn in_large_pieces(mut self) -> Self {
        self.largeness = LARGENESS;
        self.pace = EVENTS_MAX * LARGENESS;
        self
    }

    /// Whether others may write the tables, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.writer.is_shared()
    }

    pub(crate) fn into_writer(self) -> Writer {
        self.writer
    }

    /// The checkpoint.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// See [`Runner::step`].
    pub(crate) async fn step(&mut self, now: DateTime<Utc>) -> Result<Projected, ProjectError> {
        let step = match self.learn_if_new() {
            Ok(()) => self.advance(now).await,
            Err(source) => Err(ProjectError::apply(M::NAME, self.position, source.into())),
        };
        let step = match step {
            Err(ProjectError::Apply { source: ApplyError::Storage(error), .. })
                if self.writer.is_outdated(&error) =>
            {
                self.writer.give_up();
                Ok(self.overtaken())
            }
            Err(error) => {
                self.writer.give_up();
                Err(error)
            }
            step => step,
        };
        // Also after a failure: whoever stands still falls behind.
        let lag_events = match &step {
            Ok(Projected::Idle { .. }) => 0,
            Ok(Projected::Advanced { .. }) | Err(_) => self.store.count_after(self.position),
        };
        self.measures.lag(lag_events, self.current_at.map(|at| now - at));
        step
    }

    /// Another process has done something meanwhile: what, is learned by the next step.
    fn overtaken(&self) -> Projected {
        Projected::Advanced { position: self.position, events: 0, has_more: true }
    }

    /// Over a new connection nothing that is remembered is certain: another process may have worked meanwhile.
    fn learn_if_new(&mut self) -> Result<(), StorageError> {
        if self.writer.is_new()? {
            self.model.forget();
            self.learn()?;
        }
        Ok(())
    }

    async fn advance(&mut self, now: DateTime<Utc>) -> Result<Projected, ProjectError> {
        let mut piece = self.read().await?;
        if piece.next == self.position {
            self.current_at = Some(now);
            return Ok(Projected::Idle { position: self.position });
        }
        if let Some((first, _)) = piece.events.first() {
            self.current_at.get_or_insert(first.metadata.time);
        }
        let stopwatch = Stopwatch::start();
        if !self.write_apart(&mut piece).await? {
            return Ok(self.overtaken());
        }
        self.position = piece.next;
        self.told.send_if_modified(|told| std::mem::replace(told, piece.next.max(*told)) < piece.next);
        match piece.events.last() {
            Some((last, _)) => self.current_at = Some(last.metadata.time),
            None if !piece.has_more => self.current_at = Some(now),
            None => {}
        }
        self.measures.applied(&stopwatch, piece.events.len());
        Ok(Projected::Advanced { position: piece.next, events: piece.events.len(), has_more: piece.has_more })
    }

    /// Writes the piece, or as much of its beginning as can be written together. An event that cannot be written although
    /// it is alone is parked instead. False: another process was faster.
    #[tracing::instrument(
        name = "project", level = "debug", skip_all,
        fields(model = M::NAME, events = piece.events.len())
    )]
    async fn write_apart(&mut self, piece: &mut Piece) -> Result<bool, ProjectError> {
        loop {
            self.prepare(piece).await?;
            mutation::bug!(CheckpointBeforeRows, self.move_checkpoint_alone(piece.next).await?);
            let Err(error) = self.write(piece) else {
                self.raise_alarm(piece);
                self.pace = (self.pace * 2).min(EVENTS_MAX * self.largeness);
                return Ok(true);
            };
            self.model.forget();
            mutation::bug!(ParkedRowStopsOthers, let error = mutations::of_the_whole_piece(error, self.position));
            match error {
                WriteError::Piece(error) => return Err(error),
                WriteError::Overtaken => return Ok(false),
                WriteError::Event(_) if piece.events.len() > 1 => {
                    self.pace = piece.events.len() / 2;
                    piece.keep(self.pace);
                }
                WriteError::Event(reason) => piece.park(reason),
            }
        }
    }

    /// Whether it follows the head of the log as it moves.
    fn is_woken(&self) -> bool {
        self.largeness == 1 && self.until == Position::MAX
    }

    async fn read(&mut self) -> Result<Piece, ProjectError> {
        let mut piece =
            Piece { events: Vec::new(), parked: Vec::new(), next: self.position, has_more: false };
        let mut bytes = 0;
        let mut waiting = HashSet::new();
        loop {
            let limit = (self.pace - piece.len()).min(EVENTS_MAX);
            let page = match self.is_woken() {
                true => self.store.read_told(piece.next, limit, &self.filter).await?,
                // Whoever rebuilds or compares goes by where others are, and nobody tells it.
                false => self.store.read_all(piece.next, limit, &self.filter).await?,
            };
            if page.next == piece.next {
                return Ok(piece);
            }
            piece.next = page.next.min(self.until);
            for recorded in page.events {
                if recorded.position > self.until {
                    return Ok(piece);
                }
                bytes += recorded.data.len();
                let is_behind = self.waiting.contains(&recorded.stream) || waiting.contains(&recorded.stream);
                if is_behind && M::is_built_upon(&recorded.kind) {
                    piece.parked.push(Parking::behind(recorded));
                    continue;
                }
                match Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data) {
                    Ok(event) => piece.events.push((recorded, event)),
                    Err(error) => {
                        if M::is_built_upon(&recorded.kind) {
                            waiting.insert(recorded.stream.clone());
                        }
                        let reason = describe(&error);
                        piece.parked.push(Parking { recorded, cause: Cause::Unreadable, reason });
                    }
                }
            }
            if piece.next == self.until {
                return Ok(piece);
            }
            if bytes >= BYTES_MAX * self.largeness || piece.len() >= self.pace {
                piece.has_more = true;
                return Ok(piece);
            }
        }
    }

    /// Lets the model choose how much it takes, and gives it the streams that it needs again.
    async fn prepare(&mut self, piece: &mut Piece) -> Result<(), ProjectError> {
        if piece.events.is_empty() {
            return Ok(());
        }
        let after = self.position;
        let model = &mut self.model;
        let plan = self
            .writer
            .look(|tables| model.plan(tables, &piece.events))
            .map_err(|source| ProjectError::apply(M::NAME, after, source))?;
        piece.keep(plan.events);
        for piece in plan.streams {
            let events = self.read_stream(&piece).await?;
            self.model.supply(&piece.stream, events);
        }
        Ok(())
    }

    async fn read_stream(
        &mut self,
        piece: &StreamPiece,
    ) -> Result<Vec<(RecordedEvent, Event)>, ProjectError> {
        let mut events = Vec::new();
        let mut after = piece.after;
        while after < piece.until {
            let limit = usize::try_from(piece.until - after).unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
            let page = self.store.read_stream(&piece.stream, after, limit).await?;
            let Some(last) = page.last() else { break };
            after = last.version;
            for recorded in page {
                // What cannot be read is parked when it comes by in the log; a fold continues without it.
                if let Ok(event) = Event::from_json(&recorded.kind, recorded.schema_version, &recorded.data) {
                    events.push((recorded, event));
                }
            }
        }
        Ok(events)
    }

    fn write(&mut self, piece: &Piece) -> Result<(), WriteError> {
        let after = self.position;
        let from = if mutation::is_active(Mutation::CheckpointBeforeRows) { piece.next } else { after };
        let model = &mut self.model;
        let written = self.writer.write(from, piece.next, |tables| {
            parked::insert(tables, &piece.parked)?;
            apply_caught(model, tables, &piece.events)
        });
        let piece = |error| WriteError::Piece(ProjectError::apply(M::NAME, after, error));
        match written.map_err(|error| piece(error.into()))? {
            Ok(Written::Done) => Ok(()),
            Ok(Written::Overtaken) if self.writer.is_shared() => Err(WriteError::Overtaken),
            Ok(Written::Overtaken) => Err(WriteError::Piece(ProjectError::TakenOver { expected: after })),
            Err(error) => Err(match error.of_an_event() {
                Some(reason) => WriteError::Event(reason),
                None => piece(error),
            }),
        }
    }

    /// Raises the alarm for what was parked with this piece: once for each event that is the first of its stream.
    fn raise_alarm(&mut self, piece: &Piece) {
        self.parked += piece.parked.len() as u64;
        self.measures.parked.set(self.parked as f64);
        for Parking { recorded, cause, reason } in &piece.parked {
            if M::is_built_upon(&recorded.kind) {
                self.waiting.insert(recorded.stream.clone());
            }
            if *cause == Cause::Behind {
                continue;
            }
            tracing::error!(
                projector = M::NAME,
                position = recorded.position,
                stream = %recorded.stream,
                kind = %recorded.kind,
                cause = cause.word(),
                reason,
                "an event cannot be applied; it is parked, and what is not of its stream goes on (kite replay --parked)"
            );
        }
    }
}

/// Applies events. If the fold panics, it cannot handle one of them.
fn apply_caught<M: ReadModel>(
    model: &mut M,
    tables: Tables<'_>,
    events: &[(RecordedEvent, Event)],
) -> Result<(), ApplyError> {
    // Whatever state it is left in: the model forgets it after every failure.
    let applied = std::panic::catch_unwind(AssertUnwindSafe(|| model.apply(tables, events)));
    applied.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(ApplyError::Panicked(words.unwrap_or("without words").to_owned()))
    })
}

#[async_trait]
impl<M: ReadModel> Runner for Projector<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn position(&self) -> Position {
        self.position
    }

    fn parked(&self) -> u64 {
        self.parked
    }

    async fn step(&mut self, now: DateTime<Utc>) -> Result<Projected, ProjectError> {
        Projector::step(self, now).await
    }

    fn stands_by(&mut self) {
        self.writer.give_up();
        self.current_at = None;
        // Who works shows how far it is.
        self.measures.lag(0, Some(chrono::TimeDelta::zero()));
        self.measures.parked.set(0.0);
    }
}

/// What operators see of a projector. A metrics recorder has to be installed before it is made.
struct Measures {
    lag_events: Gauge,
    lag_seconds: Gauge,
    transaction_seconds: Histogram,
    transaction_events: Histogram,
    parked: Gauge,
}

impl Measures {
    fn new(projector: &'static str) -> Self {
        Self {
            lag_events: gauge!("kite_projector_lag_events", "projector" => projector),
            lag_seconds: gauge!("kite_projector_lag_seconds", "projector" => projector),
            transaction_seconds: histogram!("kite_projector_transaction_seconds", "projector" => projector),
            transaction_events: histogram!("kite_projector_transaction_events", "projector" => projector),
            parked: gauge!("kite_projection_parked_rows", "read_model" => projector),
        }
    }

    fn applied(&self, stopwatch: &Stopwatch, events: usize) {
        self.transaction_seconds.record(stopwatch.0.elapsed());
        self.transaction_events.record(events as f64);
    }

    fn lag(&self, events: u64, age: Option<chrono::TimeDelta>) {
        self.lag_events.set(events as f64);
        if let Some(age) = age {
            self.lag_seconds.set(age.num_milliseconds().max(0) as f64 / 1_000.0);
        }
    }
}

/// Real time, for a metric only.
struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "measures how long writing takes; not part of any fold")]
    fn start() -> Self {
        Self(Instant::now())
    }
}
