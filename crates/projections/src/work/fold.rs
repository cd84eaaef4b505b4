//! What an event does to the open work.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::load::LoadKind;
use kite_domain::lot::{Lot, LotAccepted};
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::TenantId;
use kite_event_store::RecordedEvent;
use smol_str::SmolStr;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::rows::{
    Accepted, LoadRow, OPEN_LOTS_OF, OpenLotRow, OpenSendingRow, UNSEALED_LOTS_OF, UnsealedLotRow, urgency,
};
use super::{WorkModel, kept_bytes};
use crate::engine::Tables;
use crate::error::ApplyError;
use crate::sql::signed;

/// Their places are what is in the column.
pub(super) const LOAD_KINDS: [LoadKind; 3] = [LoadKind::Ordinary, LoadKind::Password, LoadKind::Scheduled];

/// What has to be written into rows at the end of the transaction.
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

fn lots_of(sending: SendingId) -> RangeInclusive<LotId> {
    LotId { sending, number: 0 }..=LotId { sending, number: u32::MAX }
}

impl WorkModel {
    pub(super) fn fold_event(
        &mut self,
        tables: Tables<'_>,
        recorded: &RecordedEvent,
        event: &Event,
    ) -> Result<(), ApplyError> {
        let time_ms = recorded.metadata.time.timestamp_millis();
        match event {
            Event::LotAccepted(accepted) => self.lot_accepted(tables, accepted, recorded),
            Event::SendingAccepted(accepted) => self.sealed(tables, accepted, time_ms),
            Event::SendingAbandoned(abandoned) => self.abandoned(tables, abandoned.sending),
            Event::SendingReleased(released) => self.released(tables, released.sending),
            Event::SendingPaused(paused) => {
                self.change_sending(tables, paused.sending, |row| row.is_paused = true)
            }
            Event::SendingResumed(resumed) => {
                self.change_sending(tables, resumed.sending, |row| row.is_paused = false)
            }
            Event::SendingCancelled(cancelled) => {
                self.change_sending(tables, cancelled.sending, |row| row.is_cancelled = true)
            }
            Event::SendingCompleted(completed) => self.completed(tables, completed.sending),
            Event::ReceiptsParked(parked) => self.receipts.park(tables, parked, time_ms),
            Event::ParkedReceiptsSettled(settled) => self.receipts.settle(tables, settled),
            Event::RelayNotUnderstood(said) => {
                self.said.keep(said, recorded);
                Ok(())
            }
            Event::RelayResponded(responded) => {
                self.said.count_responded(tables, responded, time_ms)?;
                self.lot_event(tables, recorded, event)
            }
            Event::ReceiptsRecorded(reported) => {
                self.said.count_reported(tables, reported, time_ms)?;
                self.lot_event(tables, recorded, event)
            }
            _ => self.lot_event(tables, recorded, event),
        }
    }

    /// The version of the lot's acceptance in its stream, if it is open work or waits for its seal.
    pub(super) fn accepted_version(
        &mut self,
        tables: Tables<'_>,
        id: LotId,
    ) -> Result<Option<u64>, ApplyError> {
        let version = match self.open_lots.get(tables, &id)? {
            Some(open) => Some(open.accepted.version),
            None => self.unsealed_lots.get(tables, &id)?.map(|lot| lot.accepted.version),
        };
        Ok(version.map(|version| version as u64))
    }

    fn lot_accepted(
        &mut self,
        tables: Tables<'_>,
        accepted: &LotAccepted,
        recorded: &RecordedEvent,
    ) -> Result<(), ApplyError> {
        let id = LotId { sending: accepted.sending, number: accepted.number };
        let is_known = self.accepted_version(tables, id)?.is_some();
        if is_known || self.sendings.get(tables, &id.sending)?.is_some() {
            return Ok(());
        }
        let lot = Lot::new(accepted);
        let row = UnsealedLotRow {
            accepted: Accepted {
                version: signed(recorded.version),
                tenant: accepted.tenant.clone(),
                class: urgency(accepted.class),
            },
            messages: lot.len() as i64,
            accepted_ms: recorded.metadata.time.timestamp_millis(),
        };
        self.unsealed_lots.put(tables, id, row)?;
        self.keep(id, lot);
        Ok(())
    }

