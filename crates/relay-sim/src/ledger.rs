//! What a relay received by its own record: the oracle of the tests, and the relay's de-duplication memory.
//!
//! Made for a million hand-overs in one process: entries are small and flat, texts are one after the other in large
//! blocks, and nothing is moved when it grows except the index. Deliberately absent: message texts.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::Arc;

use hashbrown::HashTable;
use serde::Serialize;
use siphasher::sip::SipHasher13;

use crate::decide::{Outcome, attempt_of, message_of};
use crate::scenario::{Channel, LedgerMode};

const BLOCK_BYTES: usize = 1 << 20;
const BLOCK_ENTRIES: usize = 1 << 14;
const NO_TEXT: u32 = u32::MAX;
/// Number of the empty code, which the list of codes begins with.
const NO_CODE: u16 = 0;

/// One hand-over, without its texts.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    hash: u64,
    message_hash: u64,
    arrived_at_us: u64,
    /// Milliseconds from arrival to the final result.
    final_after_ms: u32,
    text_block: u32,
    text_offset: u32,
    reference_bytes: u8,
    recipient_bytes: u8,
    kind: Channel,
    pub(crate) status: EntryStatus,
    code: u16,
    pub(crate) times_received: u16,
    pub(crate) deliveries: u16,
}

/// The state of a hand-over, as the relay sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryStatus {
    /// Taken, no result yet.
    Accepted,
    /// Refused at hand-over.
    Refused,
    /// Delivered.
    Delivered,
    /// Not delivered.
    Undelivered,
}

/// One hand-over as shown to tests and over the admin endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerEntry {
    /// Position in the relay's ledger, from 0.
    pub index: usize,
    /// The relay.
    pub relay: Arc<str>,
    /// The client's reference, `<message>-<attempt>`.
    pub reference: String,
    /// The reference without its attempt.
    pub message: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Address as handed over.
    pub recipient: String,
    /// Type of the message.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it stands.
    pub status: EntryStatus,
    /// Code of the refusal or of the final result; empty until there is one.
    pub code: String,
    /// How many times this reference came in.
    pub times_received: u16,
    /// How many times the relay has delivered this hand-over.
    pub deliveries: u16,
    /// First arrival, microseconds since the Unix epoch.
    pub arrived_at_us: u64,
    /// Final result, milliseconds since the Unix epoch; absent until there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_at_ms: Option<u64>,
}

/// Counters of one relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Calls (SMTP: mail transactions) that reached the relay, whatever the result.
    pub calls: u64,
    /// Messages handed over in calls that were taken, repeats included.
    pub handovers: u64,
    /// References accepted.
    pub accepted: u64,
    /// References refused.
    pub refused: u64,
    /// Messages whose reference had come in before.
    pub duplicates: u64,
    /// Deliveries made.
    pub delivered: u64,
    /// Accepted messages that could not be delivered.
    pub undelivered: u64,
    /// Receipts taken by the client: answered with 2xx, or acknowledged.
    pub receipts_sent: u64,
    /// Pushes that failed.
    pub push_failures: u64,
    /// Calls answered with 429.
    pub rate_limited: u64,
    /// Calls whose answer was dropped after acceptance.
    pub answers_lost: u64,
    /// Calls answered late by a fault.
    pub slow_answers: u64,
    /// Calls dropped before acceptance.
    pub resets: u64,
    /// Calls answered with 503, outages included.
    pub unavailable: u64,
}

/// Text of one hand-over.
#[derive(Clone, Copy)]
pub(crate) struct HandOver<'a> {
    pub(crate) reference: &'a str,
    pub(crate) recipient: &'a str,
    pub(crate) kind: Channel,
    pub(crate) arrived_at_us: u64,
}

/// The ledger of one relay.
pub(crate) struct Ledger {
    mode: LedgerMode,
    index: HashTable<u32>,
    entries: Vec<Vec<Entry>>,
    texts: Vec<Vec<u8>>,
    codes: Vec<Arc<str>>,
    pub(crate) counters: Counters,
}

