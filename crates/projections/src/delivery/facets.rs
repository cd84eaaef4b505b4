//! Where to look for messages of a kind, without an index entry for each message.
//!
//! Messages are numbered in the order of their acceptance. A block of [`BLOCK_BITS`] has a row for each combination
//! of searchable values that messages in it have; the row counts them in each of the [`PIECES`] pieces of the block.
//! A search goes through the rows of its tenant, newest block first, and looks only into pieces that can contain a
//! match. There are few combinations, because most messages of a tenant are alike: some hundreds of rows for some ten
//! thousand messages, which a search of ten million reads in a few milliseconds.
//!
//! Only how a message ended is in its combination. Messages that have not ended are all under [`OPEN`], whatever
//! their relay: they change several times in their short lives, and counting each change would cost more than it is
//! worth. So a message is counted three times in its life, in memory, and a row is written once per transaction.
//!
//! Everything is a sum over what is true of each message, so a rebuild gives the same rows. See ADR 20.

use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

use super::codes::{Coded, MessageStatus};
use super::counters::MessageStanding;
use super::lot::{Lot, Seal};
use super::schema::{FACET_TIMES, FACETS};
use crate::engine::{Row, StorageError, Tables};
use crate::table::{Pick, Statement};

/// A block holds two to the power of this many messages.
pub(super) const BLOCK_BITS: u32 = 15;
/// A piece of a block holds two to the power of this many messages.
pub(super) const PIECE_BITS: u32 = 9;
/// Pieces of a block.
pub(super) const PIECES: usize = 1 << (BLOCK_BITS - PIECE_BITS);
/// The status of all messages that have not ended.
pub(super) const OPEN: i64 = -1;

static STORED: Statement = Statement::select(&FACETS, Pick::All, &[]);
static PUT: Statement = Statement::upsert(&FACETS, Pick::All);
static WIDEN_TIMES: Statement = Statement::upsert(&FACET_TIMES, Pick::All);

/// A combination of searchable values, in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Facet {
    tenant: u32,
    block: i64,
    status: i64,
    class: i64,
    from_phone: u32,
    from_email: u32,
    channel: i64,
    relay: u32,
    reason: u32,
}

impl Facet {
    /// That of a message of this row number.
    fn of(lot: &Lot, seal: Seal, message: i64, standing: MessageStanding) -> Self {
        let open = Self {
            tenant: lot.tenant,
            block: message >> BLOCK_BITS,
            status: OPEN,
            class: lot.class.code(),
            from_phone: seal.from_phone,
            from_email: seal.from_email,
            channel: 0,
            relay: 0,
            reason: 0,
        };
        match standing.outcome {
            None => open,
            outcome @ Some(_) => Self {
                status: MessageStatus::of(outcome, None).code(),
                channel: standing.channel.code(),
                relay: standing.relay,
                reason: standing.reason,
                ..open
            },
        }
    }
}

impl Facet {
    /// The columns of its key.
    fn key(&self) -> [i64; 9] {
        [
            i64::from(self.tenant),
            self.block,
            self.status,
            self.class,
            self.from_phone.into(),
            self.from_email.into(),
            self.channel,
            self.relay.into(),
            self.reason.into(),
        ]
    }

    /// From the columns of its key.
    fn read(row: &Row<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            tenant: row.get(0)?,
            block: row.get(1)?,
            status: row.get(2)?,
            class: row.get(3)?,
            from_phone: row.get(4)?,
            from_email: row.get(5)?,
            channel: row.get(6)?,
            relay: row.get(7)?,
            reason: row.get(8)?,
        })
    }
}

/// The piece of its block that a message is in.
fn piece(message: i64) -> usize {
    usize::try_from(message >> PIECE_BITS).unwrap_or(0) % PIECES
}

/// How many messages there are in each piece, or by how many the number changes.
type Pieces = [i32; PIECES];

/// The changes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Facets {
    changes: FxHashMap<Facet, Box<Pieces>>,
    /// When the messages of a block were accepted: from and to.
    times: BTreeMap<i64, (i64, i64)>,
}

impl Facets {
    /// A message of a sealed lot is there.
    pub(super) fn add(&mut self, lot: &Lot, seal: Seal, message: i64, standing: MessageStanding) {
        self.count(Facet::of(lot, seal, message, standing), message, 1);
    }

