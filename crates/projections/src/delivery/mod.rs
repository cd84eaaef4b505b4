//! Delivery results: sendings, messages with their timelines, statistics, and the performance of relays minute by
//! minute.
//!
//! The fold keeps a limited number of lots in memory and reads them back from their rows when they are needed again.
//! A whole piece of the log is folded in memory; a message that passes through several states in it is written once.
//! Only a lot for which there is no room any more, and the seal of a lot whose rows are there already, are written
//! before the end of the transaction.
//!
//! The sendings that the events name, and which of the accepted lots are there already, are read at once. Other lots and words
//! are read when the fold comes to them: which ones depends on what is in memory, and nearly all are.
//!
//! The messages of a lot are there from its acceptance, but belong to nobody until the seal of their sending: queries
//! return only sealed sendings.

mod attempt;
mod codes;
mod counters;
mod facets;
mod fold;
mod known;
mod lot;
mod measured;
mod queries;
mod row;
mod schema;
mod search;
mod sendings;
mod statistics;
mod statistics_query;
mod tally;
mod views;
mod word_numbers;

pub use codes::MessageStatus;
pub use counters::{Counted, Counter, Counts};
pub use known::{KnownAttempt, KnownMessage, KnownPause, KnownSending, RelayTotals, SendingState, Totals};
pub(crate) use measured::{Measured, measured};
pub use queries::{DeliveryQueries, MessageFilter, SendingFilter};
pub use search::MessageSearch;
pub use statistics_query::{Dimension, StatisticsQuery, StatisticsRow};

use kite_domain::address::identity;
use kite_domain::event::{Event, EventKind};
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::LotAccepted;
use kite_domain::sending::SendingAccepted;
use kite_event_store::{Filter, RecordedEvent};
use std::collections::BTreeSet;

use crate::cache::Cache;
use crate::engine::{StorageError, Tables};
use crate::error::ApplyError;
use crate::read_model::ReadModel;
use crate::table::{Pick, Statement, Table};
use facets::Facets;
use fold::Fold;
use lot::{Lot, Seal};
use sendings::{Moment, Sendings};
use statistics::Statistics;
use tally::Tally;
use word_numbers::Words;

/// How many ordinary messages are kept in memory between transactions; fewer if relays have said much about them.
const CACHED_MESSAGES_MAX: usize = 100_000;
/// The same where the tables are on a server.
const CACHED_MESSAGES_OF_SERVER_MAX: usize = 400_000;

/// The fold of the delivery results.
#[derive(Debug)]
pub(crate) struct DeliveryModel {
    messages_max: usize,
    lots: Cache<LotId, Lot>,
    words: Words,
    statistics: Statistics,
    facets: Facets,
    sendings: Sendings,
    /// Lots that may have changed in this transaction, in the order of their first change.
    touched: Vec<LotId>,
    /// Of the lots that are accepted in this transaction, those of which there are rows, or will be.
    stored: BTreeSet<LotId>,
    /// Rows of `search` of this transaction: block, hash, message.
    search: Vec<(i64, i64, i64)>,
    /// The next free row number in `messages`.
    next_message: Option<i64>,
}

impl Default for DeliveryModel {
    fn default() -> Self {
        Self::with_capacity(CACHED_MESSAGES_MAX)
    }
}

impl DeliveryModel {
    /// Keeps at most about this many ordinary messages in memory.
    pub(crate) fn with_capacity(messages_max: usize) -> Self {
        Self {
            messages_max,
            lots: Cache::new(messages_max * lot::MESSAGE_BYTES),
            words: Words::default(),
            statistics: Statistics::default(),
            facets: Facets::default(),
            sendings: Sendings::default(),
            touched: Vec::new(),
            stored: BTreeSet::new(),
            search: Vec::new(),
            next_message: None,
        }
    }
}

impl ReadModel for DeliveryModel {
    const NAME: &'static str = "delivery";
    const SCHEMA_VERSION: i64 = 4;
    const CACHE_BYTES: usize = 32 * 1024 * 1024;
    const TABLES: &'static [&'static Table] = schema::TABLES;

    fn views(schema: &str) -> String {
        views::views(schema)
    }

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
        ])
    }

    fn keep_more(&mut self) {
        *self = Self::with_capacity(CACHED_MESSAGES_OF_SERVER_MAX);
    }

    fn forget(&mut self) {
        *self = Self::with_capacity(self.messages_max);
    }

    fn apply(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        self.prefetch(tables, events)?;
        for (place, (recorded, event)) in events.iter().enumerate() {
            match event {
                Event::LotAccepted(accepted) => {
                    self.lot_accepted(tables, accepted, place, recorded)?;
                }
                Event::SendingAccepted(accepted) => {
                    if self.sendings.accepted(tables, accepted, recorded.metadata.time.timestamp_millis())? {
                        self.sealed(tables, accepted, recorded.metadata.time.timestamp_millis())?;
                    }
                }
                Event::SendingReleased(released) => {
                    self.moment(tables, released.sending, Moment::Released, recorded)?;
                }
                Event::SendingPaused(paused) => {
                    self.sendings.paused(tables, paused, recorded.metadata.time.timestamp_millis())?;
                }
                Event::SendingResumed(resumed) => self.sendings.resumed(tables, resumed.sending)?,
                Event::SendingCancelled(cancelled) => {
                    self.moment(tables, cancelled.sending, Moment::Cancelled, recorded)?;
                }
                Event::SendingCompleted(completed) => {
                    self.moment(tables, completed.sending, Moment::Completed, recorded)?;
                }
                Event::SendingAbandoned(abandoned) => {
                    self.moment(tables, abandoned.sending, Moment::Abandoned, recorded)?;
                }
                _ => self.lot_event(tables, recorded, event)?,
            }
            self.let_go(tables, events)?;
        }
        self.flush(tables, events)
    }
}