    /// Takes away the lots that waited for the seal of their sending.
    fn take_unsealed(
        &mut self,
        tables: Tables<'_>,
        sending: SendingId,
    ) -> Result<Vec<(LotId, UnsealedLotRow)>, ApplyError> {
        let select = &UNSEALED_LOTS_OF;
        let ids = self.unsealed_lots.among(tables, select, |cells| cells.put(&sending), lots_of(sending))?;
        let mut taken = Vec::with_capacity(ids.len());
        for id in ids {
            let row = self.unsealed_lots.remove(tables, &id)?;
            taken.extend(row.map(|row| (id, row)));
        }
        Ok(taken)
    }

    /// The seal makes the lots open work: everything in them waits for its route, until the sending expires.
    fn sealed(
        &mut self,
        tables: Tables<'_>,
        accepted: &SendingAccepted,
        time_ms: i64,
    ) -> Result<(), ApplyError> {
        let id = accepted.sending;
        if self.sendings.get(tables, &id)?.is_some() {
            return Ok(());
        }
        let mut sending = OpenSendingRow {
            tenant: accepted.tenant.clone(),
            class: urgency(accepted.class),
            accepted_ms: time_ms,
            scheduled_ms: accepted.scheduled_at.map(|at| at.timestamp_millis()),
            expires_ms: accepted.expires_at.timestamp_millis(),
            is_released: false,
            is_paused: false,
            is_cancelled: false,
            lots: 0,
            lots_routed: 0,
            open_messages: 0,
        };
        for (lot, row) in self.take_unsealed(tables, id)? {
            sending.lots += 1;
            sending.lots_routed += i64::from(row.messages == 0);
            sending.open_messages += row.messages;
            if row.messages > 0 {
                let open = OpenLotRow {
                    accepted: row.accepted,
                    open: row.messages,
                    has_unrouted: true,
                    has_pending: false,
                    next_due_ms: Some(sending.expires_ms),
                    next_end_ms: sending.expires_ms,
                };
                self.open_lots.put(tables, lot, open)?;
            }
        }
        self.change.count(&accepted.tenant, sending.kind(), sending.open_messages);
        self.sendings.put(tables, id, sending)
    }

    fn abandoned(&mut self, tables: Tables<'_>, sending: SendingId) -> Result<(), ApplyError> {
        for (id, _) in self.take_unsealed(tables, sending)? {
            self.lots.remove(id);
        }
        Ok(())
    }

    fn completed(&mut self, tables: Tables<'_>, sending: SendingId) -> Result<(), ApplyError> {
        let select = &OPEN_LOTS_OF;
        let open = self.open_lots.among(tables, select, |cells| cells.put(&sending), lots_of(sending))?;
        for id in open {
            self.lots.remove(id);
            self.change.touched.remove(&id);
            self.open_lots.remove(tables, &id)?;
        }
        if let Some(row) = self.sendings.remove(tables, &sending)? {
            self.change.count(&row.tenant, row.kind(), -row.open_messages);
        }
        Ok(())
    }

    /// What was scheduled is due, and counts as open from now on.
    fn released(&mut self, tables: Tables<'_>, sending: SendingId) -> Result<(), ApplyError> {
        let Some(row) = self.sendings.get_mut(tables, &sending)? else { return Ok(()) };
        let before = row.kind();
        row.is_released = true;
        self.change.count(&row.tenant, before, -row.open_messages);
        self.change.count(&row.tenant, row.kind(), row.open_messages);
        Ok(())
    }

