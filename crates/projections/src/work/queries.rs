//! What the write side asks for.

use chrono::{DateTime, Utc};
use kite_domain::ids::{LotId, SendingId};
use kite_domain::load::Load;
use kite_domain::receipt::{ParkedReceipt, ParkedStretch, RawReceipt};
use kite_domain::sending::MessageClass;
use kite_domain::slug::{RelayId, TenantId};
use kite_event_store::Position;
use serde::Serialize;
use std::collections::BTreeSet;

use super::WorkModel;
use super::fold::LOAD_KINDS;
use super::rows::urgency;
use crate::database;
use crate::engine::{Row, Value, values};
use crate::error::QueryError;
use crate::files::Files;
use crate::readers::{Readers, shared_queries};
use crate::sql::{from_json, json, optional_time, time};

/// A sealed sending that is not completed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSending {
    /// Which one.
    pub id: SendingId,
    /// Whose.
    pub tenant: TenantId,
    /// How urgent.
    pub class: MessageClass,
    /// When it was sealed.
    pub accepted_at: DateTime<Utc>,
    /// Not to be routed before.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// How many lots.
    pub lots: u32,
    /// Of those, how many have no message without a route.
    pub lots_routed: u32,
    /// Messages that are not final.
    pub open_messages: u64,
}

/// A lot of a sealed sending with messages that are not final.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenLot {
    /// Which one.
    pub id: LotId,
    /// Whose.
    pub tenant: TenantId,
    /// How urgent.
    pub class: MessageClass,
    /// Messages that are not final.
    pub open: u32,
    /// Some have no route.
    pub has_unrouted: bool,
    /// Some wait for a relay worker.
    pub has_pending: bool,
    /// When something is due without anybody calling.
    pub next_due_ms: Option<i64>,
}

/// How much is not final, in sealed sendings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Backlog {
    /// Messages.
    pub open_messages: u64,
    /// Sendings that are not completed.
    pub open_sendings: u64,
}

/// What is accepted and not final, by tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    /// Up to where in the log it is counted.
    pub position: Position,
    /// By tenant, in the order of their ids.
    pub loads: Vec<(TenantId, Load)>,
}

/// Questions about open work.
#[derive(Clone)]
pub struct WorkQueries {
    pub(super) readers: Readers,
}

shared_queries!(WorkQueries);

impl WorkQueries {
    pub(crate) fn new(files: &Files) -> Self {
        Self { readers: files.of::<WorkModel>() }
    }

    /// Sendings with work for the router: sealed, not cancelled, not waiting for their time, with a lot that has
    /// messages without a route. The most urgent class first, then the oldest; those that come after this one.
    pub fn unrouted_sendings(
        &self,
        after: Option<&OpenSending>,
        limit: usize,
    ) -> Result<Vec<OpenSending>, QueryError> {
        let (after_class, after_id) = match after {
            Some(open) => (urgency(open.class), open.id.0.as_bytes().to_vec()),
            None => (-1, Vec::new()),
        };
        self.rows(
            "SELECT id, tenant, class, accepted_ms, scheduled_ms, lots, lots_routed, open_messages FROM open_sendings
             WHERE (class, id) > (?1, ?2) AND cancelled = 0 AND lots_routed < lots
               AND (released = 1 OR scheduled_ms IS NULL OR scheduled_ms <= accepted_ms)
             ORDER BY class, id LIMIT ?3",
            values![after_class, after_id.as_slice(), bounded(limit)],
            |row| {
                Ok(OpenSending {
                    id: SendingId(row.uuid(0)?),
                    tenant: TenantId::from_trusted(row.text(1)?),
                    class: class(row, 2)?,
                    accepted_at: time(row.get(3)?)?,
                    scheduled_at: optional_time(row.get(4)?)?,
                    lots: row.get(5)?,
                    lots_routed: row.get(6)?,
                    open_messages: count(row, 7)?,
                })
            },
        )
    }

