//! The tables of the delivery model.
//!
//! A message's row gets the next free number when its lot is accepted: rows are only ever appended, and those of a
//! lot are side by side. So the lot row has the rest (sending, tenant, class, time of acceptance) once for all of
//! them. `search` is divided into blocks of [`SEARCH_BLOCK_BITS`]: only the newest block is written in random order,
//! and it stays small, however many messages there are. A search looks into each block, newest first.
//!
//! `facets` says where to look for messages of a kind: see `facets`.
//!
//! `attempts` is the timeline in a compact form of our own (see `attempt`); everything that can be filtered by has a
//! column.

use super::counters::{COUNTERS, counted_minutes, with_counters};
use crate::table::{Column, Index, Table, bytes, integer, text};

/// A block of `search` holds two to the power of this many messages.
pub(super) const SEARCH_BLOCK_BITS: u32 = 17;

pub(super) const TABLES: &[&Table] = &[
    &WORDS,
    &SENDINGS,
    &CONTENTS,
    &LOTS,
    &MESSAGES,
    &SEARCH,
    &FACETS,
    &FACET_TIMES,
    &STATISTICS,
    &TOTALS,
    &STATISTIC_FAILURES,
    &STATISTIC_TIMES,
    &RELAY_MINUTES,
    &RELAY_MINUTE_FAILURES,
    &RELAY_MINUTE_TIMES,
];

pub(super) static WORDS: Table =
    Table::new("words", &[integer("id").key(), text("word")]).unique(&[&["word"]]);

/// What a sending's own stream says of it.
pub(super) const OF_A_SENDING: [Column; 15] = [
    bytes("id").key(),
    text("tenant").or_none(),
    integer("class").or_none(),
    integer("accepted_ms").or_none(),
    integer("scheduled_ms").or_none(),
    integer("released_ms").or_none(),
    integer("paused_ms").or_none(),
    integer("paused_by").or_none(),
    text("pause_reason").or_none(),
    integer("cancelled_ms").or_none(),
    integer("completed_ms").or_none(),
    integer("abandoned_ms").or_none(),
    integer("expires_ms").or_none(),
    text("client_reference").or_none(),
    integer("refused_recipients").or_zero(),
];
const SENDING: [Column; 15 + COUNTERS] = with_counters(OF_A_SENDING);
pub(super) static SENDINGS: Table = Table::new("sendings", &SENDING).indexed(&[
    Index::new("sendings_by_tenant", &["tenant", "id"]).only("accepted_ms IS NOT NULL").late(),
    Index::new("sendings_paused", &["id"]).only("paused_ms IS NOT NULL").late(),
    Index::new("sendings_scheduled", &["id"]).only("scheduled_ms IS NOT NULL").late(),
    Index::new("sendings_by_reference", &["tenant", "client_reference", "id"])
        .only("client_reference IS NOT NULL")
        .late(),
]);

pub(super) static CONTENTS: Table = Table::new(
    "contents",
    &[
        bytes("sending").key(),
        text("from_phone").or_none(),
        text("from_email").or_none(),
        text("subject").or_none(),
        text("text"),
        text("custom").or_none(),
    ],
);

pub(super) static LOTS: Table = Table::new(
    "lots",
    &[
        integer("first").key(),
        bytes("sending"),
        integer("number"),
        integer("messages"),
        integer("tenant"),
        integer("class"),
        integer("accepted_ms"),
        integer("is_sealed"),
        integer("from_phone"),
        integer("from_email"),
    ],
)
.unique(&[&["sending", "number"]]);

pub(super) static MESSAGES: Table = Table::new(
    "messages",
    &[
        integer("id").key(),
        text("recipient"),
        text("email").or_none(),
        bytes("contact").or_none(),
        text("reference").or_none(),
        integer("message_type"),
        integer("parts"),
        integer("status"),
        integer("relay"),
        integer("channel"),
        integer("attempts_made"),
        integer("first_submitted_ms").or_none(),
        integer("final_ms").or_none(),
        integer("held_until_ms").or_none(),
        integer("reason"),
        integer("failure_class").or_none(),
        integer("cost_milliwon"),
        bytes("attempts"),
    ],
);