    /// Changes a sending that is open.
    fn change_sending(
        &mut self,
        tables: Tables<'_>,
        sending: SendingId,
        change: impl FnOnce(&mut OpenSendingRow),
    ) -> Result<(), ApplyError> {
        if let Some(row) = self.sendings.get_mut(tables, &sending)? {
            change(row);
        }
        Ok(())
    }

    /// A lot that is neither in memory nor was supplied has nothing left to do.
    fn lot_event(
        &mut self,
        tables: Tables<'_>,
        recorded: &RecordedEvent,
        event: &Event,
    ) -> Result<(), ApplyError> {
        let Some(id) = LotId::from_stream(&recorded.stream) else { return Ok(()) };
        let Some(lot) = self.lots.get_mut(id) else { return Ok(()) };
        lot.evolve(event);
        if self.sendings.get(tables, &id.sending)?.is_some() {
            self.change.touched.insert(id);
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        for id in std::mem::take(&mut self.change.touched) {
            if self.settle(tables, id)? {
                let Some(lot) = self.lots.peek_mut(id) else { continue };
                let bytes = kept_bytes(lot);
                self.lots.weigh(id, bytes);
            } else {
                self.lots.remove(id);
            }
        }
        self.settle_loads(tables)?;
        self.unsealed_lots.flush(tables)?;
        self.open_lots.flush(tables)?;
        self.sendings.flush(tables)?;
        self.loads.flush(tables)?;
        self.receipts.flush(tables)?;
        self.said.flush(tables)
    }

    /// Writes the new state of a lot into its row, and the resulting change into the row of its sending. Returns
    /// whether there is something left to do.
    fn settle(&mut self, tables: Tables<'_>, id: LotId) -> Result<bool, ApplyError> {
        let Some(lot) = self.lots.peek_mut(id) else { return Ok(false) };
        let Some(before) = self.open_lots.get(tables, &id)?.cloned() else { return Ok(false) };
        let sending = self.sendings.get(tables, &id.sending)?;
        let expires_ms = sending.map_or(i64::MAX, |row| row.expires_ms);
        let after = after(lot, &before, expires_ms);
        if let Some(sending) = sending {
            self.change.count(&lot.tenant, sending.kind(), after.open - before.open);
        }
        if after.open != before.open || after.has_unrouted != before.has_unrouted {
            self.change_sending(tables, id.sending, |row| {
                row.open_messages += after.open - before.open;
                row.lots_routed += i64::from(before.has_unrouted) - i64::from(after.has_unrouted);
            })?;
        }
        let is_left = after.open != 0;
        if !is_left {
            self.open_lots.remove(tables, &id)?;
        } else if after != before {
            self.open_lots.put(tables, id, after)?;
        }
        Ok(is_left)
    }

    /// Whether a row exists must not depend on which events a transaction happened to contain: a row of zero is
    /// removed.
    fn settle_loads(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        for ((tenant, kind), messages) in std::mem::take(&mut self.change.loads) {
            let kind = LOAD_KINDS.iter().position(|known| *known == kind).unwrap_or(0) as i64;
            let key = (SmolStr::new(tenant.as_str()), kind);
            let before = self.loads.get(tables, &key)?.map_or(0, |load| load.0);
            match before + messages {
                0 => {
                    self.loads.remove(tables, &key)?;
                }
                after => self.loads.put(tables, key, LoadRow(after))?,
            }
        }
        Ok(())
    }
}

/// The row of a lot as it stands now.
fn after(lot: &Lot, before: &OpenLotRow, expires_ms: i64) -> OpenLotRow {
    let open = i64::from(lot.counts().open);
    let expires_at = DateTime::<Utc>::from_timestamp_millis(expires_ms).unwrap_or(DateTime::<Utc>::MAX_UTC);
    OpenLotRow {
        accepted: before.accepted.clone(),
        open,
        has_unrouted: open > 0 && lot.has_unrouted(),
        has_pending: !lot.pending().is_empty(),
        next_due_ms: lot.next_due_ms(expires_at),
        next_end_ms: lot.next_end_ms(expires_at).unwrap_or(expires_ms),
    }
}
