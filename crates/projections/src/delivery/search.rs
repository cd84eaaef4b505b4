//! Search of a tenant's messages by everything that can be filtered by, newest first.
//!
//! There are three ways, each by keyset and each limited: an address is looked up in `search`; a client reference
//! names its sendings; everything else uses `facets`, which say in which pieces of which blocks there can be a match.
//! The messages found are then compared with all filters. A page that has examined enough ends with a cursor and what
//! it has found, however little that is.

use chrono::{DateTime, Utc};
use kite_domain::address::identity;
use kite_domain::ids::SendingId;
use kite_domain::sending::MessageClass;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::Channel;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range, RangeInclusive};

use super::DeliveryQueries;
use super::codes::{Coded, MessageStatus};
use super::facets::{BLOCK_BITS, OPEN, PIECE_BITS, PIECES, filled};
use super::known::KnownMessage;
use super::row::{LotRow, read, select_lots, select_messages};
use super::schema::{SEARCH_BLOCK_BITS, search_hash};
use super::word_numbers::{WordList, find};
use crate::engine::{Connection, InRanges, Row, StorageError, values};
use crate::error::QueryError;
use crate::listing::{Cursor, Listing};
use crate::sql::one_more;

/// A page that uses facets or a client reference begins to examine no more messages when it has examined so many.
const SCANNED_MAX: usize = 40_000;
/// A page reads no more rows of `facets` than this.
const FACETS_MAX: usize = 60_000;
/// Blocks whose facets are read together at first.
const BLOCKS_AT_FIRST: i64 = 4;
/// Places that are looked into together at first, and then so many times as many: nearly always the first one fills the page.
const PLACES_AT_FIRST: usize = 1;
const MORE_PLACES: usize = 4;
/// Places that are looked into together at most.
const PLACES_MAX: usize = 32;
/// A page examines no more messages of an address than this.
const LOOKED_UP_MAX: usize = 2_000;
/// A page examines no more sendings of a client reference than this.
const SENDINGS_MAX: usize = 1_000;

/// Which messages: those that match every filter that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageSearch {
    /// To this address (a canonical number or an e-mail address in any spelling), even where they would only fail over to
    /// it.
    pub to: Option<String>,
    /// Standing so.
    pub status: Option<MessageStatus>,
    /// Ended for this reason: a relay's code or one of Kite's own words.
    pub reason: Option<String>,
    /// Newest attempt at this relay.
    pub relay: Option<RelayId>,
    /// Newest attempt on this channel; without an attempt, of that type.
    pub channel: Option<Channel>,
    /// Of a sending from this number or address, in any spelling.
    pub sender: Option<String>,
    /// Of this urgency.
    pub class: Option<MessageClass>,
    /// Of a sending that its sender called so.
    pub client_reference: Option<String>,
    /// Accepted at or after.
    pub from: Option<DateTime<Utc>>,
    /// Accepted before.
    pub until: Option<DateTime<Utc>>,
}

impl DeliveryQueries {
    /// The tenant's messages, the newest first; those of one client reference by their sendings, the newest first. A page
    /// may be short, even empty, although there is more.
    pub fn search(
        &self,
        tenant: &TenantId,
        search: &MessageSearch,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Listing<KnownMessage>, QueryError> {
        self.readers.ask(|connection| {
            let Some(terms) = Terms::of(connection, tenant, search)? else {
                return Ok(Listing { items: Vec::new(), next: None });
            };
            let mut seeker = Seeker {
                connection,
                terms,
                limit,
                words: WordList::default(),
                called_so: HashMap::new(),
                scanned: 0,
                places: PLACES_AT_FIRST,
                found: Vec::new(),
            };
            let end = match (&search.to, &search.client_reference) {
                (Some(address), _) => seeker.by_address(&identity(address), after)?,
                (None, Some(reference)) => seeker.by_reference(tenant, reference, after)?,
                (None, None) => seeker.by_facets(after)?,
            };
            Ok(seeker.listing(end))
        })
    }
}

/// The filters, as the numbers in the columns. `None`: anything.
struct Terms<'s> {
    tenant: u32,
    address: Option<Cow<'s, str>>,
    status: Option<MessageStatus>,
    reason: Option<u32>,
    relay: Option<u32>,
    channel: Option<i64>,
    sender: Option<u32>,
    class: Option<MessageClass>,
    client_reference: Option<&'s str>,
    from_ms: i64,
    until_ms: i64,
}

