//! Sendings and messages.

use chrono::{DateTime, Utc};
use kite_domain::ids::{MessageId, SEQS_PER_LOT, SendingId};
use kite_domain::sending::MessageClass;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use std::sync::LazyLock;

use super::DeliveryModel;
use super::codes::{Coded, MessageStatus};
use super::counters;
use super::known::{KnownMessage, KnownPause, KnownSending, RelayTotals, SendingState, Totals};
use super::row::{LotRow, read, select_messages};
use super::sendings::PAUSERS;
use super::word_numbers::{WordList, find};
use crate::engine::{Connection, Row, StorageError, values};
use crate::error::QueryError;
use crate::files::Files;
use crate::listing::{Cursor, Listing, page};
use crate::readers::{Readers, shared_queries};
use crate::sql::{from_json, one_more, optional_time, time};

/// One page examines no more messages than this; a page that finds too few ends with a cursor nevertheless.
const SCANNED_MAX: usize = 50_000;

/// Which sendings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendingFilter {
    /// Standing so.
    pub state: Option<SendingState>,
    /// Of this urgency.
    pub class: Option<MessageClass>,
    /// Accepted at or after.
    pub from: Option<DateTime<Utc>>,
    /// Accepted before.
    pub until: Option<DateTime<Utc>>,
    /// Called so by the caller.
    pub client_reference: Option<String>,
}

/// Which messages of a sending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Standing so.
    pub status: Option<MessageStatus>,
    /// Newest attempt at this relay.
    pub relay: Option<RelayId>,
    /// With more than one attempt, or with at most one.
    pub failed_over: Option<bool>,
}

/// Questions about delivery results.
#[derive(Clone)]
pub struct DeliveryQueries {
    pub(super) readers: Readers,
}

shared_queries!(DeliveryQueries);

/// What a sending is read from: [`FIRST_COUNTER`] columns of its own, then the counters.
static SENDING_COLUMNS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "s.id, s.class, s.accepted_ms, s.scheduled_ms, s.released_ms, s.cancelled_ms, s.completed_ms, s.expires_ms, \
         s.client_reference, s.refused_recipients, c.from_phone, c.from_email, c.subject, c.text, c.custom, s.tenant, \
         s.paused_ms, s.paused_by, s.pause_reason, {STATE_SQL}, {}",
        counters::joined(|counter| format!("s.{}", counter.word()))
    )
});
const FIRST_COUNTER: usize = 20;

/// The state of a sending, as a number in SQL: the places in [`STATES`].
const STATE_SQL: &str = "CASE WHEN s.cancelled_ms IS NOT NULL THEN 2 WHEN s.completed_ms IS NOT NULL THEN 3 \
     WHEN s.paused_ms IS NOT NULL THEN 4 \
     WHEN s.scheduled_ms > s.accepted_ms AND s.released_ms IS NULL AND s.routed = 0 THEN 0 ELSE 1 END";

const STATES: [SendingState; 5] = [
    SendingState::Scheduled,
    SendingState::InProgress,
    SendingState::Cancelled,
    SendingState::Completed,
    SendingState::Paused,
];

/// A condition that a state implies and that has an index.
fn implied(state: Option<SendingState>) -> &'static str {
    match state {
        Some(SendingState::Paused) => " AND s.paused_ms IS NOT NULL",
        Some(SendingState::Scheduled) => " AND s.scheduled_ms IS NOT NULL",
        Some(SendingState::InProgress | SendingState::Cancelled | SendingState::Completed) | None => "",
    }
}

impl DeliveryQueries {
    pub(crate) fn new(files: &Files) -> Self {
        Self { readers: files.of::<DeliveryModel>() }
    }