pub(crate) fn hash_of(text: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6b69_7465, 0x7369_6d00);
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl Ledger {
    pub(crate) fn new(mode: LedgerMode) -> Self {
        Self {
            mode,
            index: HashTable::new(),
            entries: Vec::new(),
            texts: Vec::new(),
            codes: vec![Arc::from("")],
            counters: Counters::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self.entries.split_last() {
            Some((last, full)) => full.len() * BLOCK_ENTRIES + last.len(),
            None => 0,
        }
    }

    /// The entry of a reference.
    pub(crate) fn find(&self, reference: &str) -> Option<u32> {
        let hash = hash_of(reference);
        let same = |index: &u32| {
            let entry = self.entry(*index);
            entry.hash == hash
                && (self.mode == LedgerMode::Counts || self.reference(entry) == reference.as_bytes())
        };
        self.index.find(hash, same).copied()
    }

    /// Adds an accepted hand-over and returns its position.
    pub(crate) fn add_accepted(&mut self, hand_over: HandOver<'_>) -> u32 {
        self.add(hand_over, EntryStatus::Accepted, NO_CODE)
    }

    /// Adds a refused hand-over and returns its position.
    pub(crate) fn add_refused(&mut self, hand_over: HandOver<'_>, code: &Arc<str>) -> u32 {
        let code = self.code_number(code);
        self.add(hand_over, EntryStatus::Refused, code)
    }

    fn add(&mut self, hand_over: HandOver<'_>, status: EntryStatus, code: u16) -> u32 {
        let hash = hash_of(hand_over.reference);
        let (text_block, text_offset) = self.keep_text(hand_over.reference, hand_over.recipient);
        let entry = Entry {
            hash,
            message_hash: hash_of(message_of(hand_over.reference)),
            arrived_at_us: hand_over.arrived_at_us,
            final_after_ms: u32::MAX,
            text_block,
            text_offset,
            reference_bytes: hand_over.reference.len() as u8,
            recipient_bytes: hand_over.recipient.len().min(255) as u8,
            kind: hand_over.kind,
            status,
            code,
            times_received: 1,
            deliveries: 0,
        };
        let position = self.len() as u32;
        match self.entries.last_mut() {
            Some(block) if block.len() < BLOCK_ENTRIES => block.push(entry),
            _ => {
                let mut block = Vec::with_capacity(BLOCK_ENTRIES);
                block.push(entry);
                self.entries.push(block);
            }
        }
        let entries = &self.entries;
        self.index.insert_unique(hash, position, |index| at(entries, *index).hash);
        position
    }

    pub(crate) fn entry(&self, position: u32) -> &Entry {
        at(&self.entries, position)
    }

    pub(crate) fn entry_mut(&mut self, position: u32) -> &mut Entry {
        &mut self.entries[position as usize / BLOCK_ENTRIES][position as usize % BLOCK_ENTRIES]
    }

    /// The code of an entry: refusal or final result.
    pub(crate) fn code(&self, entry: &Entry) -> Arc<str> {
        self.codes[usize::from(entry.code)].clone()
    }

    /// Records the result of an accepted hand-over. A hand-over delivered once stays delivered.
    pub(crate) fn finish(&mut self, position: u32, outcome: Outcome, code: &Arc<str>, at_ms: u64) {
        let code = self.code_number(code);
        let entry = self.entry_mut(position);
        entry.code = code;
        entry.final_after_ms =
            at_ms.saturating_sub(entry.arrived_at_us / 1_000).min(u64::from(u32::MAX - 1)) as u32;
        match outcome {
            Outcome::Delivered => {
                entry.status = EntryStatus::Delivered;
                entry.deliveries = entry.deliveries.saturating_add(1);
                self.counters.delivered += 1;
            }
            Outcome::Undelivered => {
                entry.status = EntryStatus::Undelivered;
                self.counters.undelivered += 1;
            }
        }
    }

    /// A page of entries from position `after`; empty in counts mode.
    pub(crate) fn page(&self, relay: &Arc<str>, after: usize, limit: usize) -> Vec<LedgerEntry> {
        if self.mode == LedgerMode::Counts {
            return Vec::new();
        }
        let end = self.len().min(after.saturating_add(limit));
        (after..end).map(|index| self.show(relay, index as u32)).collect()
    }

    /// An entry in full.
    pub(crate) fn show(&self, relay: &Arc<str>, position: u32) -> LedgerEntry {
        let entry = self.entry(position);
        let reference = String::from_utf8_lossy(self.reference(entry)).into_owned();
        LedgerEntry {
            index: position as usize,
            relay: relay.clone(),
            message: message_of(&reference).to_owned(),
            attempt: attempt_of(&reference),
            recipient: String::from_utf8_lossy(self.recipient(entry)).into_owned(),
            kind: entry.kind.name(),
            status: entry.status,
            code: self.code(entry).to_string(),
            times_received: entry.times_received,
            deliveries: entry.deliveries,
            arrived_at_us: entry.arrived_at_us,
            final_at_ms: entry.final_at_ms(),
            reference,
        }
    }

    /// Every delivery as the hash of its message, for counting outside the lock.
    pub(crate) fn delivered_messages(&self) -> Vec<u64> {
        let mut hashes = Vec::with_capacity(self.counters.delivered as usize);
        for entry in self.entries.iter().flatten() {
            hashes.extend(std::iter::repeat_n(entry.message_hash, usize::from(entry.deliveries)));
        }
        hashes
    }

    fn code_number(&mut self, code: &Arc<str>) -> u16 {
        if let Some(number) = self.codes.iter().position(|known| known == code) {
            return number as u16;
        }
        self.codes.push(code.clone());
        (self.codes.len() - 1) as u16
    }

    fn keep_text(&mut self, reference: &str, recipient: &str) -> (u32, u32) {
        if self.mode == LedgerMode::Counts {
            return (NO_TEXT, 0);
        }
        let recipient = &recipient.as_bytes()[..recipient.len().min(255)];
        let bytes = reference.len() + recipient.len();
        if self.texts.last().is_none_or(|block| block.len() + bytes > BLOCK_BYTES) {
            self.texts.push(Vec::with_capacity(BLOCK_BYTES));
        }
        let number = self.texts.len() - 1;
        let block = &mut self.texts[number];
        let offset = block.len();
        block.extend_from_slice(reference.as_bytes());
        block.extend_from_slice(recipient);
        (number as u32, offset as u32)
    }

    fn reference(&self, entry: &Entry) -> &[u8] {
        self.text(entry, 0, usize::from(entry.reference_bytes))
    }

    fn recipient(&self, entry: &Entry) -> &[u8] {
        self.text(entry, usize::from(entry.reference_bytes), usize::from(entry.recipient_bytes))
    }

    fn text(&self, entry: &Entry, skip: usize, bytes: usize) -> &[u8] {
        let Some(block) = self.texts.get(entry.text_block as usize) else { return &[] };
        let start = entry.text_offset as usize + skip;
        &block[start..start + bytes]
    }
}

impl Entry {
    pub(crate) fn final_at_ms(&self) -> Option<u64> {
        let is_final = self.final_after_ms != u32::MAX;
        is_final.then(|| self.arrived_at_us / 1_000 + u64::from(self.final_after_ms))
    }
}

fn at(entries: &[Vec<Entry>], position: u32) -> &Entry {
    &entries[position as usize / BLOCK_ENTRIES][position as usize % BLOCK_ENTRIES]
}

/// How many messages (by hash) are there more than once.
pub(crate) fn more_than_once(mut hashes: Vec<u64>) -> u64 {
    hashes.sort_unstable();
    hashes.chunk_by(|left, right| left == right).filter(|run| run.len() > 1).count() as u64
}

/// How many times each message was delivered, over entries of one or several relays.
pub(crate) fn deliveries_by_message(entries: &[LedgerEntry]) -> HashMap<String, u32> {
    let mut deliveries = HashMap::new();
    for entry in entries {
        *deliveries.entry(entry.message.clone()).or_insert(0) += u32::from(entry.deliveries);
    }
    deliveries
}
