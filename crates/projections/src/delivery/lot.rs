//! A lot's messages in memory, and their rows.

use kite_domain::address::identity;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{LotAccepted, Outcome, Recipient};
use kite_domain::relay;
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;

use std::collections::BTreeSet;

use super::attempt::{self, Attempt};
use super::codes::{Coded, MessageStatus};
use super::schema::{LOTS, MESSAGES, SEARCH_BLOCK_BITS, search_hash};
use super::statistics::{HOUR_MS, Key};
use crate::engine::{Cells, StorageError, Tables, values};
use crate::error::ApplyError;
use crate::table::{Pick, Statement};

static HEAD: Statement = Statement::select(
    &LOTS,
    Pick::Named(&[
        "first",
        "messages",
        "tenant",
        "class",
        "accepted_ms",
        "is_sealed",
        "from_phone",
        "from_email",
    ]),
    &["sending", "number"],
);
static STORED: Statement =
    Statement::select(&LOTS, Pick::Named(&["sending", "number"]), &["sending", "number"]);
static HEADS: Statement = Statement::select(&LOTS, Pick::Named(&["number"]), &["sending"]);
static LAST: Statement = Statement::last(&LOTS, Pick::Named(&["first", "messages"]));
static ADD: Statement = Statement::insert(&LOTS, Pick::All);
static SEAL: Statement =
    Statement::update(&LOTS, Pick::Named(&["first", "is_sealed", "from_phone", "from_email", "accepted_ms"]));
static STORED_MESSAGES: Statement = Statement::range(
    &MESSAGES,
    Pick::Named(&[
        "message_type",
        "parts",
        "status",
        "failure_class",
        "reason",
        "final_ms",
        "held_until_ms",
        "attempts",
    ]),
);
/// The key of a message, and the changing columns of its row, in the order of the table.
const STATE: &[&str] = &[
    "id",
    "status",
    "relay",
    "channel",
    "attempts_made",
    "first_submitted_ms",
    "final_ms",
    "held_until_ms",
    "reason",
    "failure_class",
    "cost_milliwon",
    "attempts",
];
static CHANGE_MESSAGES: Statement = Statement::update(&MESSAGES, Pick::Named(STATE));
static ADD_MESSAGES: Statement = Statement::insert(&MESSAGES, Pick::All);

