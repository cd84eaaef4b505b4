//! From a row of `messages` to a view for people.

use chrono::{DateTime, Utc};
use kite_domain::failure::FailureClass;
use kite_domain::ids::{AttemptReference, ContactId, LotId, MessageId, SendingId};
use kite_domain::lot::AttemptState;
use kite_domain::relay::cost_milliwon;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use smol_str::SmolStr;
use uuid::Uuid;

use super::attempt::{self, Attempt};
use super::codes::{Coded, MessageStatus};
use super::known::{KnownAttempt, KnownMessage};
use super::word_numbers::WordList;
use crate::engine::{Connection, Row, StorageError, values};
use crate::error::QueryError;
use crate::sql::time;

/// The columns that [`read`] takes, to be followed by a condition.
macro_rules! select_messages {
    ($rest:literal) => {
        concat!(
            "SELECT id, recipient, email, contact, reference, message_type, parts, status, reason, failure_class, ",
            "relay, first_submitted_ms, final_ms, held_until_ms, cost_milliwon, attempts, channel FROM messages ",
            $rest
        )
    };
}
pub(super) use select_messages;

/// What the lot's row says of all its messages.
#[derive(Debug, Clone)]
pub(super) struct LotRow {
    pub(super) first: i64,
    pub(super) messages: i64,
    pub(super) id: LotId,
    pub(super) tenant: u32,
    pub(super) class: MessageClass,
    pub(super) accepted_ms: i64,
    pub(super) is_sealed: bool,
    pub(super) from_phone: u32,
    pub(super) from_email: u32,
}

/// The columns that a lot is read from.
macro_rules! select_lots {
    ($rest:literal) => {
        concat!(
            "SELECT first, messages, sending, number, tenant, class, accepted_ms, is_sealed, from_phone, from_email ",
            "FROM lots ",
            $rest
        )
    };
}
pub(super) use select_lots;

impl LotRow {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            first: row.get(0)?,
            messages: row.get(1)?,
            id: LotId { sending: SendingId(row.uuid(2)?), number: row.get(3)? },
            tenant: row.get(4)?,
            class: MessageClass::from_code(row.get(5)?).unwrap_or(MessageClass::Notice),
            accepted_ms: row.get(6)?,
            is_sealed: row.get(7)?,
            from_phone: row.get(8)?,
            from_email: row.get(9)?,
        })
    }

    /// The lots of a sending from this number on, at most `limit`.
    pub(super) fn of_sending(
        connection: Connection<'_>,
        sending: SendingId,
        from: u32,
        limit: usize,
    ) -> Result<Vec<Self>, StorageError> {
        let sql = select_lots!("WHERE sending = ?1 AND number >= ?2 ORDER BY number LIMIT ?3");
        connection.all(sql, values![&sending, from, limit as i64], Self::read)
    }

    pub(super) fn seq(&self, message: i64) -> u32 {
        self.id.first_seq() + u32::try_from(message - self.first).unwrap_or(0)
    }
}

/// Reads the row that the statement stands at.
pub(super) fn read(
    connection: Connection<'_>,
    words: &mut WordList,
    lot: &LotRow,
    row: &Row<'_>,
) -> Result<KnownMessage, QueryError> {
    let id = MessageId { sending: lot.id.sending, seq: lot.seq(row.get(0)?) };
    let parts = row.get(6)?;
    let status = MessageStatus::from_code(row.get(7)?);
    let status = status.ok_or_else(|| QueryError::corrupt("a message's status"))?;
    let attempts = attempt::decode(row.bytes(15)?, lot.accepted_ms);
    let attempts = attempts.ok_or_else(|| QueryError::corrupt("a message's attempts"))?;
    let delivered = attempts.iter().filter(|attempt| attempt.state == AttemptState::Delivered).count();
    let failed = attempts.iter().rev().find(|attempt| attempt.class.is_some());
    let (reason, failure_class) = match status.outcome() {
        Some(_) => (row.get(8)?, row.get::<Option<i64>>(9)?.and_then(FailureClass::from_code)),
        None => (failed.map_or(0, |attempt| attempt.code), failed.and_then(|attempt| attempt.class)),
    };
    let channel = MessageType::from_code(row.get(16)?);
    let channel = channel.ok_or_else(|| QueryError::corrupt("a message's channel"))?;
    let sender = if channel == MessageType::Email { lot.from_email } else { lot.from_phone };
    Ok(KnownMessage {
        id,
        class: lot.class,
        channel,
        sender: words.word(connection, sender)?,
        to: row.text(1)?,
        email: row.optional_text(2)?,
        contact: row.get::<Option<[u8; 16]>>(3)?.map(|id| ContactId(Uuid::from_bytes(id))),
        reference: row.optional_text(4)?,
        message_type: MessageType::from_code(row.get(5)?)
            .ok_or_else(|| QueryError::corrupt("a message's type"))?,
        parts,
        status,
        outcome: status.outcome(),
        reason: words.word(connection, reason)?,
        failure_class,
        relay: words.word(connection, row.get(10)?)?.map(RelayId::from_trusted),
        accepted_at: time(lot.accepted_ms)?,
        first_submitted_at: moment(row.get::<Option<i64>>(11)?.unwrap_or(0)),
        final_at: moment(row.get::<Option<i64>>(12)?.unwrap_or(0)),
        held_until: moment(row.get::<Option<i64>>(13)?.unwrap_or(0)),
        cost_milliwon: row.get(14)?,
        delivered_twice: delivered > 1,
        attempts: (1..)
            .zip(attempts)
            .map(|(number, attempt)| known_attempt(connection, words, id, number, parts, attempt))
            .collect::<Result<_, _>>()?,
    })
}

fn known_attempt(
    connection: Connection<'_>,
    words: &mut WordList,
    message: MessageId,
    number: u16,
    parts: u16,
    attempt: Attempt,
) -> Result<KnownAttempt, QueryError> {
    let relay = words.word(connection, attempt.relay)?.unwrap_or_default();
    let cost = cost_milliwon(attempt.price_milliwon, parts);
    Ok(KnownAttempt {
        attempt: number,
        reference: AttemptReference { message, attempt: number },
        relay: RelayId::from_trusted(relay),
        channel: attempt.channel,
        state: attempt.state,
        is_taken: attempt.is_taken,
        reason: words.word(connection, attempt.reason)?.unwrap_or_default().into(),
        price_milliwon: attempt.price_milliwon,
        bills: attempt.bills,
        cost_milliwon: if attempt.is_billed { cost } else { 0 },
        routed_at: time(attempt.routed_ms)?,
        submitted_at: moment(attempt.submitted_ms),
        responded_at: moment(attempt.responded_ms),
        receipt_at: moment(attempt.receipt_ms),
        receipt_received_at: moment(attempt.received_ms),
        call_ms: attempt.call_ms,
        relay_reference: Some(attempt.relay_reference).filter(|reference| !reference.is_empty()),
        code: words.word(connection, attempt.code)?,
        failure_class: attempt.class,
        detail: attempt.detail.map(|detail| SmolStr::new(&*detail)),
        unknown_since: attempt.unknown.as_ref().and_then(|lost| moment(lost.since_ms)),
        unknown_reason: attempt.unknown.map(|lost| SmolStr::new(&*lost.reason)),
    })
}

/// 0 is none; a time of a relay that no calendar knows is shown as none too.
fn moment(milliseconds: i64) -> Option<DateTime<Utc>> {
    Some(milliseconds).filter(|ms| *ms != 0).and_then(DateTime::from_timestamp_millis)
}
