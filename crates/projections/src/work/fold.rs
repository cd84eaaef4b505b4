//! What an event does to the open work.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::load::LoadKind;
use kite_domain::lot::{Lot, LotAccepted};
use kite_domain::receipt::{ParkedReceiptsSettled, ReceiptsParked};
use kite_domain::sending::{MessageClass, SendingAccepted};
use kite_domain::slug::TenantId;
use kite_event_store::RecordedEvent;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};

use super::{WorkModel, kept_bytes, relay_words};
use crate::error::ApplyError;
use crate::sql::{json, signed};

/// Past this many, what is remembered of sendings starts anew.
const SENDINGS_MAX: usize = 16_384;

/// Their places are what stands in the column.
pub(super) const LOAD_KINDS: [LoadKind; 3] = [LoadKind::Ordinary, LoadKind::Password, LoadKind::Scheduled];

/// What has to be known of an open sending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    expires_ms: i64,
    /// As what its messages count.
    kind: LoadKind,
}

/// What has to be written at the end of the transaction.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Lots of sealed sendings that something happened to.
    touched: BTreeSet<LotId>,
    /// More open messages, or fewer, by tenant.
    loads: BTreeMap<(TenantId, LoadKind), i64>,
}

impl Change {
    fn count(&mut self, tenant: &TenantId, kind: LoadKind, messages: i64) {
        if messages != 0 {
            *self.loads.entry((tenant.clone(), kind)).or_default() += messages;
        }
    }
}

/// The place of a class in the order of urgency.
pub(super) fn urgency(class: MessageClass) -> i64 {
    match class {
        MessageClass::Otp => 0,
        MessageClass::Notice => 1,
        MessageClass::Ad => 2,
    }
}

/// Where the lot was accepted in its stream, if it is open work or waits for its seal.
pub(super) fn accepted_version(connection: &Connection, id: LotId) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached(
            "SELECT version FROM open_lots WHERE sending = ?1 AND number = ?2
             UNION ALL SELECT version FROM unsealed_lots WHERE sending = ?1 AND number = ?2 LIMIT 1",
        )?
        .query_row(params![id.sending.0.as_bytes(), id.number], |row| row.get::<_, i64>(0))
        .optional()
        .map(|version| version.map(|version| version as u64))
}

impl WorkModel {
    pub(super) fn fold_event(
        &mut self,
        transaction: &Transaction<'_>,
        recorded: &RecordedEvent,
        event: &Event,
    ) -> Result<(), ApplyError> {
        let time_ms = recorded.metadata.time.timestamp_millis();
        match event {
            Event::LotAccepted(accepted) => self.lot_accepted(transaction, accepted, recorded),
            Event::SendingAccepted(accepted) => self.sealed(transaction, accepted, time_ms),
            Event::SendingAbandoned(abandoned) => self.abandoned(transaction, abandoned.sending),
            Event::SendingReleased(released) => self.released(transaction, released.sending),
            Event::SendingPaused(paused) => set_paused(transaction, paused.sending, true),
            Event::SendingResumed(resumed) => set_paused(transaction, resumed.sending, false),
            Event::SendingCancelled(cancelled) => set_cancelled(transaction, cancelled.sending),
            Event::SendingCompleted(completed) => self.completed(transaction, completed.sending),
            Event::ReceiptsParked(parked) => park(transaction, parked, time_ms),
            Event::ParkedReceiptsSettled(settled) => settle(transaction, settled),
            Event::RelayNotUnderstood(said) => relay_words::keep(transaction, said, recorded),
            Event::RelayResponded(responded) => {
                relay_words::count_responded(transaction, responded, time_ms)?;
                self.lot_event(transaction, recorded, event)
            }
            Event::ReceiptsRecorded(reported) => {
                relay_words::count_reported(transaction, reported, time_ms)?;
                self.lot_event(transaction, recorded, event)
            }
            _ => self.lot_event(transaction, recorded, event),
        }
        .map_err(ApplyError::from)
    }