/// A message as it is kept between events. Everything in it is in its row, too.
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
    /// None: its sending is not sealed yet, and its messages belong to nobody.
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

    /// Its sending, which was accepted at this time, is sealed, and so are its messages. Returns whether that is new.
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
    pub(super) fn update_seal(&self, tables: Tables<'_>) -> Result<(), StorageError> {
        let Some(seal) = self.seal else { return Ok(()) };
        let mut cells = tables.fill(&SEAL)?;
        cells.put(self.first);
        cells.put(true);
        cells.put(seal.from_phone);
        cells.put(seal.from_email);
        cells.put(self.accepted_ms);
        cells.end()
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

    /// Of which of these lots there are rows.
    pub(super) fn stored_among(
        tables: Tables<'_>,
        ids: &BTreeSet<LotId>,
    ) -> Result<BTreeSet<LotId>, StorageError> {
        let mut stored = BTreeSet::new();
        let put = |id: &&LotId, cells: &mut Cells<'_>| {
            cells.put(&id.sending);
            cells.put(id.number);
        };
        tables.fetch(&STORED, ids, put, |row| {
            stored.insert(LotId { sending: SendingId(row.uuid(0)?), number: row.get(1)? });
            Ok::<_, StorageError>(())
        })?;
        Ok(stored)
    }

    /// The numbers of the lots of a sending of which there are rows.
    pub(super) fn stored_of(tables: Tables<'_>, sending: SendingId) -> Result<Vec<u32>, StorageError> {
        let mut numbers = Vec::new();
        tables.fetch(
            &HEADS,
            [sending],
            |sending, cells| cells.put(sending),
            |row| {
                numbers.push(row.get(0)?);
                Ok::<_, StorageError>(())
            },
        )?;
        Ok(numbers)
    }

    /// The row number that the next message gets.
    pub(super) fn next_message(tables: Tables<'_>) -> Result<i64, StorageError> {
        let end =
            tables.find(&LAST, &[], |row| Ok::<_, StorageError>(row.get::<i64>(0)? + row.get::<i64>(1)?))?;
        Ok(end.unwrap_or(1))
    }

    /// Reads a lot back from its rows.
    pub(super) fn load(tables: Tables<'_>, id: LotId) -> Result<Option<Self>, ApplyError> {
        let found = tables.find(&HEAD, values![&id.sending, id.number], |row| {
            let seal = Seal { from_phone: row.get(6)?, from_email: row.get(7)? };
            let seal = row.get::<bool>(5)?.then_some(seal);
            let class = MessageClass::from_code(row.get(3)?);
            let lot = Self {
                id,
                first: row.get(0)?,
                tenant: row.get(2)?,
                class: class.ok_or_else(|| ApplyError::corrupt("a lot's class"))?,
                accepted_ms: row.get(4)?,
                seal,
                messages: Vec::new(),
                is_dirty: false,
                accepted_by: None,
            };
            Ok::<_, ApplyError>((lot, row.get::<i64>(1)?))
        })?;
        let Some((mut lot, count)) = found else { return Ok(None) };
        lot.messages = load_messages(tables, lot.first, count, lot.accepted_ms)?;
        Ok(Some(lot))
    }

    /// Writes what has changed. `recipients` are those of the acceptance, if it is in this transaction.
    pub(super) fn flush(
        &mut self,
        tables: Tables<'_>,
        recipients: Option<&[Recipient]>,
        search: &mut Vec<(i64, i64, i64)>,
    ) -> Result<(), StorageError> {
        if !std::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        match recipients.filter(|_| self.accepted_by.take().is_some()) {
            Some(recipients) => {
                self.insert_lot(tables)?;
                self.insert_messages(tables, recipients)?;
                self.collect_search(recipients, search);
            }
            None => self.update_messages(tables)?,
        }
        self.messages.iter_mut().for_each(|message| message.is_dirty = false);
        Ok(())
    }

    fn insert_lot(&self, tables: Tables<'_>) -> Result<(), StorageError> {
        let mut cells = tables.fill(&ADD)?;
        cells.put(self.first);
        cells.put(&self.id.sending);
        cells.put(self.id.number);
        cells.put(self.messages.len() as i64);
        cells.put(self.tenant);
        cells.put(self.class.code());
        cells.put(self.accepted_ms);
        cells.put(self.seal.is_some());
        cells.put(self.seal.map_or(0, |seal| seal.from_phone));
        cells.put(self.seal.map_or(0, |seal| seal.from_email));
        cells.end()
    }

    fn insert_messages(&self, tables: Tables<'_>, recipients: &[Recipient]) -> Result<(), StorageError> {
        let mut cells = tables.fill(&ADD_MESSAGES)?;
        let mut bytes = Vec::new();
        for ((id, message), recipient) in (self.first..).zip(&self.messages).zip(recipients) {
            cells.put(id);
            cells.put(&recipient.to);
            cells.put(recipient.email.as_ref());
            cells.put(recipient.contact.as_ref());
            cells.put(recipient.reference.as_deref());
            cells.put(message.message_type.code());
            cells.put(message.parts);
            put_state(&mut cells, message, self.accepted_ms, &mut bytes);
            cells.end()?;
        }
        Ok(())
    }

    fn update_messages(&self, tables: Tables<'_>) -> Result<(), StorageError> {
        let mut cells = tables.fill(&CHANGE_MESSAGES)?;
        let mut bytes = Vec::new();
        for (id, message) in (self.first..).zip(&self.messages).filter(|(_, message)| message.is_dirty) {
            cells.put(id);
            put_state(&mut cells, message, self.accepted_ms, &mut bytes);
            cells.end()?;
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

/// Puts [`STATE`], except for the key.
fn put_state(cells: &mut Cells<'_>, message: &Message, accepted_ms: i64, bytes: &mut Vec<u8>) {
    let newest = message.attempts.last();
    let status = MessageStatus::of(message.outcome, newest.map(|attempt| attempt.state));
    let status = if message.held_until_ms == 0 { status } else { status.held() };
    let submitted = message.attempts.iter().map(|attempt| attempt.submitted_ms).filter(|ms| *ms != 0).min();
    bytes.clear();
    attempt::encode(&message.attempts, accepted_ms, bytes);
    cells.put(status.code());
    cells.put(newest.map_or(0, |attempt| attempt.relay));
    cells.put(newest.map_or(message.message_type, |attempt| attempt.channel).code());
    cells.put(message.attempts.len() as i64);
    cells.put(submitted);
    cells.put(some(message.final_ms));
    cells.put(some(message.held_until_ms));
    cells.put(message.reason);
    cells.put(message.class.map(Coded::code));
    cells.put(cost_milliwon(message));
    cells.put(bytes.as_slice());
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
    tables: Tables<'_>,
    first: i64,
    count: i64,
    accepted_ms: i64,
) -> Result<Vec<Message>, ApplyError> {
    let mut messages = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    let put = |(first, end): &(i64, i64), cells: &mut Cells<'_>| {
        cells.put(*first);
        cells.put(*end);
    };
    tables.fetch(&STORED_MESSAGES, [(first, first + count)], put, |row| {
        let status = MessageStatus::from_code(row.get(2)?);
        let attempts = attempt::decode(row.bytes(7).map_err(ApplyError::corrupt)?, accepted_ms);
        messages.push(Message {
            message_type: MessageType::from_code(row.get(0)?)
                .ok_or_else(|| ApplyError::corrupt("a message's type"))?,
            parts: row.get(1)?,
            outcome: status.ok_or_else(|| ApplyError::corrupt("a message's status"))?.outcome(),
            class: row.get::<Option<i64>>(3)?.and_then(FailureClass::from_code),
            is_dirty: false,
            reason: row.get(4)?,
            final_ms: row.get::<Option<i64>>(5)?.unwrap_or(0),
            held_until_ms: row.get::<Option<i64>>(6)?.unwrap_or(0),
            attempts: attempts.ok_or_else(|| ApplyError::corrupt("a message's attempts"))?,
        });
        Ok::<_, ApplyError>(())
    })?;
    Ok(messages)
}