impl<'s> Terms<'s> {
    /// None: nothing can match, because a word of the filter is in no row.
    fn of(
        connection: Connection<'_>,
        tenant: &TenantId,
        search: &'s MessageSearch,
    ) -> Result<Option<Self>, QueryError> {
        let Some(tenant) = find(connection, tenant.as_str())? else { return Ok(None) };
        let mut is_unknown = false;
        let mut number = |word: Option<&str>| {
            let found = word.map(|word| find(connection, word)).transpose()?;
            is_unknown |= found == Some(None);
            Ok::<_, QueryError>(found.flatten())
        };
        let terms = Self {
            tenant,
            address: search.to.as_deref().map(identity),
            status: search.status,
            reason: number(search.reason.as_deref())?,
            relay: number(search.relay.as_ref().map(RelayId::as_str))?,
            channel: search.channel.map(Coded::code),
            sender: number(search.sender.as_deref().map(identity).as_deref())?,
            class: search.class,
            client_reference: search.client_reference.as_deref(),
            from_ms: search.from.map_or(i64::MIN, |from| from.timestamp_millis()),
            until_ms: search.until.map_or(i64::MAX, |until| until.timestamp_millis()),
        };
        Ok((!is_unknown).then_some(terms))
    }

    /// Whether the message of this row goes to the address, or would fail over to it. Others may have the same hash.
    fn is_to(&self, row: &Row<'_>) -> Result<bool, QueryError> {
        let Some(wanted) = &self.address else { return Ok(true) };
        let is_it = |text: Option<&str>| text.is_some_and(|text| identity(text) == *wanted);
        Ok(is_it(row.optional_str(1)?) || is_it(row.optional_str(2)?))
    }

    /// Whether a message of this lot can match.
    fn admits(&self, lot: &LotRow) -> bool {
        lot.is_sealed
            && lot.tenant == self.tenant
            && self.class.is_none_or(|class| class == lot.class)
            && self.sender.is_none_or(|sender| sender == lot.from_phone || sender == lot.from_email)
            && (self.from_ms..self.until_ms).contains(&lot.accepted_ms)
    }
}

/// Where in some blocks there can be a match.
struct FilledPieces {
    /// The newest first, each with the bits of its pieces.
    blocks: Vec<(i64, u64)>,
    /// The page may read no more: the next one begins with this block.
    next: Option<i64>,
}

/// How a page ended.
enum End {
    /// There is nothing more.
    Over,
    /// It is full, or has examined enough: there may be more after this.
    After(Cursor),
}

/// The messages of a block's pieces, the newest first, as far as they are before this one.
fn pieces(block: i64, bits: u64, before: i64) -> impl Iterator<Item = Range<i64>> {
    (0..PIECES as i64).rev().filter(move |place| bits >> place & 1 == 1).filter_map(move |place| {
        let first = (block << BLOCK_BITS) + (place << PIECE_BITS);
        let range = first..before.min(first + (1 << PIECE_BITS));
        (!range.is_empty()).then_some(range)
    })
}

fn messages_in(ranges: &[Range<i64>]) -> usize {
    ranges.iter().map(|range| usize::try_from(range.end - range.start).unwrap_or(0)).sum()
}

/// The part of a range from its first to its last message of one of these lots.
fn narrowed(range: &Range<i64>, lots: &BTreeMap<i64, LotRow>) -> Option<Range<i64>> {
    let (_, newest) = lots.range(..range.end).next_back()?;
    // One that begins before the range may reach into it.
    let reaching = lot_of(range.start, lots).map(|_| range.start);
    let start = reaching.or_else(|| lots.range(range.clone()).next().map(|(first, _)| *first))?;
    let end = range.end.min(newest.first + newest.messages);
    (start < end).then_some(start..end)
}

/// The one of these lots that a message is in.
fn lot_of(message: i64, lots: &BTreeMap<i64, LotRow>) -> Option<&LotRow> {
    let (_, lot) = lots.range(..=message).next_back()?;
    (message < lot.first + lot.messages).then_some(lot)
}

/// One page on its way.
struct Seeker<'s> {
    connection: Connection<'s>,
    terms: Terms<'s>,
    limit: usize,
    words: WordList,
    /// Whether a sending has the client reference that is asked for.
    called_so: HashMap<SendingId, bool>,
    /// Messages that were examined.
    scanned: usize,
    /// Places that are looked into next time.
    places: usize,
    /// With their row numbers; one more than the page needs shows that there is more.
    found: Vec<(i64, KnownMessage)>,
}

