//! What an event does to the open work.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{Lot, LotAccepted};
use kite_domain::receipt::{ParkedReceiptsSettled, ReceiptsParked};
use kite_domain::sending::{MessageClass, SendingAccepted};
use kite_event_store::RecordedEvent;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeSet;

use super::{WorkModel, kept_bytes};
use crate::error::ApplyError;
use crate::sql::{json, signed};

/// Past this many the remembered expiries start anew.
const EXPIRIES_MAX: usize = 16_384;

/// What has to be written at the end of the transaction.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Lots of sealed sendings that something happened to.
    touched: BTreeSet<LotId>,
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
            Event::SendingReleased(released) => set_released(transaction, released.sending),
            Event::SendingCancelled(cancelled) => set_cancelled(transaction, cancelled.sending),
            Event::SendingCompleted(completed) => self.completed(transaction, completed.sending),
            Event::ReceiptsParked(parked) => park(transaction, parked, time_ms),
            Event::ParkedReceiptsSettled(settled) => settle(transaction, settled),
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
        if is_known || self.expires_ms(transaction, id.sending)?.is_some() {
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
        if self.expires_ms(transaction, id)?.is_some() {
            return Ok(());
        }
        let expires_ms = accepted.expires_at.timestamp_millis();
        transaction
            .prepare_cached(
                "INSERT INTO open_lots (sending, number, version, tenant, class, open, has_unrouted, has_pending,
                     next_due_ms)
                 SELECT sending, number, version, tenant, class, messages, 1, 0, ?2 FROM unsealed_lots
                 WHERE sending = ?1 AND messages > 0",
            )?
            .execute(params![id.0.as_bytes(), expires_ms])?;
        transaction
            .prepare_cached(
                "INSERT INTO open_sendings (id, tenant, class, accepted_ms, scheduled_ms, expires_ms, released,
                     cancelled, lots, lots_routed, open_messages)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, 0, 0, count(*), coalesce(sum(messages = 0), 0),
                     coalesce(sum(messages), 0)
                 FROM unsealed_lots WHERE sending = ?1",
            )?
            .execute(params![
                id.0.as_bytes(),
                accepted.tenant.as_str(),
                urgency(accepted.class),
                time_ms,
                accepted.scheduled_at.map(|at| at.timestamp_millis()),
                expires_ms
            ])?;
        remove_unsealed(transaction, id)?;
        self.expiries.insert(id, Some(expires_ms));
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
        for sql in ["DELETE FROM open_lots WHERE sending = ?1", "DELETE FROM open_sendings WHERE id = ?1"] {
            transaction.prepare_cached(sql)?.execute([sending.0.as_bytes()])?;
        }
        self.expiries.insert(sending, None);
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
        let is_sealed = self.expires_ms(transaction, id.sending)?.is_some();
        if let Some(lot) = self.lots.get_mut(id) {
            lot.evolve(event);
            if is_sealed {
                self.change.touched.insert(id);
            }
        }
        Ok(())
    }

    /// When the sending expires, if it is sealed and not completed.
    fn expires_ms(&mut self, connection: &Connection, sending: SendingId) -> rusqlite::Result<Option<i64>> {
        if let Some(known) = self.expiries.get(&sending) {
            return Ok(*known);
        }
        let stored = connection
            .prepare_cached("SELECT expires_ms FROM open_sendings WHERE id = ?1")?
            .query_row([sending.0.as_bytes()], |row| row.get(0))
            .optional()?;
        if self.expiries.len() >= EXPIRIES_MAX {
            self.expiries.clear();
        }
        self.expiries.insert(sending, stored);
        Ok(stored)
    }

    pub(super) fn flush(&mut self, transaction: &Transaction<'_>) -> Result<(), ApplyError> {
        for id in std::mem::take(&mut self.change.touched) {
            let expires_ms = self.expires_ms(transaction, id.sending)?;
            let Some(lot) = self.lots.peek_mut(id) else { continue };
            match write_lot(transaction, id, lot, expires_ms.unwrap_or(i64::MAX))? {
                Remaining::Nothing => drop(self.lots.remove(id)),
                Remaining::Something => {
                    let bytes = kept_bytes(lot);
                    self.lots.weigh(id, bytes);
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remaining {
    Something,
    Nothing,
}

/// Writes the lot's row, and what changed into the row of its sending.
fn write_lot(
    transaction: &Transaction<'_>,
    id: LotId,
    lot: &Lot,
    expires_ms: i64,
) -> rusqlite::Result<Remaining> {
    let key = params![id.sending.0.as_bytes(), id.number];
    let before: Option<(i64, bool)> = transaction
        .prepare_cached("SELECT open, has_unrouted FROM open_lots WHERE sending = ?1 AND number = ?2")?
        .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((open_before, unrouted_before)) = before else { return Ok(Remaining::Nothing) };
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
                "UPDATE open_lots SET open = ?3, has_unrouted = ?4, has_pending = ?5, next_due_ms = ?6
                 WHERE sending = ?1 AND number = ?2",
            )?
            .execute(params![
                id.sending.0.as_bytes(),
                id.number,
                open,
                has_unrouted,
                !lot.pending().is_empty(),
                lot.next_due_ms(expires_at)
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
    Ok(if open == 0 { Remaining::Nothing } else { Remaining::Something })
}

fn remove_unsealed(transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM unsealed_lots WHERE sending = ?1";
    transaction.prepare_cached(sql)?.execute([sending.0.as_bytes()]).map(drop)
}

fn set_released(transaction: &Transaction<'_>, sending: SendingId) -> rusqlite::Result<()> {
    let sql = "UPDATE open_sendings SET released = 1 WHERE id = ?1";
    transaction.prepare_cached(sql)?.execute([sending.0.as_bytes()]).map(drop)
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
