//! Delivery results: sendings, messages with their timelines, statistics, and what relays did minute by minute.
//!
//! The fold keeps lots in memory up to a bound and reads them back from their rows when they come up again. A whole
//! piece of the log is folded in memory; a message that passed through several states in it is written once.
//!
//! The messages of a lot are there from its acceptance, but belong to nobody until the seal of their sending: queries
//! answer for sealed sendings only.

mod attempt;
mod codes;
mod counters;
mod facets;
mod figures;
mod fold;
mod lot;
mod queries;
mod row;
mod schema;
mod search;
mod sendings;
mod statistics;
mod statistics_query;
mod tally;
mod views;
mod words;

pub use codes::MessageStatus;
pub use counters::{Counted, Counter, Counts};
pub(crate) use figures::{Measured, measured};
pub use queries::{DeliveryQueries, MessageFilter, SendingFilter};
pub use search::MessageSearch;
pub use statistics_query::{Dimension, StatisticsQuery, StatisticsRow};
pub use views::{AttemptView, MessageView, PauseView, RelayTotals, SendingState, SendingView, Totals};

use kite_domain::address::identity;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::LotAccepted;
use kite_domain::sending::SendingAccepted;
use kite_event_store::{Filter, RecordedEvent};
use rusqlite::{Connection, Transaction};

use crate::cache::Cache;
use crate::error::ApplyError;
use crate::projector::ReadModel;
use crate::table::Table;
use facets::Facets;
use fold::Fold;
use lot::{Lot, Seal};
use sendings::{Moment, Sendings};
use statistics::Statistics;
use tally::Tally;
use words::Words;

/// How many ordinary messages are kept in memory between transactions, and fewer for which relays have said much.
const CACHED_MESSAGES_MAX: usize = 100_000;

/// The fold of the delivery results.
#[derive(Debug)]
pub struct DeliveryModel {
    lots: Cache<LotId, Lot>,
    words: Words,
    statistics: Statistics,
    facets: Facets,
    sendings: Sendings,
    /// Lots that may have changed in this transaction, in the order of their first change.
    touched: Vec<LotId>,
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
            lots: Cache::new(messages_max * lot::MESSAGE_BYTES),
            words: Words::default(),
            statistics: Statistics::default(),
            facets: Facets::default(),
            sendings: Sendings::default(),
            touched: Vec::new(),
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

    fn filter() -> Filter {
        Filter::kinds([
            "sending-accepted",
            "sending-abandoned",
            "sending-released",
            "sending-paused",
            "sending-resumed",
            "sending-cancelled",
            "sending-completed",
            "lot-accepted",
            "messages-routed",
            "messages-submitted",
            "relay-responded",
            "receipts-recorded",
            "messages-held",
            "messages-finished",
        ])
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[(RecordedEvent, Event)],
    ) -> Result<(), ApplyError> {
        for (place, (recorded, event)) in events.iter().enumerate() {
            match event {
                Event::LotAccepted(accepted) => {
                    self.lot_accepted(transaction, accepted, place, recorded)?;
                }
                Event::SendingAccepted(accepted) => {
                    if self.sendings.accepted(transaction, accepted, recorded.metadata.time)? {
                        self.sealed(transaction, accepted, recorded.metadata.time.timestamp_millis())?;
                    }
                }
                Event::SendingReleased(released) => {
                    self.moment(transaction, released.sending, Moment::Released, recorded)?;
                }
                Event::SendingPaused(paused) => {
                    self.sendings.paused(transaction, paused, recorded.metadata.time)?;
                }
                Event::SendingResumed(resumed) => self.sendings.resumed(transaction, resumed.sending)?,
                Event::SendingCancelled(cancelled) => {
                    self.moment(transaction, cancelled.sending, Moment::Cancelled, recorded)?;
                }
                Event::SendingCompleted(completed) => {
                    self.moment(transaction, completed.sending, Moment::Completed, recorded)?;
                }
                Event::SendingAbandoned(abandoned) => {
                    self.moment(transaction, abandoned.sending, Moment::Abandoned, recorded)?;
                }
                _ => self.lot_event(transaction, recorded, event)?,
            }
            self.let_go(transaction, events)?;
        }
        self.flush(transaction, events)
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}

impl DeliveryModel {
    fn moment(
        &mut self,
        transaction: &Transaction<'_>,
        sending: SendingId,
        moment: Moment,
        recorded: &RecordedEvent,
    ) -> rusqlite::Result<()> {
        self.sendings.moment(transaction, sending, moment, recorded.metadata.time)
    }

