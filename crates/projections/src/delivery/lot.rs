//! A lot's messages in memory, and their rows.

use kite_domain::address::identity;
use kite_domain::failure::FailureClass;
use kite_domain::ids::LotId;
use kite_domain::lot::{LotAccepted, Outcome, Recipient};
use kite_domain::relay;
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::attempt::{self, Attempt};
use super::codes::{Coded, MessageStatus};
use super::schema::{SEARCH_BLOCK_BITS, search_hash};
use super::statistics::{HOUR_MS, Key};
use crate::error::ApplyError;

/// A message as it is kept between events. Everything in it is in its row too.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) message_type: MessageType,
    pub(super) parts: u16,
    pub(super) outcome: Option<Outcome>,
    pub(super) class: Option<FailureClass>,
    pub(super) is_dirty: bool,
    pub(super) reason: u32,
    /// 0: none.
    pub(super) final_ms: i64,
    /// 0: none.
    pub(super) held_until_ms: i64,
    pub(super) attempts: Vec<Attempt>,
}

/// What an ordinary message takes in memory, in bytes.
pub(super) const MESSAGE_BYTES: usize = size_of::<Message>() + size_of::<Attempt>();
/// What a lot takes in the cache beside itself and its messages, in bytes.
const ENTRY_BYTES: usize = 128;

impl Message {
    /// What it takes in memory, in bytes, about; without an attempt yet, with the one that it will have.
    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.attempts.capacity().max(1) * size_of::<Attempt>()
            + self.attempts.iter().map(Attempt::heap_bytes).sum::<usize>()
    }
}

/// What the seal of its sending says of a lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    /// The sending number; 0: none.
    pub(super) from_phone: u32,
    /// The sending address; 0: none.
    pub(super) from_email: u32,
}

/// A lot and its messages.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) id: LotId,
    /// The row number of the first message.
    pub(super) first: i64,
    pub(super) tenant: u32,
    pub(super) class: MessageClass,
    /// When its sending was; until that is sealed, when the lot itself was.
    pub(super) accepted_ms: i64,
    /// None: its sending is not sealed yet, and its messages are nobody's.
    pub(super) seal: Option<Seal>,
    pub(super) messages: Vec<Message>,
    pub(super) is_dirty: bool,
    /// The place in the transaction's events of the acceptance, until the rows are written.
    pub(super) accepted_by: Option<usize>,
}

impl Lot {
    /// The lot as it was accepted; the same messages as [`kite_domain::lot::Lot::new`] makes.
    pub(super) fn new(
        accepted: &LotAccepted,
        event: usize,
        first: i64,
        tenant: u32,
        accepted_ms: i64,
    ) -> Self {
        let groups = accepted.groups.iter();
        let mut types: Vec<(u32, MessageType, u16)> = groups
            .flat_map(|group| group.messages.iter().map(|seq| (seq, group.message_type, group.parts)))
            .collect();
        if !types.is_sorted_by_key(|(seq, _, _)| *seq) {
            types.sort_by_key(|(seq, _, _)| *seq);
        }
        let messages = types
            .into_iter()
            .take(accepted.personal.recipients.len())
            .map(|(_, message_type, parts)| Message {
                message_type,
                parts,
                outcome: None,
                class: None,
                is_dirty: false,
                reason: 0,
                final_ms: 0,
                held_until_ms: 0,
                attempts: Vec::new(),
            })
            .collect();
        Self {
            id: LotId { sending: accepted.sending, number: accepted.number },
            first,
            tenant,
            class: accepted.class,
            accepted_ms,
            seal: None,
            messages,
            is_dirty: true,
            accepted_by: Some(event),
        }
    }

    /// Its sending is sealed, which was accepted at this time: so were its messages. Whether that is news.
    pub(super) fn sealed(&mut self, seal: Seal, accepted_ms: i64) -> bool {
        if self.seal.replace(seal).is_some() {
            return false;
        }
        // The times of stored attempts count from the lot's. There are none before the seal, unless a log says otherwise.
        if self.messages.iter().all(|message| message.attempts.is_empty()) {
            self.accepted_ms = accepted_ms;
        }
        true
    }

    /// Writes the seal into a row that is there already.
    pub(super) fn update_seal(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Some(seal) = self.seal else { return Ok(()) };
        transaction
            .prepare_cached(
                "UPDATE lots SET is_sealed = TRUE, from_phone = ?2, from_email = ?3, accepted_ms = ?4 WHERE first = ?1",
            )?
            .execute((self.first, seal.from_phone, seal.from_email, self.accepted_ms))
            .map(drop)
    }