pub(super) static SEARCH: Table =
    Table::new("search", &[integer("block").key(), integer("hash").key(), integer("message").key()]);

pub(super) static FACETS: Table = Table::new(
    "facets",
    &[
        integer("tenant").key(),
        integer("block").key(),
        integer("status").key(),
        integer("class").key(),
        integer("from_phone").key(),
        integer("from_email").key(),
        integer("channel").key(),
        integer("relay").key(),
        integer("reason").key(),
        bytes("counts"),
    ],
);

pub(super) static FACET_TIMES: Table = Table::new(
    "facet_times",
    &[integer("block").key(), integer("first_ms").least(), integer("last_ms").greatest()],
);

/// What statistics are about.
const STATISTIC: [Column; 6] = [
    integer("tenant").key(),
    integer("hour").key(),
    integer("relay").key(),
    integer("channel").key(),
    integer("message_type").key(),
    integer("class").key(),
];
const STATISTIC_COUNTS: [Column; 6 + COUNTERS] = with_counters(STATISTIC);
pub(super) static STATISTICS: Table = Table::new("statistics", &STATISTIC_COUNTS);

const TOTAL: [Column; 3 + COUNTERS] =
    with_counters([integer("relay").key(), integer("channel").key(), integer("class").key()]);
pub(super) static TOTALS: Table = Table::new("totals", &TOTAL);

const FAILURE: [Column; 8] = join(STATISTIC, [integer("failure").key(), integer("count").added()]);
pub(super) static STATISTIC_FAILURES: Table = Table::new("statistic_failures", &FAILURE);

const TIME: [Column; 9] =
    join(STATISTIC, [integer("metric").key(), integer("bucket").key(), integer("count").added()]);
pub(super) static STATISTIC_TIMES: Table = Table::new("statistic_times", &TIME);

/// What the minutes of a relay are about.
const MINUTE: [Column; 3] = [integer("channel").key(), integer("minute").key(), integer("relay").key()];
const MINUTE_COUNTS: [Column; 10] = join(MINUTE, counted_minutes());
pub(super) static RELAY_MINUTES: Table = Table::new("relay_minutes", &MINUTE_COUNTS);

const MINUTE_FAILURE: [Column; 6] =
    join(MINUTE, [integer("failure").key(), integer("refused").added(), integer("undelivered").added()]);
pub(super) static RELAY_MINUTE_FAILURES: Table = Table::new("relay_minute_failures", &MINUTE_FAILURE);

const MINUTE_TIME: [Column; 6] =
    join(MINUTE, [integer("metric").key(), integer("bucket").key(), integer("count").added()]);
pub(super) static RELAY_MINUTE_TIMES: Table = Table::new("relay_minute_times", &MINUTE_TIME);

/// Columns and more columns.
const fn join<const FIRST: usize, const MORE: usize, const ALL: usize>(
    first: [Column; FIRST],
    more: [Column; MORE],
) -> [Column; ALL] {
    assert!(FIRST + MORE == ALL, "there are as many columns as are said");
    let mut all = [first[0]; ALL];
    let mut place = 0;
    while place < ALL {
        all[place] = if place < FIRST { first[place] } else { more[place - FIRST] };
        place += 1;
    }
    all
}

/// The value that is looked up in `search`: the same address of the same tenant has the same number, others rarely do
/// (the row is compared afterwards). FNV-1a, folded to 32 bits. It must never change.
pub(super) fn search_hash(tenant: u32, address: &str) -> i64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = tenant.to_le_bytes().into_iter().chain(address.bytes()).fold(0xcbf2_9ce4_8422_2325, fold);
    i64::from((hash >> 32) as u32 ^ hash as u32)
}
