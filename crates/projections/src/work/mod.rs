//! Open work, for the write side after a restart and for its timekeeper.
//!
//! These rows only wake somebody up: the streams decide what has to be done. Rows are removed when there is nothing
//! left to do, so the tables stay small.
//!
//! The lots of a sending without a seal are not work: they are kept aside in `unsealed_lots` until the seal moves
//! them over. An event of a lot before the seal (there should be none) shows with its next event.
//!
//! Answers of relays that need an operator are stored here, too (`relay_words.rs`): those rows stay.

mod fold;
mod queries;
mod receipts;
mod relay_words;
mod rows;
mod said;
mod schema;

pub use queries::{Backlog, OpenLot, OpenSending, WorkQueries, Workload};
pub use relay_words::{NotUnderstood, NotUnderstoodCount, UnclassifiedCode};

use kite_domain::event::{Event, EventKind};
use kite_domain::ids::LotId;
use kite_domain::lot::Lot;
use kite_event_store::{Filter, RecordedEvent};
use std::collections::BTreeMap;

use crate::cache::Cache;
use crate::engine::{Rows, Tables};
use crate::error::ApplyError;
use crate::read_model::{Plan, ReadModel, StreamPiece};
use crate::table::Table;
use fold::Change;
use receipts::Receipts;
use rows::{LoadRow, OpenLotRow, OpenSendingRow, UnsealedLotRow};
use said::Said;

/// How many bytes of lots are kept in memory between transactions: some 30,000 lots of one message, or 150,000 messages of
/// large ones.
const CACHED_BYTES_MAX: usize = 14 * 1024 * 1024;
/// What a lot takes in the cache beside itself, in bytes.
const ENTRY_BYTES: usize = 128;
/// The most lots that one transaction reads back from their streams.
const SUPPLIED_LOTS_MAX: usize = 64;

/// Past this many rows of a table, what is remembered of it starts again.
const ROWS_MAX: usize = 16_384;

/// The fold of the open work.
#[derive(Debug)]
pub(crate) struct WorkModel {
    lots: Cache<LotId, Lot>,
    sendings: Rows<OpenSendingRow>,
    open_lots: Rows<OpenLotRow>,
    unsealed_lots: Rows<UnsealedLotRow>,
    loads: Rows<LoadRow>,
    receipts: Receipts,
    said: Said,
    change: Change,
}

impl Default for WorkModel {
    fn default() -> Self {
        Self {
            lots: Cache::new(CACHED_BYTES_MAX),
            sendings: Rows::keeping(ROWS_MAX),
            open_lots: Rows::keeping(ROWS_MAX),
            unsealed_lots: Rows::keeping(ROWS_MAX),
            loads: Rows::keeping(ROWS_MAX),
            receipts: Receipts::default(),
            said: Said::default(),
            change: Change::default(),
        }
    }
}

impl WorkModel {
    /// Keeps the part of a lot that is followed: not its recipients.
    fn keep(&mut self, id: LotId, lot: Lot) {
        let lot = lot.without_recipients();
        let bytes = kept_bytes(&lot);
        self.lots.insert(id, lot, bytes);
    }
}

fn kept_bytes(lot: &Lot) -> usize {
    lot.memory_bytes() + ENTRY_BYTES
}

impl ReadModel for WorkModel {
    const NAME: &'static str = "work";
    const SCHEMA_VERSION: i64 = 3;
    const CACHE_BYTES: usize = 8 * 1024 * 1024;
    const TABLES: &'static [&'static Table] = schema::TABLES;

    fn filter() -> Filter {
        Filter::kinds([
            EventKind::SendingAccepted,
            EventKind::SendingAbandoned,
            EventKind::SendingReleased,
            EventKind::SendingPaused,
            EventKind::SendingResumed,
            EventKind::SendingCancelled,
            EventKind::SendingCompleted,
            EventKind::LotAccepted,
            EventKind::MessagesRouted,
            EventKind::MessagesSubmitted,
            EventKind::RelayResponded,
            EventKind::ReceiptsRecorded,
            EventKind::MessagesHeld,
            EventKind::MessagesFinished,
            EventKind::ReceiptsParked,
            EventKind::ParkedReceiptsSettled,
            EventKind::RelayNotUnderstood,
        ])
    }

    /// Parked receipts are rows of their own: one that cannot be written does not keep others from being matched.
    fn is_built_upon(kind: &str) -> bool {
        let of_its_own =
            [EventKind::ReceiptsParked, EventKind::ParkedReceiptsSettled, EventKind::RelayNotUnderstood];
        !of_its_own.iter().any(|known| known.as_str() == kind)
    }

    /// Open lots that are not in memory are read again from their streams, up to the first event that is to be folded.
    fn plan(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<Plan, ApplyError> {
        // The first event of each lot, and where that is.
        let mut first: BTreeMap<LotId, usize> = BTreeMap::new();
        for (place, (recorded, _)) in events.iter().enumerate() {
            if let Some(id) = LotId::from_stream(&recorded.stream).filter(|id| !self.lots.contains(*id)) {
                first.entry(id).or_insert(place);
            }
        }
        self.open_lots.prefetch(tables, first.keys().copied())?;
        self.unsealed_lots.prefetch(tables, first.keys().copied())?;
        self.sendings.prefetch(tables, first.keys().map(|id| id.sending))?;
        let mut first: Vec<(usize, LotId)> = first.into_iter().map(|(id, place)| (place, id)).collect();
        first.sort_unstable();
        let mut streams: Vec<StreamPiece> = Vec::new();
        for (place, id) in first {
            let Some(version) = self.accepted_version(tables, id)? else { continue };
            if streams.len() >= SUPPLIED_LOTS_MAX {
                return Ok(Plan { events: place, streams });
            }
            let (recorded, _) = &events[place];
            streams.push(StreamPiece {
                stream: recorded.stream.clone(),
                after: version.saturating_sub(1),
                until: recorded.version.saturating_sub(1),
            });
        }
        Ok(Plan { events: events.len(), streams })
    }

    fn supply(&mut self, stream: &str, events: Vec<(RecordedEvent, Event)>) {
        let Some(id) = LotId::from_stream(stream) else { return };
        if let Some(lot) = Lot::fold(events.iter().map(|(_, event)| event)) {
            self.keep(id, lot);
        }
    }

    fn apply(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        for (recorded, event) in events {
            self.fold_event(tables, recorded, event)?;
        }
        self.flush(tables)?;
        while self.lots.pop_surplus().is_some() {}
        Ok(())
    }
}