impl DeliveryModel {
    /// Reads in advance the rows that the events will need.
    fn prefetch(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        let sendings: BTreeSet<SendingId> = events
            .iter()
            .filter_map(|(recorded, _)| match LotId::from_stream(&recorded.stream) {
                Some(lot) => Some(lot.sending),
                None => SendingId::from_stream(&recorded.stream),
            })
            .collect();
        self.sendings.prefetch(tables, sendings)?;
        let accepted = events.iter().filter_map(|(_, event)| match event {
            Event::LotAccepted(accepted) => {
                Some(LotId { sending: accepted.sending, number: accepted.number })
            }
            _ => None,
        });
        let unknown = accepted.filter(|id| !self.lots.contains(*id)).collect();
        self.stored = Lot::stored_among(tables, &unknown)?;
        Ok(())
    }

    fn moment(
        &mut self,
        tables: Tables<'_>,
        sending: SendingId,
        moment: Moment,
        recorded: &RecordedEvent,
    ) -> Result<(), StorageError> {
        self.sendings.moment(tables, sending, moment, recorded.metadata.time.timestamp_millis())
    }

    fn lot_accepted(
        &mut self,
        tables: Tables<'_>,
        accepted: &LotAccepted,
        place: usize,
        recorded: &RecordedEvent,
    ) -> Result<(), ApplyError> {
        let id = LotId { sending: accepted.sending, number: accepted.number };
        // Some are accepted twice in the log; what is written within this transaction is in memory, or was.
        if self.lots.contains(id) || self.stored.contains(&id) {
            return Ok(());
        }
        self.stored.insert(id);
        let tenant = self.words.number(tables, accepted.tenant.as_str())?;
        let first = match self.next_message {
            Some(next) => next,
            None => Lot::next_message(tables)?,
        };
        let mut lot = Lot::new(accepted, place, first, tenant, recorded.metadata.time.timestamp_millis());
        self.next_message = Some(first + lot.messages.len() as i64);
        // Its lots come before the seal; whoever says otherwise is believed.
        if self.sendings.facts(tables, id.sending)?.is_sealed {
            let (seal, accepted_ms) = self.stored_seal(tables, id.sending)?;
            let (statistics, facets) = (&mut self.statistics, &mut self.facets);
            let mut tally = Tally { statistics, facets, sending: self.sendings.change(id.sending) };
            tally.sealed(&mut lot, seal, accepted_ms);
        }
        let bytes = lot.memory_bytes();
        self.lots.insert(id, lot, bytes);
        self.touched.push(id);
        Ok(())
    }

    fn lot_event(
        &mut self,
        tables: Tables<'_>,
        recorded: &RecordedEvent,
        event: &Event,
    ) -> Result<(), ApplyError> {
        let Some(id) = LotId::from_stream(&recorded.stream) else { return Ok(()) };
        if !self.lots.contains(id) {
            let Some(lot) = Lot::load(tables, id)? else { return Ok(()) };
            let bytes = lot.memory_bytes();
            self.lots.insert(id, lot, bytes);
        }
        let facts = self.sendings.facts(tables, id.sending)?;
        let Some(lot) = self.lots.get_mut(id) else { return Ok(()) };
        let was_dirty = lot.is_dirty;
        let mut fold = Fold {
            tables,
            ready_ms: facts.released_ms.unwrap_or(lot.accepted_ms),
            lot,
            words: &mut self.words,
            tally: Tally {
                statistics: &mut self.statistics,
                facets: &mut self.facets,
                sending: self.sendings.change(id.sending),
            },
            time_ms: recorded.metadata.time.timestamp_millis(),
        };
        match event {
            Event::MessagesRouted(routed) => fold.routed(routed)?,
            Event::MessagesSubmitted(submitted) => fold.submitted(submitted),
            Event::RelayResponded(responded) => fold.responded(responded)?,
            Event::ReceiptsRecorded(receipts) => fold.received(receipts)?,
            Event::MessagesHeld(held) => fold.held(held),
            Event::MessagesFinished(finished) => fold.finished(finished)?,
            _ => {}
        }
        if lot_is_dirty(&mut self.lots, id) && !was_dirty {
            self.touched.push(id);
        }
        Ok(())
    }