    /// The tenant's sendings, newest first; none: those of all tenants.
    pub fn sendings(
        &self,
        tenant: Option<&TenantId>,
        filter: &SendingFilter,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<KnownSending>, QueryError> {
        let before = after.map_or(Ok([0xff; 16]), Cursor::uuid)?;
        let state = filter.state.map(|state| STATES.iter().position(|one| *one == state).unwrap_or(0) as i64);
        let by_reference = match filter.client_reference {
            Some(_) => "s.client_reference = ?7",
            None => "?7 IS NULL",
        };
        let of_tenant = if tenant.is_some() { "s.tenant = ?1" } else { "?1 IS NULL" };
        let implied = implied(filter.state);
        let sql = format!(
            "SELECT {} FROM sendings s JOIN contents c ON c.sending = s.id
             WHERE {of_tenant}{implied} AND s.id < ?2 AND s.accepted_ms IS NOT NULL AND (?3 IS NULL OR {STATE_SQL} = ?3)
               AND (?4 IS NULL OR s.class = ?4) AND (?5 IS NULL OR s.accepted_ms >= ?5)
               AND (?6 IS NULL OR s.accepted_ms < ?6) AND {by_reference}
             ORDER BY s.id DESC LIMIT ?8",
            *SENDING_COLUMNS
        );
        self.readers.ask(|connection| {
            let values = values![
                tenant.map(TenantId::as_str),
                &before,
                state,
                filter.class.map(Coded::code),
                filter.from.map(|time| time.timestamp_millis()),
                filter.until.map(|time| time.timestamp_millis()),
                filter.client_reference.as_ref(),
                one_more(limit),
            ];
            let items = connection.all(&sql, values, known_sending)?;
            Ok(page(items, limit, |view| Cursor::new(view.id.0.as_bytes().as_slice())))
        })
    }

    /// A sending, if it is the tenant's and sealed.
    pub fn sending(&self, tenant: &TenantId, id: SendingId) -> Result<Option<KnownSending>, QueryError> {
        let sql = format!(
            "SELECT {} FROM sendings s JOIN contents c ON c.sending = s.id
             WHERE s.id = ?2 AND s.tenant = ?1 AND s.accepted_ms IS NOT NULL",
            *SENDING_COLUMNS
        );
        self.readers.ask(|connection| connection.first(&sql, values![tenant.as_str(), &id], known_sending))
    }

    /// The messages of a sending, by sequence number.
    pub fn messages(
        &self,
        tenant: &TenantId,
        sending: SendingId,
        filter: &MessageFilter,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<KnownMessage>, QueryError> {
        let after = after.map_or(Ok(-1), Cursor::number)?;
        let from = u32::try_from(after.saturating_add(1)).map_err(|_| QueryError::Cursor)?;
        self.readers.ask(|connection| {
            if !is_sealed(connection, tenant, sending)? {
                return Ok(Listing { items: Vec::new(), next: None });
            }
            let relay = match &filter.relay {
                None => None,
                Some(relay) => match find(connection, relay.as_str())? {
                    Some(number) => Some(number),
                    None => return Ok(Listing { items: Vec::new(), next: None }),
                },
            };
            scan(connection, sending, from, filter, relay, limit)
        })
    }

    /// A message with its timeline, if it is the tenant's.
    pub fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<KnownMessage>, QueryError> {
        self.readers.ask(|connection| {
            if !is_sealed(connection, tenant, id.sending)? {
                return Ok(None);
            }
            let lots = LotRow::of_sending(connection, id.sending, id.lot().number, 1)?;
            let Some(lot) = lots.first().filter(|lot| lot.id == id.lot()) else { return Ok(None) };
            let place = i64::from(id.seq % SEQS_PER_LOT);
            if place >= lot.messages {
                return Ok(None);
            }
            message_at(connection, &mut WordList::default(), lot, lot.first + place)
        })
    }

    /// Sums over everything.
    pub fn totals(&self) -> Result<Totals, QueryError> {
        self.readers.ask(|connection| {
            let sums = counters::joined(|counter| format!("CAST(sum({}) AS BIGINT)", counter.word()));
            let sql = format!("SELECT {sums} FROM totals");
            let counts = connection.one(&sql, &[], |row| counters::read(row, 0))?;
            let sql = "SELECT count(*) FROM sendings WHERE accepted_ms IS NOT NULL";
            let sendings: i64 = connection.one(sql, &[], |row| Ok::<_, QueryError>(row.get(0)?))?;
            Ok(Totals { sendings: u64::try_from(sendings).unwrap_or(0), counts })
        })
    }

    /// Sums over everything, by relay, channel and class: few rows, however much there is.
    pub fn relay_totals(&self) -> Result<Vec<RelayTotals>, QueryError> {
        self.readers.ask(|connection| {
            let sql = format!("SELECT relay, channel, class, {} FROM totals", counters::columns());
            let mut words = WordList::default();
            connection.all(&sql, &[], |row| {
                Ok(RelayTotals {
                    relay: words.word(connection, row.get(0)?)?.map(RelayId::from_trusted),
                    channel: Channel::from_code(row.get(1)?)
                        .ok_or_else(|| QueryError::corrupt("a channel"))?,
                    class: MessageClass::from_code(row.get(2)?)
                        .ok_or_else(|| QueryError::corrupt("a class"))?,
                    counts: counters::read(row, 3)?,
                })
            })
        })
    }
}

fn is_sealed(
    connection: Connection<'_>,
    tenant: &TenantId,
    sending: SendingId,
) -> Result<bool, StorageError> {
    let sql = "SELECT 1 FROM sendings WHERE id = ?2 AND tenant = ?1 AND accepted_ms IS NOT NULL";
    connection.exists(sql, values![tenant.as_str(), &sending])
}

fn message_at(
    connection: Connection<'_>,
    words: &mut WordList,
    lot: &LotRow,
    id: i64,
) -> Result<Option<KnownMessage>, QueryError> {
    let sql = select_messages!("WHERE id = ?1");
    connection.first(sql, values![id], |row| read(connection, words, lot, row))
}

/// Goes through a sending's messages from a sequence number on.
fn scan(
    connection: Connection<'_>,
    sending: SendingId,
    from: u32,
    filter: &MessageFilter,
    relay: Option<u32>,
    limit: usize,
) -> Result<Listing<KnownMessage>, QueryError> {
    let mut words = WordList::default();
    let mut items = Vec::new();
    let mut scanned = 0;
    let mut from = from;
    loop {
        let lots = LotRow::of_sending(connection, sending, from / SEQS_PER_LOT, 1)?;
        let Some(lot) = lots.first() else { return Ok(Listing { items, next: None }) };
        let begin = from.max(lot.id.first_seq());
        let first = lot.first + i64::from(begin - lot.id.first_seq());
        let end = lot.first + lot.messages;
        let sql = select_messages!(
            "WHERE id >= ?1 AND id < ?2 AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR relay = ?4)
               AND (?5 IS NULL OR CASE WHEN attempts_made > 1 THEN 1 ELSE 0 END = ?5)
             ORDER BY id LIMIT ?6"
        );
        let room = one_more(limit - items.len());
        let values = values![first, end, filter.status.map(Coded::code), relay, filter.failed_over, room];
        items.extend(connection.all(sql, values, |row| read(connection, &mut words, lot, row))?);
        if items.len() > limit {
            return Ok(page(items, limit, |view| Cursor::from_number(i64::from(view.id.seq))));
        }
        scanned += usize::try_from(end - first).unwrap_or(0);
        let next = (lot.id.number + 1) * SEQS_PER_LOT;
        if scanned >= SCANNED_MAX {
            return Ok(Listing { items, next: Some(Cursor::from_number(i64::from(next) - 1)) });
        }
        from = next;
    }
}

fn known_sending(row: &Row<'_>) -> Result<KnownSending, QueryError> {
    let state = usize::try_from(row.get::<i64>(19)?).ok().and_then(|place| STATES.get(place).copied());
    let pause = match optional_time(row.get(16)?)? {
        Some(since) => {
            let by = usize::try_from(row.get::<i64>(17)?).ok().and_then(|by| PAUSERS.get(by));
            let by = *by.ok_or_else(|| QueryError::corrupt("who paused a sending"))?;
            Some(KnownPause { since, by, reason: row.get(18)? })
        }
        None => None,
    };
    Ok(KnownSending {
        id: SendingId(row.uuid(0)?),
        tenant: TenantId::from_trusted(row.text(15)?),
        paused: pause,
        class: MessageClass::from_code(row.get(1)?)
            .ok_or_else(|| QueryError::corrupt("a sending's class"))?,
        state: state.ok_or_else(|| QueryError::corrupt("a sending's state"))?,
        accepted_at: time(row.get(2)?)?,
        scheduled_at: optional_time(row.get(3)?)?,
        released_at: optional_time(row.get(4)?)?,
        cancelled_at: optional_time(row.get(5)?)?,
        completed_at: optional_time(row.get(6)?)?,
        expires_at: time(row.get(7)?)?,
        client_reference: row.get(8)?,
        refused_recipients: row.get(9)?,
        counts: counters::read(row, FIRST_COUNTER)?,
        from_phone: row.optional_text(10)?,
        from_email: row.optional_text(11)?,
        subject: row.get(12)?,
        text: row.get(13)?,
        custom: row.optional_str(14)?.map(from_json).transpose()?,
    })
}