    fn lot_accepted(
        &mut self,
        transaction: &Transaction<'_>,
        accepted: &LotAccepted,
        place: usize,
        recorded: &RecordedEvent,
    ) -> Result<(), ApplyError> {
        let id = LotId { sending: accepted.sending, number: accepted.number };
        if self.lots.contains(id) || is_stored(transaction, id)? {
            return Ok(());
        }
        let tenant = self.words.number(transaction, accepted.tenant.as_str())?;
        let first = match self.next_message {
            Some(next) => next,
            None => next_message(transaction)?,
        };
        let mut lot = Lot::new(accepted, place, first, tenant, recorded.metadata.time.timestamp_millis());
        self.next_message = Some(first + lot.messages.len() as i64);
        // Its lots come before the seal; whoever says otherwise is believed.
        if self.sendings.facts(transaction, id.sending)?.is_sealed {
            let (seal, accepted_ms) = self.stored_seal(transaction, id.sending)?;
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
        transaction: &Transaction<'_>,
        recorded: &RecordedEvent,
        event: &Event,
    ) -> Result<(), ApplyError> {
        let Some(id) = LotId::from_stream(&recorded.stream) else { return Ok(()) };
        if !self.lots.contains(id) {
            let Some(lot) = Lot::load(transaction, id)? else { return Ok(()) };
            let bytes = lot.memory_bytes();
            self.lots.insert(id, lot, bytes);
        }
        let facts = self.sendings.facts(transaction, id.sending)?;
        let Some(lot) = self.lots.get_mut(id) else { return Ok(()) };
        let was_dirty = lot.is_dirty;
        let mut fold = Fold {
            connection: transaction,
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

    /// From the seal on a sending's messages are its tenant's, and count.
    fn sealed(
        &mut self,
        transaction: &Transaction<'_>,
        accepted: &SendingAccepted,
        accepted_ms: i64,
    ) -> Result<(), ApplyError> {
        let sending = accepted.sending;
        let senders = [accepted.from_phone.as_deref(), accepted.from_email.as_deref()];
        let seal = self.seal(transaction, senders)?;
        let named = (0..accepted.lots).map(|number| LotId { sending, number });
        // Nearly always all of its lots were accepted a moment ago.
        let lots: Vec<LotId> = match named.clone().all(|id| self.lots.contains(id)) {
            true => named.collect(),
            false => self.lots_of(transaction, sending)?,
        };
        for id in lots {
            let mut loaded = match self.lots.contains(id) {
                true => None,
                false => Lot::load(transaction, id)?,
            };
            let Some(lot) = loaded.as_mut().or_else(|| self.lots.peek_mut(id)) else { continue };
            let (statistics, facets) = (&mut self.statistics, &mut self.facets);
            let mut tally = Tally { statistics, facets, sending: self.sendings.change(sending) };
            tally.sealed(lot, seal, accepted_ms);
            if lot.accepted_by.is_none() {
                lot.update_seal(transaction)?;
            }
        }
        Ok(())
    }

    fn seal(
        &mut self,
        transaction: &Transaction<'_>,
        [from_phone, from_email]: [Option<&str>; 2],
    ) -> rusqlite::Result<Seal> {
        Ok(Seal {
            from_phone: self.words.number(transaction, &identity(from_phone.unwrap_or_default()))?,
            from_email: self.words.number(transaction, &identity(from_email.unwrap_or_default()))?,
        })
    }

    /// The seal of a sending that has one, and its time.
    fn stored_seal(
        &mut self,
        transaction: &Transaction<'_>,
        sending: SendingId,
    ) -> rusqlite::Result<(Seal, i64)> {
        let (senders, accepted_ms): ([Option<String>; 2], i64) = transaction
            .prepare_cached(
                "SELECT from_phone, from_email, accepted_ms FROM contents JOIN sendings ON id = sending WHERE sending = ?1",
            )?
            .query_row([sending.0.as_bytes()], |row| Ok(([row.get(0)?, row.get(1)?], row.get(2)?)))?;
        Ok((self.seal(transaction, [senders[0].as_deref(), senders[1].as_deref()])?, accepted_ms))
    }

    /// All lots that there are of a sending.
    fn lots_of(&self, transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<Vec<LotId>> {
        let mut numbers: Vec<u32> = stored_lots(transaction, sending)?;
        numbers.extend(self.touched.iter().filter(|id| id.sending == sending).map(|id| id.number));
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers.into_iter().map(|number| LotId { sending, number }).collect())
    }

    /// Keeps the memory bounded, also within a transaction.
    fn let_go(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[(RecordedEvent, Event)],
    ) -> Result<(), ApplyError> {
        while let Some((_, mut lot)) = self.lots.pop_surplus() {
            write(transaction, &mut lot, events, &mut self.search)?;
        }
        Ok(())
    }

    fn flush(
        &mut self,
        transaction: &Transaction<'_>,
        events: &[(RecordedEvent, Event)],
    ) -> Result<(), ApplyError> {
        for id in self.touched.drain(..) {
            if let Some(lot) = self.lots.peek_mut(id) {
                write(transaction, lot, events, &mut self.search)?;
                let bytes = lot.memory_bytes();
                self.lots.weigh(id, bytes);
            }
        }
        write_search(transaction, &mut self.search)?;
        self.statistics.flush(transaction)?;
        self.facets.flush(transaction)?;
        self.sendings.flush(transaction)?;
        Ok(())
    }
}

fn lot_is_dirty(lots: &mut Cache<LotId, Lot>, id: LotId) -> bool {
    lots.peek_mut(id).is_some_and(|lot| lot.is_dirty)
}

fn write(
    transaction: &Transaction<'_>,
    lot: &mut Lot,
    events: &[(RecordedEvent, Event)],
    search: &mut Vec<(i64, i64, i64)>,
) -> rusqlite::Result<()> {
    let accepted = lot.accepted_by.and_then(|place| events.get(place));
    let recipients = match accepted {
        Some((_, Event::LotAccepted(accepted))) => Some(accepted.personal.recipients.as_slice()),
        _ => None,
    };
    lot.flush(transaction, recipients, search)
}

/// In the order of the table, which is cheaper than in the order of acceptance.
fn write_search(transaction: &Transaction<'_>, search: &mut Vec<(i64, i64, i64)>) -> rusqlite::Result<()> {
    search.sort_unstable();
    search.dedup();
    let mut insert =
        transaction.prepare_cached("INSERT INTO search (block, hash, message) VALUES (?1, ?2, ?3)")?;
    search.drain(..).try_for_each(|row| insert.execute(row).map(drop))
}

fn is_stored(connection: &Connection, id: LotId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM lots WHERE sending = ?1 AND number = ?2")?
        .exists((id.sending.0.as_bytes(), id.number))
}

fn stored_lots(connection: &Connection, sending: SendingId) -> rusqlite::Result<Vec<u32>> {
    let mut statement = connection.prepare_cached("SELECT number FROM lots WHERE sending = ?1")?;
    let rows = statement.query_map([sending.0.as_bytes()], |row| row.get(0))?;
    rows.collect()
}

fn next_message(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT coalesce((SELECT first + messages FROM lots ORDER BY first DESC LIMIT 1), 1)",
        [],
        |row| row.get(0),
    )
}