    /// What it takes in memory, in bytes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + ENTRY_BYTES + self.messages.iter().map(Message::memory_bytes).sum::<usize>()
    }

    /// The place of a message in the lot.
    pub(super) fn place(&self, seq: u32) -> Option<usize> {
        let place = seq.checked_sub(self.id.first_seq())? as usize;
        (place < self.messages.len()).then_some(place)
    }

    /// The statistics row of a message of this type, or of an attempt at it, at this relay and channel.
    pub(super) fn key(&self, message_type: MessageType, relay: u32, channel: MessageType) -> Key {
        Key {
            tenant: self.tenant,
            hour_ms: self.accepted_ms.div_euclid(HOUR_MS) * HOUR_MS,
            relay,
            channel,
            message_type,
            class: self.class,
        }
    }

    /// Reads a lot back from its rows.
    pub(super) fn load(connection: &Connection, id: LotId) -> Result<Option<Self>, ApplyError> {
        let found = connection
            .prepare_cached(
                "SELECT first, messages, tenant, class, accepted_ms, is_sealed, from_phone, from_email FROM lots
                 WHERE sending = ?1 AND number = ?2",
            )?
            .query_row((id.sending.0.as_bytes(), id.number), |row| {
                let seal = Seal { from_phone: row.get(6)?, from_email: row.get(7)? };
                let seal = row.get::<_, bool>(5)?.then_some(seal);
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, seal))
            })
            .optional()?;
        let Some((first, count, tenant, class, accepted_ms, seal)) = found else { return Ok(None) };
        let class = MessageClass::from_code(class).ok_or_else(|| ApplyError::corrupt("a lot's class"))?;
        let messages = load_messages(connection, first, count, accepted_ms)?;
        let (is_dirty, accepted_by) = (false, None);
        Ok(Some(Self { id, first, tenant, class, accepted_ms, seal, messages, is_dirty, accepted_by }))
    }

    /// Writes what has changed. `recipients` are those of the acceptance, if it is in this transaction.
    pub(super) fn flush(
        &mut self,
        transaction: &Transaction<'_>,
        recipients: Option<&[Recipient]>,
        search: &mut Vec<(i64, i64, i64)>,
    ) -> rusqlite::Result<()> {
        if !std::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        match recipients.filter(|_| self.accepted_by.take().is_some()) {
            Some(recipients) => {
                self.insert_lot(transaction)?;
                self.insert_messages(transaction, recipients)?;
                self.collect_search(recipients, search);
            }
            None => self.update_messages(transaction)?,
        }
        self.messages.iter_mut().for_each(|message| message.is_dirty = false);
        Ok(())
    }

    fn insert_lot(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction
            .prepare_cached(
                "INSERT INTO lots (first, sending, number, messages, tenant, class, accepted_ms, is_sealed, from_phone,
                     from_email)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute((
                self.first,
                self.id.sending.0.as_bytes(),
                self.id.number,
                self.messages.len() as i64,
                self.tenant,
                self.class.code(),
                self.accepted_ms,
                self.seal.is_some(),
                self.seal.map_or(0, |seal| seal.from_phone),
                self.seal.map_or(0, |seal| seal.from_email),
            ))
            .map(drop)
    }

    fn insert_messages(
        &self,
        transaction: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO messages (status, relay, attempts_made, first_submitted_ms, final_ms, held_until_ms, reason,
                 failure_class, cost_milliwon, attempts, channel, id, recipient, email, contact, reference, message_type,
                 parts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?;
        let mut bytes = Vec::new();
        for ((id, message), recipient) in (self.first..).zip(&self.messages).zip(recipients) {
            bind_state(&mut statement, message, self.accepted_ms, &mut bytes)?;
            statement.raw_bind_parameter(12, id)?;
            statement.raw_bind_parameter(13, recipient.to.as_str())?;
            statement.raw_bind_parameter(14, recipient.email.as_deref())?;
            statement
                .raw_bind_parameter(15, recipient.contact.as_ref().map(|contact| contact.0.as_bytes()))?;
            statement.raw_bind_parameter(16, recipient.reference.as_deref())?;
            statement.raw_bind_parameter(17, message.message_type.code())?;
            statement.raw_bind_parameter(18, message.parts)?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn update_messages(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(
            "UPDATE messages SET status = ?1, relay = ?2, attempts_made = ?3, first_submitted_ms = ?4, final_ms = ?5,
                 held_until_ms = ?6, reason = ?7, failure_class = ?8, cost_milliwon = ?9, attempts = ?10, channel = ?11
             WHERE id = ?12",
        )?;
        let mut bytes = Vec::new();
        for (id, message) in (self.first..).zip(&self.messages).filter(|(_, message)| message.is_dirty) {
            bind_state(&mut statement, message, self.accepted_ms, &mut bytes)?;
            statement.raw_bind_parameter(12, id)?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn collect_search(&self, recipients: &[Recipient], search: &mut Vec<(i64, i64, i64)>) {
        for (id, recipient) in (self.first..).zip(recipients).take(self.messages.len()) {
            let block = id >> SEARCH_BLOCK_BITS;
            let to = identity(&recipient.to);
            search.push((block, search_hash(self.tenant, &to), id));
            if let Some(email) = recipient.email.as_deref().map(identity).filter(|email| *email != to) {
                search.push((block, search_hash(self.tenant, &email), id));
            }
        }
    }
}

fn bind_state(
    statement: &mut rusqlite::CachedStatement<'_>,
    message: &Message,
    accepted_ms: i64,
    bytes: &mut Vec<u8>,
) -> rusqlite::Result<()> {
    let newest = message.attempts.last();
    let status = MessageStatus::of(message.outcome, newest.map(|attempt| attempt.state));
    let status = if message.held_until_ms == 0 { status } else { status.held() };
    let submitted = message.attempts.iter().map(|attempt| attempt.submitted_ms).filter(|ms| *ms != 0).min();
    bytes.clear();
    attempt::encode(&message.attempts, accepted_ms, bytes);
    statement.raw_bind_parameter(1, status.code())?;
    statement.raw_bind_parameter(2, newest.map_or(0, |attempt| attempt.relay))?;
    statement.raw_bind_parameter(3, message.attempts.len() as i64)?;
    statement.raw_bind_parameter(4, submitted)?;
    statement.raw_bind_parameter(5, some(message.final_ms))?;
    statement.raw_bind_parameter(6, some(message.held_until_ms))?;
    statement.raw_bind_parameter(7, message.reason)?;
    statement.raw_bind_parameter(8, message.class.map(Coded::code))?;
    statement.raw_bind_parameter(9, cost_milliwon(message))?;
    statement.raw_bind_parameter(10, bytes.as_slice())?;
    let channel = newest.map_or(message.message_type, |attempt| attempt.channel);
    statement.raw_bind_parameter(11, channel.code())
}

/// What is charged for the message so far.
fn cost_milliwon(message: &Message) -> i64 {
    let billed = message.attempts.iter().filter(|attempt| attempt.is_billed);
    billed.map(|attempt| relay::cost_milliwon(attempt.price_milliwon, message.parts)).sum()
}

fn some(time_ms: i64) -> Option<i64> {
    Some(time_ms).filter(|time_ms| *time_ms != 0)
}

fn load_messages(
    connection: &Connection,
    first: i64,
    count: i64,
    accepted_ms: i64,
) -> Result<Vec<Message>, ApplyError> {
    let mut statement = connection.prepare_cached(
        "SELECT message_type, parts, status, failure_class, reason, final_ms, held_until_ms, attempts
         FROM messages WHERE id >= ?1 AND id < ?1 + ?2 ORDER BY id",
    )?;
    let mut rows = statement.query((first, count))?;
    let mut messages = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    while let Some(row) = rows.next()? {
        let status = MessageStatus::from_code(row.get(2)?);
        let attempts = attempt::decode(row.get_ref(7)?.as_blob().map_err(ApplyError::corrupt)?, accepted_ms);
        messages.push(Message {
            message_type: MessageType::from_code(row.get(0)?)
                .ok_or_else(|| ApplyError::corrupt("a message's type"))?,
            parts: row.get(1)?,
            outcome: status.ok_or_else(|| ApplyError::corrupt("a message's status"))?.outcome(),
            class: row.get::<_, Option<i64>>(3)?.and_then(FailureClass::from_code),
            is_dirty: false,
            reason: row.get(4)?,
            final_ms: row.get::<_, Option<i64>>(5)?.unwrap_or(0),
            held_until_ms: row.get::<_, Option<i64>>(6)?.unwrap_or(0),
            attempts: attempts.ok_or_else(|| ApplyError::corrupt("a message's attempts"))?,
        });
    }
    Ok(messages)
}