    fn lot_accepted(
        &mut self,
        transaction: &Transaction<'_>,
        accepted: &LotAccepted,
        recorded: &RecordedEvent,
    ) -> rusqlite::Result<()> {
        let id = LotId { sending: accepted.sending, number: accepted.number };
        let is_known = accepted_version(transaction, id)?.is_some();
        if is_known || self.known(transaction, id.sending)?.is_some() {
            return Ok(());
        }
        let lot = Lot::new(accepted);
        transaction
            .prepare_cached(
                "INSERT INTO unsealed_lots (sending, number, version, tenant, class, messages, accepted_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                id.sending.0.as_bytes(),
                id.number,
                signed(recorded.version),
                accepted.tenant.as_str(),
                urgency(accepted.class),
                lot.len() as i64,
                recorded.metadata.time.timestamp_millis()
            ])?;
        self.keep(id, lot);
        Ok(())
    }

    /// The seal makes the lots work: everything in them waits for its route, until the sending expires.
    fn sealed(
        &mut self,
        transaction: &Transaction<'_>,
        accepted: &SendingAccepted,
        time_ms: i64,
    ) -> rusqlite::Result<()> {
        let id = accepted.sending;
        if self.known(transaction, id)?.is_some() {
            return Ok(());
        }
        let expires_ms = accepted.expires_at.timestamp_millis();
        transaction
            .prepare_cached(
                "INSERT INTO open_lots (sending, number, version, tenant, class, open, has_unrouted, has_pending,
                     next_due_ms, next_end_ms)
                 SELECT sending, number, version, tenant, class, messages, 1, 0, ?2, ?2 FROM unsealed_lots
                 WHERE sending = ?1 AND messages > 0",
            )?
            .execute(params![id.0.as_bytes(), expires_ms])?;
        let scheduled_ms = accepted.scheduled_at.map(|at| at.timestamp_millis());
        let open: i64 = transaction
            .prepare_cached(
                "INSERT INTO open_sendings (id, tenant, class, accepted_ms, scheduled_ms, expires_ms, released,
                     paused, cancelled, lots, lots_routed, open_messages)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, count(*), coalesce(sum(messages = 0), 0),
                     coalesce(sum(messages), 0)
                 FROM unsealed_lots WHERE sending = ?1
                 RETURNING open_messages",
            )?
            .query_row(
                params![
                    id.0.as_bytes(),
                    accepted.tenant.as_str(),
                    urgency(accepted.class),
                    time_ms,
                    scheduled_ms,
                    expires_ms
                ],
                |row| row.get(0),
            )?;
        remove_unsealed(transaction, id)?;
        let kind = LoadKind::of(accepted.class, scheduled_ms.is_some_and(|at_ms| at_ms > time_ms));
        self.change.count(&accepted.tenant, kind, open);
        self.sendings.insert(id, Some(Known { expires_ms, kind }));
        Ok(())
    }

    fn abandoned(&mut self, transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<()> {
        let mut statement =
            transaction.prepare_cached("SELECT number FROM unsealed_lots WHERE sending = ?1")?;
        let numbers = statement.query_map([sending.0.as_bytes()], |row| row.get::<_, u32>(0))?;
        for number in numbers {
            self.lots.remove(LotId { sending, number: number? });
        }
        remove_unsealed(transaction, sending)
    }

    fn completed(&mut self, transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached("SELECT number FROM open_lots WHERE sending = ?1")?;
        let numbers = statement.query_map([sending.0.as_bytes()], |row| row.get::<_, u32>(0))?;
        for number in numbers {
            let id = LotId { sending, number: number? };
            self.lots.remove(id);
            self.change.touched.remove(&id);
        }
        let known = self.known(transaction, sending)?;
        transaction
            .prepare_cached("DELETE FROM open_lots WHERE sending = ?1")?
            .execute([sending.0.as_bytes()])?;
        let left = transaction
            .prepare_cached("DELETE FROM open_sendings WHERE id = ?1 RETURNING tenant, open_messages")?
            .query_row([sending.0.as_bytes()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        if let (Some(known), Some((tenant, open))) = (known, left) {
            self.change.count(&TenantId::from_trusted(tenant), known.kind, -open);
        }
        self.sendings.insert(sending, None);
        Ok(())
    }

    /// What was scheduled is due, and counts as open from now on.
    fn released(&mut self, transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<()> {
        let before = self.known(transaction, sending)?;
        let released = transaction
            .prepare_cached(
                "UPDATE open_sendings SET released = 1 WHERE id = ?1 RETURNING tenant, class, open_messages",
            )?
            .query_row([sending.0.as_bytes()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })
            .optional()?;
        let (Some(before), Some((tenant, class, open))) = (before, released) else { return Ok(()) };
        let tenant = TenantId::from_trusted(tenant);
        let kind = kind_of(class, false);
        self.change.count(&tenant, before.kind, -open);
        self.change.count(&tenant, kind, open);
        self.sendings.insert(sending, Some(Known { kind, ..before }));
        Ok(())
    }

    /// A lot that is neither in memory nor was supplied has nothing left to do.
    fn lot_event(
        &mut self,
        transaction: &Transaction<'_>,
        recorded: &RecordedEvent,
        event: &Event,
    ) -> rusqlite::Result<()> {
        let Some(id) = LotId::from_stream(&recorded.stream) else { return Ok(()) };
        let is_sealed = self.known(transaction, id.sending)?.is_some();
        if let Some(lot) = self.lots.get_mut(id) {
            lot.evolve(event);
            if is_sealed {
                self.change.touched.insert(id);
            }
        }
        Ok(())
    }

    /// What is to be known of the sending, if it is sealed and not completed.
    fn known(&mut self, connection: &Connection, sending: SendingId) -> rusqlite::Result<Option<Known>> {
        if let Some(known) = self.sendings.get(&sending) {
            return Ok(*known);
        }
        let stored = connection
            .prepare_cached(
                "SELECT expires_ms, class, released = 0 AND coalesce(scheduled_ms > accepted_ms, 0)
                 FROM open_sendings WHERE id = ?1",
            )?
            .query_row([sending.0.as_bytes()], |row| {
                Ok(Known { expires_ms: row.get(0)?, kind: kind_of(row.get(1)?, row.get(2)?) })
            })
            .optional()?;
        if self.sendings.len() >= SENDINGS_MAX {
            self.sendings.clear();
        }
        self.sendings.insert(sending, stored);
        Ok(stored)
    }

    pub(super) fn flush(&mut self, transaction: &Transaction<'_>) -> Result<(), ApplyError> {
        for id in std::mem::take(&mut self.change.touched) {
            let known = self.known(transaction, id.sending)?;
            let Some(lot) = self.lots.peek_mut(id) else { continue };
            let (remaining, more) =
                write_lot(transaction, id, lot, known.map_or(i64::MAX, |known| known.expires_ms))?;
            if let Some(known) = known {
                self.change.count(&lot.tenant, known.kind, more);
            }
            match remaining {
                Remaining::Nothing => drop(self.lots.remove(id)),
                Remaining::Something => {
                    let bytes = kept_bytes(lot);
                    self.lots.weigh(id, bytes);
                }
            }
        }
        write_loads(transaction, std::mem::take(&mut self.change.loads))?;
        Ok(())
    }
}

fn kind_of(class: i64, is_scheduled: bool) -> LoadKind {
    let class = if class == urgency(MessageClass::Otp) { MessageClass::Otp } else { MessageClass::Notice };
    LoadKind::of(class, is_scheduled)
}

fn write_loads(
    transaction: &Transaction<'_>,
    loads: BTreeMap<(TenantId, LoadKind), i64>,
) -> rusqlite::Result<()> {
    // Whether there is a row must not depend on what a transaction happened to hold together.
    let mut tidy =
        transaction.prepare_cached("DELETE FROM loads WHERE tenant = ?1 AND kind = ?2 AND messages = 0")?;
    let mut write = transaction.prepare_cached(
        "INSERT INTO loads (tenant, kind, messages) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET messages = messages + ?3",
    )?;
    for ((tenant, kind), messages) in loads {
        let kind = LOAD_KINDS.iter().position(|known| *known == kind).unwrap_or(0) as i64;
        write.execute(params![tenant.as_str(), kind, messages])?;
        tidy.execute(params![tenant.as_str(), kind])?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remaining {
    Something,
    Nothing,
}

/// Writes the lot's row, and what changed into the row of its sending. Answers also how many more messages are open.
fn write_lot(
    transaction: &Transaction<'_>,
    id: LotId,
    lot: &Lot,
    expires_ms: i64,
) -> rusqlite::Result<(Remaining, i64)> {
    let key = params![id.sending.0.as_bytes(), id.number];
    let before: Option<(i64, bool)> = transaction
        .prepare_cached("SELECT open, has_unrouted FROM open_lots WHERE sending = ?1 AND number = ?2")?
        .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((open_before, unrouted_before)) = before else { return Ok((Remaining::Nothing, 0)) };
    let open = i64::from(lot.counts().open);
    let has_unrouted = open > 0 && lot.has_unrouted();
    if open == 0 {
        let sql = "DELETE FROM open_lots WHERE sending = ?1 AND number = ?2";
        transaction.prepare_cached(sql)?.execute(key)?;
    } else {
        let expires_at =
            DateTime::<Utc>::from_timestamp_millis(expires_ms).unwrap_or(DateTime::<Utc>::MAX_UTC);
        transaction
            .prepare_cached(
                "UPDATE open_lots SET open = ?3, has_unrouted = ?4, has_pending = ?5, next_due_ms = ?6,
                     next_end_ms = ?7
                 WHERE sending = ?1 AND number = ?2",
            )?
            .execute(params![
                id.sending.0.as_bytes(),
                id.number,
                open,
                has_unrouted,
                !lot.pending().is_empty(),
                lot.next_due_ms(expires_at),
                lot.next_end_ms(expires_at).unwrap_or(expires_ms)
            ])?;
    }
    if open != open_before || has_unrouted != unrouted_before {
        transaction
            .prepare_cached(
                "UPDATE open_sendings SET open_messages = open_messages + ?2, lots_routed = lots_routed + ?3
                 WHERE id = ?1",
            )?
            .execute(params![
                id.sending.0.as_bytes(),
                open - open_before,
                i64::from(unrouted_before) - i64::from(has_unrouted)
            ])?;
    }
    let remaining = if open == 0 { Remaining::Nothing } else { Remaining::Something };
    Ok((remaining, open - open_before))
}

fn remove_unsealed(transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM unsealed_lots WHERE sending = ?1";
    transaction.prepare_cached(sql)?.execute([sending.0.as_bytes()]).map(drop)
}

fn set_paused(transaction: &Transaction<'_>, sending: SendingId, is_paused: bool) -> rusqlite::Result<()> {
    let sql = "UPDATE open_sendings SET paused = ?2 WHERE id = ?1";
    transaction.prepare_cached(sql)?.execute(params![sending.0.as_bytes(), is_paused]).map(drop)
}

fn set_cancelled(transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<()> {
    let sql = "UPDATE open_sendings SET cancelled = 1 WHERE id = ?1";
    transaction.prepare_cached(sql)?.execute([sending.0.as_bytes()]).map(drop)
}

fn park(transaction: &Transaction<'_>, parked: &ReceiptsParked, time_ms: i64) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO parked_receipts (relay, reference, status, code, relay_reference, at_ms, parked_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
    )?;
    for receipt in &parked.receipts {
        insert.execute(params![
            parked.relay.as_str(),
            receipt.reference.as_str(),
            json(&receipt.status),
            receipt.code.as_str(),
            receipt.relay_reference.as_deref(),
            receipt.at.timestamp_millis(),
            time_ms
        ])?;
    }
    Ok(())
}

fn settle(transaction: &Transaction<'_>, settled: &ParkedReceiptsSettled) -> rusqlite::Result<()> {
    let sql = "DELETE FROM parked_receipts
               WHERE relay = ?1 AND reference = ?2 AND (?3 IS NULL OR status = ?3)";
    let mut delete = transaction.prepare_cached(sql)?;
    for one in settled.matched.iter().chain(&settled.given_up) {
        let status = one.status.map(|status| json(&status));
        delete.execute(params![settled.relay.as_str(), one.reference.as_str(), status])?;
    }
    Ok(())
}