    /// From the seal on a sending's messages belong to its tenant, and count.
    fn sealed(
        &mut self,
        tables: Tables<'_>,
        accepted: &SendingAccepted,
        accepted_ms: i64,
    ) -> Result<(), ApplyError> {
        let sending = accepted.sending;
        let senders = [accepted.from_phone.as_deref(), accepted.from_email.as_deref()];
        let seal = self.seal(tables, senders)?;
        let named = (0..accepted.lots).map(|number| LotId { sending, number });
        // Nearly always all of its lots were accepted a moment ago.
        let lots: Vec<LotId> = match named.clone().all(|id| self.lots.contains(id)) {
            true => named.collect(),
            false => self.lots_of(tables, sending)?,
        };
        for id in lots {
            let mut loaded = match self.lots.contains(id) {
                true => None,
                false => Lot::load(tables, id)?,
            };
            let Some(lot) = loaded.as_mut().or_else(|| self.lots.peek_mut(id)) else { continue };
            let (statistics, facets) = (&mut self.statistics, &mut self.facets);
            let mut tally = Tally { statistics, facets, sending: self.sendings.change(sending) };
            tally.sealed(lot, seal, accepted_ms);
            if lot.accepted_by.is_none() {
                lot.update_seal(tables)?;
            }
        }
        Ok(())
    }

    fn seal(
        &mut self,
        tables: Tables<'_>,
        [from_phone, from_email]: [Option<&str>; 2],
    ) -> Result<Seal, StorageError> {
        Ok(Seal {
            from_phone: self.words.number(tables, &identity(from_phone.unwrap_or_default()))?,
            from_email: self.words.number(tables, &identity(from_email.unwrap_or_default()))?,
        })
    }

    /// The seal of a sending that has one, and its time.
    fn stored_seal(&mut self, tables: Tables<'_>, sending: SendingId) -> Result<(Seal, i64), StorageError> {
        let [phone, email] = self.sendings.senders(tables, sending)?;
        let accepted_ms = self.sendings.accepted_ms(tables, sending)?;
        Ok((self.seal(tables, [phone.as_deref(), email.as_deref()])?, accepted_ms))
    }

    /// All lots that there are of a sending.
    fn lots_of(&self, tables: Tables<'_>, sending: SendingId) -> Result<Vec<LotId>, StorageError> {
        let mut numbers: Vec<u32> = Lot::stored_of(tables, sending)?;
        numbers.extend(self.touched.iter().filter(|id| id.sending == sending).map(|id| id.number));
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers.into_iter().map(|number| LotId { sending, number }).collect())
    }

    /// Keeps the memory bounded, also within a transaction.
    fn let_go(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        while let Some((_, mut lot)) = self.lots.pop_surplus() {
            write(tables, &mut lot, events, &mut self.search)?;
        }
        Ok(())
    }

    fn flush(&mut self, tables: Tables<'_>, events: &[(RecordedEvent, Event)]) -> Result<(), ApplyError> {
        for id in self.touched.drain(..) {
            if let Some(lot) = self.lots.peek_mut(id) {
                write(tables, lot, events, &mut self.search)?;
                let bytes = lot.memory_bytes();
                self.lots.weigh(id, bytes);
            }
        }
        write_search(tables, &mut self.search)?;
        self.words.flush(tables)?;
        self.statistics.flush(tables)?;
        self.facets.flush(tables)?;
        self.sendings.flush(tables)?;
        Ok(())
    }
}

fn lot_is_dirty(lots: &mut Cache<LotId, Lot>, id: LotId) -> bool {
    lots.peek_mut(id).is_some_and(|lot| lot.is_dirty)
}

fn write(
    tables: Tables<'_>,
    lot: &mut Lot,
    events: &[(RecordedEvent, Event)],
    search: &mut Vec<(i64, i64, i64)>,
) -> Result<(), StorageError> {
    let accepted = lot.accepted_by.and_then(|place| events.get(place));
    let recipients = match accepted {
        Some((_, Event::LotAccepted(accepted))) => Some(accepted.personal.recipients.as_slice()),
        _ => None,
    };
    lot.flush(tables, recipients, search)
}

static ADD_TO_SEARCH: Statement = Statement::insert(&schema::SEARCH, Pick::All);

/// In the order of the table, which is cheaper than in the order of acceptance.
fn write_search(tables: Tables<'_>, search: &mut Vec<(i64, i64, i64)>) -> Result<(), StorageError> {
    if search.is_empty() {
        return Ok(());
    }
    search.sort_unstable();
    search.dedup();
    let mut cells = tables.fill(&ADD_TO_SEARCH)?;
    for (block, hash, message) in search.drain(..) {
        cells.put(block);
        cells.put(hash);
        cells.put(message);
        cells.end()?;
    }
    Ok(())
}