    /// The lots of a sending that have messages without a route, after this one.
    pub fn unrouted_lots(
        &self,
        sending: SendingId,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<u32>, QueryError> {
        self.rows(
            "SELECT number FROM open_lots WHERE sending = ?1 AND number > ?2 AND has_unrouted = 1
             ORDER BY number LIMIT ?3",
            values![sending.0.as_bytes(), after.map_or(-1, i64::from), bounded(limit)],
            |row| Ok(row.get(0)?),
        )
    }

    /// Sendings whose scheduled time has come and that were neither released nor cancelled, the longest due first.
    pub fn due_scheduled(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<SendingId>, QueryError> {
        self.rows(
            "SELECT id FROM open_sendings WHERE scheduled_ms IS NOT NULL AND released = 0 AND cancelled = 0
               AND scheduled_ms > accepted_ms AND scheduled_ms <= ?1
             ORDER BY scheduled_ms, id LIMIT ?2",
            values![now.timestamp_millis(), bounded(limit)],
            |row| Ok(SendingId(row.uuid(0)?)),
        )
    }

    /// Lots with something for a relay worker to do, after this one.
    pub fn lots_to_sweep(&self, after: Option<LotId>, limit: usize) -> Result<Vec<OpenLot>, QueryError> {
        let (sending, number) = match after {
            Some(lot) => (lot.sending.0.as_bytes().to_vec(), i64::from(lot.number)),
            None => (Vec::new(), -1),
        };
        self.rows(
            "SELECT sending, number, tenant, class, open, has_unrouted, has_pending, next_due_ms FROM open_lots
             WHERE has_pending = 1 AND (sending, number) > (?1, ?2) ORDER BY sending, number LIMIT ?3",
            values![sending.as_slice(), number, bounded(limit)],
            |row| {
                Ok(OpenLot {
                    id: lot_id(row)?,
                    tenant: TenantId::from_trusted(row.text(2)?),
                    class: class(row, 3)?,
                    open: row.get(4)?,
                    has_unrouted: row.get(5)?,
                    has_pending: row.get(6)?,
                    next_due_ms: row.get(7)?,
                })
            },
        )
    }

    /// Lots for which something is due by now without a call, the longest due first. In a paused sending only what
    /// ends is due: nobody hands over what waits.
    pub fn due_lots(&self, now_ms: i64, limit: usize) -> Result<Vec<LotId>, QueryError> {
        self.rows(
            "SELECT sending, number FROM open_lots WHERE next_due_ms IS NOT NULL AND next_due_ms <= ?1
               AND (next_end_ms <= ?1
                 OR NOT EXISTS (SELECT 1 FROM open_sendings WHERE id = open_lots.sending AND paused = 1))
             ORDER BY next_due_ms, sending, number LIMIT ?2",
            values![now_ms, bounded(limit)],
            lot_id,
        )
    }

    /// Cancelled sendings with messages that are not final.
    pub fn cancelled_sendings(&self, limit: usize) -> Result<Vec<SendingId>, QueryError> {
        self.rows(
            "SELECT id FROM open_sendings WHERE cancelled = 1 AND open_messages > 0 ORDER BY id LIMIT ?1",
            values![bounded(limit)],
            |row| Ok(SendingId(row.uuid(0)?)),
        )
    }

    /// The lots of a cancelled sending that have messages which are not final, after this one.
    pub fn cancelled_open_lots(
        &self,
        sending: SendingId,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<LotId>, QueryError> {
        self.rows(
            "SELECT l.sending, l.number FROM open_lots l JOIN open_sendings s ON s.id = l.sending
             WHERE l.sending = ?1 AND l.number > ?2 AND s.cancelled = 1 ORDER BY l.number LIMIT ?3",
            values![sending.0.as_bytes(), after.map_or(-1, i64::from), bounded(limit)],
            lot_id,
        )
    }

    /// The lots of cancelled sendings that have messages which are not final: at most so many sendings, and so many lots
    /// of each.
    pub fn cancelled_lots(&self, limit: usize) -> Result<Vec<LotId>, QueryError> {
        let mut lots = Vec::new();
        for sending in self.cancelled_sendings(limit)? {
            lots.extend(self.cancelled_open_lots(sending, None, limit)?);
        }
        Ok(lots)
    }

    /// Sealed sendings whose messages are all final, and that are not marked as completed. Not those of which
    /// something is parked: the row may know too few lots.
    pub fn completed_sendings(&self, limit: usize) -> Result<Vec<SendingId>, QueryError> {
        self.rows(
            "SELECT id FROM open_sendings WHERE open_messages = 0
               AND NOT EXISTS (SELECT 1 FROM parked WHERE stream = 'sending-' || lower(hex(id)))
               AND NOT EXISTS (SELECT 1 FROM parked WHERE stream >= 'lot-' || lower(hex(id)) || '-'
                   AND stream < 'lot-' || lower(hex(id)) || '.')
             ORDER BY id LIMIT ?1",
            values![bounded(limit)],
            |row| Ok(SendingId(row.uuid(0)?)),
        )
    }

    /// Sendings with lots but without a seal, whose first lot is older than this: the process that made them did not
    /// finish.
    pub fn unsealed_sendings(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<SendingId>, QueryError> {
        self.rows(
            "SELECT sending FROM unsealed_lots GROUP BY sending HAVING min(accepted_ms) < ?1
             ORDER BY sending LIMIT ?2",
            values![before.timestamp_millis(), bounded(limit)],
            |row| Ok(SendingId(row.uuid(0)?)),
        )
    }

    /// Sendings of which an event is parked, of their own or of a lot: the rows do not show their state, so their
    /// streams have to be read. In the order of their ids; those that come after this one.
    pub fn parked_sendings(
        &self,
        after: Option<SendingId>,
        limit: usize,
    ) -> Result<Vec<SendingId>, QueryError> {
        let streams = self.rows("SELECT DISTINCT stream FROM parked", &[], |row| Ok(row.text(0)?))?;
        let sending = |stream: &str| match LotId::from_stream(stream) {
            Some(lot) => Some(lot.sending),
            None => SendingId::from_stream(stream),
        };
        let ids: BTreeSet<SendingId> = streams.iter().filter_map(|stream| sending(stream)).collect();
        Ok(ids.into_iter().filter(|id| after.is_none_or(|after| *id > after)).take(limit).collect())
    }

    /// What is accepted and not final, by tenant.
    pub fn workload(&self) -> Result<Workload, QueryError> {
        self.readers.ask(|connection| {
            let position = database::position(connection)?;
            let sql = "SELECT tenant, kind, messages FROM loads ORDER BY tenant, kind";
            let rows = connection.all(sql, &[], |row| {
                let kind = usize::try_from(row.get::<i64>(1)?).ok().and_then(|kind| LOAD_KINDS.get(kind));
                let kind = *kind.ok_or_else(|| QueryError::corrupt("a kind of load"))?;
                Ok::<_, QueryError>((TenantId::from_trusted(row.text(0)?), kind, count(row, 2)?))
            })?;
            let mut loads: Vec<(TenantId, Load)> = Vec::new();
            for (tenant, kind, messages) in rows {
                if loads.last().is_none_or(|(last, _)| *last != tenant) {
                    loads.push((tenant, Load::default()));
                }
                if let Some((_, load)) = loads.last_mut() {
                    load.add(kind, messages);
                }
            }
            Ok(Workload { position, loads })
        })
    }

    /// How much is not final.
    pub fn backlog(&self) -> Result<Backlog, QueryError> {
        self.backlog_where(
            "SELECT CAST(coalesce(sum(open_messages), 0) AS BIGINT), count(*) FROM open_sendings",
            &[],
        )
    }

    /// How much of a tenant's is not final.
    pub fn backlog_of(&self, tenant: &TenantId) -> Result<Backlog, QueryError> {
        let sql = "SELECT CAST(coalesce(sum(open_messages), 0) AS BIGINT), count(*) FROM open_sendings WHERE tenant = ?1";
        self.backlog_where(sql, values![tenant.as_str()])
    }

    /// A range of a relay's receipts that fit no message yet, the longest parked first.
    pub fn parked_receipts(
        &self,
        stretch: &ParkedStretch,
        limit: usize,
    ) -> Result<Vec<ParkedReceipt>, QueryError> {
        let (reference, status) = match &stretch.after {
            Some(last) => (last.reference.as_str(), last.status.map(|status| json(&status))),
            None => ("", None),
        };
        self.rows(
            "SELECT reference, relay_reference, status, code, at_ms, parked_ms FROM parked_receipts
             WHERE relay = ?1 AND (parked_ms, reference, status) > (?2, ?3, ?4) AND parked_ms <= ?5
             ORDER BY parked_ms, reference, status LIMIT ?6",
            values![
                stretch.relay.as_str(),
                stretch.from.timestamp_millis(),
                reference,
                status.unwrap_or_default().as_str(),
                stretch.until.timestamp_millis(),
                bounded(limit)
            ],
            |row| {
                let receipt = RawReceipt {
                    reference: row.text(0)?,
                    relay_reference: row.optional_text(1)?,
                    status: from_json(row.str(2)?)?,
                    code: row.text(3)?,
                    at: time(row.get(4)?)?,
                };
                Ok(ParkedReceipt { receipt, parked_at: time(row.get(5)?)? })
            },
        )
    }

    /// Relays with parked receipts.
    pub fn parked_relays(&self) -> Result<Vec<RelayId>, QueryError> {
        let sql = "SELECT DISTINCT relay FROM parked_receipts ORDER BY relay";
        self.rows(sql, &[], |row| Ok(RelayId::from_trusted(row.text(0)?)))
    }

    fn backlog_where(&self, sql: &str, values: &[Value<'_>]) -> Result<Backlog, QueryError> {
        let found = self.rows(sql, values, |row| {
            Ok(Backlog { open_messages: count(row, 0)?, open_sendings: count(row, 1)? })
        })?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        self.readers.ask(|connection| connection.all(sql, values, &read))
    }
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn count(row: &Row<'_>, column: usize) -> Result<u64, QueryError> {
    Ok(u64::try_from(row.get::<i64>(column)?).unwrap_or(0))
}

fn lot_id(row: &Row<'_>) -> Result<LotId, QueryError> {
    Ok(LotId { sending: SendingId(row.uuid(0)?), number: row.get(1)? })
}

fn class(row: &Row<'_>, column: usize) -> Result<MessageClass, QueryError> {
    let stored: i64 = row.get(column)?;
    let class = MessageClass::ALL.iter().copied().find(|class| urgency(*class) == stored);
    class.ok_or_else(|| QueryError::corrupt("a class"))
}