    /// A message of a sealed lot changes its combination.
    pub(super) fn moved(
        &mut self,
        lot: &Lot,
        seal: Seal,
        message: i64,
        before: MessageStanding,
        after: MessageStanding,
    ) {
        let (before, after) = (Facet::of(lot, seal, message, before), Facet::of(lot, seal, message, after));
        if before != after {
            self.count(before, message, -1);
            self.count(after, message, 1);
        }
    }

    fn count(&mut self, facet: Facet, message: i64, more: i32) {
        self.changes.entry(facet).or_insert_with(|| Box::new([0; PIECES]))[piece(message)] += more;
    }

    /// The messages of a lot can be found from now on.
    pub(super) fn sealed(&mut self, lot: &Lot) {
        let last = lot.first + lot.messages.len() as i64 - 1;
        for block in lot.first >> BLOCK_BITS..=last >> BLOCK_BITS {
            let times = self.times.entry(block).or_insert((lot.accepted_ms, lot.accepted_ms));
            *times = (times.0.min(lot.accepted_ms), times.1.max(lot.accepted_ms));
        }
    }

    /// Adds everything to the tables, in the order of the rows.
    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), StorageError> {
        if !self.times.is_empty() {
            let mut cells = tables.fill(&WIDEN_TIMES)?;
            for (block, (first_ms, last_ms)) in std::mem::take(&mut self.times) {
                cells.put(block);
                cells.put(first_ms);
                cells.put(last_ms);
                cells.end()?;
            }
        }
        if self.changes.is_empty() {
            return Ok(());
        }
        tables.fetch(
            &STORED,
            self.changes.keys().map(Facet::key).collect::<Vec<_>>(),
            |key, cells| key.iter().for_each(|value| cells.put(*value)),
            |row| {
                if let Some(counts) = self.changes.get_mut(&Facet::read(row)?) {
                    for (count, stored) in counts.iter_mut().zip(decode(row.bytes(9)?)) {
                        *count += i32::from(stored);
                    }
                }
                Ok::<_, StorageError>(())
            },
        )?;
        let mut changes: Vec<_> = self.changes.drain().collect();
        changes.sort_unstable_by_key(|(facet, _)| *facet);
        let mut cells = tables.fill(&PUT)?;
        for (facet, counts) in changes {
            facet.key().iter().for_each(|value| cells.put(*value));
            cells.put(encode(&counts).as_slice());
            cells.end()?;
        }
        Ok(())
    }
}

/// Two bytes per piece, without what is 0 at the end; nothing where there is no message left.
fn encode(counts: &Pieces) -> Vec<u8> {
    let filled = counts.iter().rposition(|count| *count != 0).map_or(0, |last| last + 1);
    let counts = counts[..filled].iter().map(|count| u16::try_from(*count).unwrap_or(0));
    counts.flat_map(u16::to_le_bytes).collect()
}

/// The stored counts, including those that are left out because they are zero.
pub(super) fn decode(bytes: &[u8]) -> [u16; PIECES] {
    let mut counts = [0; PIECES];
    for (count, bytes) in counts.iter_mut().zip(bytes.chunks_exact(2)) {
        *count = u16::from_le_bytes([bytes[0], bytes[1]]);
    }
    counts
}

/// The bits of the pieces in which something is.
pub(super) fn filled(bytes: &[u8]) -> u64 {
    let pieces = bytes.chunks_exact(2).take(PIECES).enumerate();
    pieces.filter(|(_, count)| *count != [0, 0]).fold(0, |bits, (place, _)| bits | 1 << place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_read_back_and_say_which_pieces_are_filled(
            filled_pieces in proptest::collection::btree_map(0..PIECES, 1u16..513, 0..PIECES),
        ) {
            let mut counts = [0; PIECES];
            filled_pieces.iter().for_each(|(place, count)| counts[*place] = i32::from(*count));
            let bytes = encode(&counts);
            prop_assert_eq!(decode(&bytes).map(i32::from), counts);
            let bits = filled_pieces.keys().fold(0u64, |bits, place| bits | 1 << place);
            prop_assert_eq!(filled(&bytes), bits);
            prop_assert_eq!(bytes.is_empty(), filled_pieces.is_empty());
        }
    }

    #[test]
    fn messages_side_by_side_are_in_one_piece_and_pieces_begin_anew_in_each_block() {
        assert_eq!((piece(0), piece(511), piece(512)), (0, 0, 1));
        assert_eq!((piece((1 << BLOCK_BITS) - 1), piece(1 << BLOCK_BITS)), (PIECES - 1, 0));
    }
}