impl Seeker<'_> {
    fn is_full(&self) -> bool {
        self.found.len() > self.limit
    }

    fn listing(mut self, end: End) -> Listing<KnownMessage> {
        self.found.truncate(self.limit);
        let next = match end {
            End::Over => None,
            End::After(cursor) => Some(cursor),
        };
        Listing { items: self.found.into_iter().map(|(_, message)| message).collect(), next }
    }

    /// The position after the last message that the page has room for.
    fn full(&self) -> End {
        let last = self.found.get(self.limit.saturating_sub(1));
        End::After(Cursor::from_number(last.map_or(0, |(id, _)| *id)))
    }

    /// Goes through the blocks that can contain a match, the newest first. Some blocks at a time, and more each time: nearly always
    /// the first ones fill the page.
    fn by_facets(&mut self, after: Option<&Cursor>) -> Result<End, QueryError> {
        let before = after.map_or(Ok(i64::MAX), Cursor::number)?;
        let (oldest, newest) = self.blocks_of_time()?;
        let mut newest = newest.min(before.saturating_sub(1) >> BLOCK_BITS);
        let mut blocks = BLOCKS_AT_FIRST;
        let mut rows = 0;
        while newest >= oldest {
            let from = oldest.max(newest.saturating_sub(blocks - 1));
            let filled = self.filled_pieces(from..=newest, &mut rows)?;
            let pieces = filled.blocks.into_iter().flat_map(|(block, bits)| pieces(block, bits, before));
            if let Some(end) = self.look_into(pieces.collect())? {
                return Ok(end);
            }
            if let Some(next) = filled.next {
                return Ok(End::After(Cursor::from_number((next + 1) << BLOCK_BITS)));
            }
            (newest, blocks) = (from - 1, blocks.saturating_mul(4));
        }
        Ok(End::Over)
    }

    /// The pieces of these blocks in which there can be a match.
    fn filled_pieces(
        &self,
        blocks: RangeInclusive<i64>,
        rows: &mut usize,
    ) -> Result<FilledPieces, QueryError> {
        let sql = "SELECT block, counts FROM facets
             WHERE tenant = ?1 AND block BETWEEN ?2 AND ?3 AND length(counts) > 0
               AND (?4 IS NULL OR status = ?4) AND (?5 IS NULL OR class = ?5)
               AND (?6 IS NULL OR from_phone = ?6 OR from_email = ?6)
               AND (?7 IS NULL OR (status <> -1 AND reason = ?7))
               AND (?8 IS NULL OR status = -1 OR relay = ?8) AND (?9 IS NULL OR status = -1 OR channel = ?9)
             ORDER BY block DESC LIMIT ?10";
        let status = self.terms.status.map(|status| match status.outcome() {
            Some(_) => status.code(),
            None => OPEN,
        });
        let values = values![
            self.terms.tenant,
            *blocks.start(),
            *blocks.end(),
            status,
            self.terms.class.map(Coded::code),
            self.terms.sender,
            self.terms.reason,
            self.terms.relay,
            self.terms.channel,
            one_more(FACETS_MAX - *rows),
        ];
        let mut found: Vec<(i64, u64)> = Vec::new();
        self.connection.each(sql, values, |row| {
            let (block, more) = (row.get(0)?, filled(row.bytes(1)?));
            match found.last_mut() {
                Some((last, bits)) if *last == block => *bits |= more,
                _ => found.push((block, more)),
            }
            *rows += 1;
            Ok::<_, QueryError>(ControlFlow::Continue(()))
        })?;
        // The last block may have more rows.
        let next = (*rows > FACETS_MAX).then(|| found.pop().map_or(0, |(block, _)| block));
        Ok(FilledPieces { blocks: found, next })
    }

    /// Looks for matches in these ranges, of which each is before the one before it.
    fn look_into(&mut self, ranges: Vec<Range<i64>>) -> Result<Option<End>, QueryError> {
        let mut ranges = ranges.as_slice();
        while let Some(first) = ranges.first() {
            if self.scanned >= SCANNED_MAX {
                return Ok(Some(End::After(Cursor::from_number(first.end))));
            }
            let (next, later) = ranges.split_at(self.places.min(ranges.len()));
            self.scanned += messages_in(next);
            self.places = (self.places * MORE_PLACES).min(PLACES_MAX);
            self.ranges(next)?;
            if self.is_full() {
                return Ok(Some(self.full()));
            }
            ranges = later;
        }
        Ok(None)
    }

    /// The first and the last block with messages of the requested time.
    fn blocks_of_time(&self) -> Result<(i64, i64), StorageError> {
        let (from_ms, until_ms) = (self.terms.from_ms, self.terms.until_ms);
        let sql = "SELECT coalesce(min(block), 0), coalesce(max(block), -1) FROM facet_times
                   WHERE last_ms >= ?1 AND first_ms < ?2";
        self.connection.one(sql, values![from_ms, until_ms], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Takes what matches in these ranges of messages, the newest first, until the page is full.
    fn ranges(&mut self, ranges: &[Range<i64>]) -> Result<(), QueryError> {
        let sql = select_lots!(
            "WHERE first < ?2 AND first >= coalesce((SELECT max(first) FROM lots WHERE first <= ?1), 0)"
        );
        let mut admitted = BTreeMap::new();
        // Those that begin in a range, and the one that reaches into it.
        let limit = messages_in(ranges) + ranges.len();
        let question = InRanges { sql, order: "first DESC", limit, ranges };
        self.connection.each_in(&question, &[], |row| {
            let lot = LotRow::read(row)?;
            if self.terms.admits(&lot) {
                admitted.insert(lot.first, lot);
            }
            Ok::<_, QueryError>(ControlFlow::Continue(()))
        })?;
        self.keep_those_called_so(&mut admitted)?;
        let narrowed: Vec<_> = ranges.iter().filter_map(|range| narrowed(range, &admitted)).collect();
        self.messages(&narrowed, &admitted)
    }

    fn messages(&mut self, ranges: &[Range<i64>], lots: &BTreeMap<i64, LotRow>) -> Result<(), QueryError> {
        let sql = select_messages!(
            "WHERE id >= ?1 AND id < ?2 AND (?3 IS NULL OR status = ?3) AND (?4 IS NULL OR reason = ?4)
               AND (?5 IS NULL OR relay = ?5) AND (?6 IS NULL OR channel = ?6)"
        );
        let values = values![
            self.terms.status.map(Coded::code),
            self.terms.reason,
            self.terms.relay,
            self.terms.channel,
        ];
        let mut ranges = ranges.to_vec();
        // Nearly always every row is one that the page wants.
        let mut limit = self.limit.saturating_sub(self.found.len()).saturating_add(1);
        loop {
            let question = InRanges { sql, order: "id DESC", limit, ranges: &ranges };
            let (mut rows, mut last) = (0, 0);
            self.connection.each_in(&question, values, |row| {
                let id: i64 = row.get(0)?;
                (rows, last) = (rows + 1, id);
                // Others may have the same hash.
                if let Some(lot) = lot_of(id, lots)
                    && self.terms.is_to(row)?
                {
                    let message = read(self.connection, &mut self.words, lot, row)?;
                    self.found.push((id, message));
                }
                Ok::<_, QueryError>(if self.is_full() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
            if self.is_full() || rows < limit {
                return Ok(());
            }
            ranges.iter_mut().for_each(|range| range.end = range.end.min(last));
            ranges.retain(|range| !range.is_empty());
            limit = limit.saturating_mul(4);
        }
    }

    /// Goes through the messages to an address, also those that would fail over to it.
    fn by_address(&mut self, address: &str, after: Option<&Cursor>) -> Result<End, QueryError> {
        let before = after.map_or(Ok(i64::MAX), Cursor::number)?;
        let newest: Option<i64> = self
            .connection
            .one("SELECT max(id) FROM messages", &[], |row| Ok::<_, QueryError>(row.get(0)?))?;
        let newest = newest.unwrap_or(0).min(before.saturating_sub(1));
        let hash = search_hash(self.terms.tenant, address);
        let mut looked_up = 0;
        let mut until = (newest.max(0) >> SEARCH_BLOCK_BITS) + 1;
        let mut blocks = BLOCKS_AT_FIRST;
        while until > 0 {
            let from = until.saturating_sub(blocks).max(0);
            let mut called = Vec::new();
            let sql =
                "SELECT message FROM search WHERE block = ?1 AND ?1 < ?2 AND hash = ?3 AND message < ?4";
            let each: Vec<_> = (from..until).rev().map(|block| block..block + 1).collect();
            // One more shows that there is more.
            let limit = LOOKED_UP_MAX - looked_up + 1;
            let question = InRanges { sql, order: "message DESC", limit, ranges: &each };
            self.connection.each_in(&question, values![hash, before], |row| {
                called.push(row.get(0)?);
                let has_enough = called.len() >= limit;
                Ok::<_, QueryError>(if has_enough {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
            let beyond = called.get(LOOKED_UP_MAX - looked_up).copied();
            called.truncate(LOOKED_UP_MAX - looked_up);
            looked_up += called.len();
            for ids in called.chunks(self.limit.clamp(1, PLACES_MAX)) {
                let ranges: Vec<_> = ids.iter().map(|id: &i64| *id..id + 1).collect();
                self.ranges(&ranges)?;
                if self.is_full() {
                    return Ok(self.full());
                }
            }
            if let Some(next) = beyond {
                return Ok(End::After(Cursor::from_number(next + 1)));
            }
            (until, blocks) = (from, blocks.saturating_mul(4));
        }
        Ok(End::Over)
    }

    /// Lots whose sendings have the client reference that is asked for, if one is.
    fn keep_those_called_so(&mut self, lots: &mut BTreeMap<i64, LotRow>) -> Result<(), StorageError> {
        let Some(reference) = self.terms.client_reference else { return Ok(()) };
        let sql = "SELECT 1 FROM sendings WHERE id = ?1 AND client_reference = ?2";
        for lot in lots.values() {
            let sending = lot.id.sending;
            if !self.called_so.contains_key(&sending) {
                let is_called_so = self.connection.exists(sql, values![&sending, reference])?;
                self.called_so.insert(sending, is_called_so);
            }
        }
        lots.retain(|_, lot| self.called_so[&lot.id.sending]);
        Ok(())
    }

    /// Through the sendings of a client reference, the newest first, and through each from its end.
    fn by_reference(
        &mut self,
        tenant: &TenantId,
        reference: &str,
        after: Option<&Cursor>,
    ) -> Result<End, QueryError> {
        let place = after.map_or(Ok(Place::NEWEST), Place::of)?;
        let sql = "SELECT id FROM sendings
             WHERE tenant = ?1 AND client_reference = ?2 AND id <= ?3 AND accepted_ms IS NOT NULL
             ORDER BY id DESC LIMIT ?4";
        let values = values![tenant.as_str(), reference, &place.sending, one_more(SENDINGS_MAX)];
        let sendings: Vec<[u8; 16]> =
            self.connection.all(sql, values, |row| Ok::<_, QueryError>(row.get(0)?))?;
        for (count, sending) in sendings.into_iter().enumerate() {
            let before = if sending == place.sending { place.before } else { i64::MAX };
            if count >= SENDINGS_MAX {
                return Ok(End::After(Place { sending, before }.cursor()));
            }
            if let Some(end) = self.sending(sending, before)? {
                return Ok(end);
            }
        }
        Ok(End::Over)
    }

    fn sending(&mut self, sending: [u8; 16], before: i64) -> Result<Option<End>, QueryError> {
        let sql = select_lots!("WHERE sending = ?1 AND first < ?2 ORDER BY first DESC");
        let lots = self.connection.all(sql, values![&sending, before], LotRow::read)?;
        for lot in lots {
            let range = lot.first..before.min(lot.first + lot.messages);
            if !self.terms.admits(&lot) {
                continue;
            }
            if self.scanned >= SCANNED_MAX {
                return Ok(Some(End::After(Place { sending, before: range.end }.cursor())));
            }
            self.scanned += messages_in(std::slice::from_ref(&range));
            self.messages(&[range], &BTreeMap::from([(lot.first, lot)]))?;
            if self.is_full() {
                let last = self.found.get(self.limit.saturating_sub(1));
                let place = last
                    .map(|(id, message)| Place { sending: *message.id.sending.0.as_bytes(), before: *id });
                return Ok(Some(place.map_or(End::Over, |place| End::After(place.cursor()))));
            }
        }
        Ok(None)
    }
}

/// Where a page of a client reference ends: at a message of a sending.
struct Place {
    sending: [u8; 16],
    /// Its messages before this row number are next.
    before: i64,
}

impl Place {
    const NEWEST: Self = Self { sending: [0xff; 16], before: i64::MAX };

    fn of(cursor: &Cursor) -> Result<Self, QueryError> {
        let (sending, before) = cursor.bytes().split_at_checked(16).ok_or(QueryError::Cursor)?;
        Ok(Self {
            sending: sending.try_into().map_err(|_| QueryError::Cursor)?,
            before: before.try_into().map(i64::from_be_bytes).map_err(|_| QueryError::Cursor)?,
        })
    }

    fn cursor(&self) -> Cursor {
        let mut bytes = self.sending.to_vec();
        bytes.extend_from_slice(&self.before.to_be_bytes());
        Cursor::new(bytes)
    }
}
