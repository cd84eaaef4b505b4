//! The tables of the delivery model.
//!
//! A message's row has the next free number when its lot is accepted: rows are only ever appended, and those of a lot
//! stand side by side, so the lot row says the rest (sending, tenant, class, time of acceptance) once for all of them.
//! `search` is cut into blocks of [`SEARCH_BLOCK_BITS`]: what is written in random order is then only the newest block,
//! which stays small, however many messages there are; a search looks into each block, newest first.
//!
//! `facets` says where to look for messages of a kind: see `facets`.
//!
//! `attempts` is the timeline in a compact form of our own (see `attempt`); everything that is filtered by has a
//! column.

use std::sync::LazyLock;

use super::counters;

/// A block of `search` holds two to the power of this many messages.
pub(super) const SEARCH_BLOCK_BITS: u32 = 17;

/// The tables; those that count have a column for each counter.
pub(super) static SCHEMA: LazyLock<String> = LazyLock::new(|| {
    let columns = counters::joined(|counter, _| format!("{} INTEGER NOT NULL DEFAULT 0", counter.word()));
    TABLES.replace("{counters}", &columns)
});

const TABLES: &str = "
CREATE TABLE words (
    id   INTEGER PRIMARY KEY,
    word TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE sendings (
    id               BLOB PRIMARY KEY,
    tenant           TEXT,
    class            INTEGER,
    accepted_ms      INTEGER,
    scheduled_ms     INTEGER,
    released_ms      INTEGER,
    paused_ms        INTEGER,
    paused_by        INTEGER,
    pause_reason     TEXT,
    cancelled_ms     INTEGER,
    completed_ms     INTEGER,
    abandoned_ms     INTEGER,
    expires_ms       INTEGER,
    client_reference TEXT,
    refused_recipients INTEGER NOT NULL DEFAULT 0,
    {counters}
) STRICT, WITHOUT ROWID;
CREATE TABLE contents (
    sending    BLOB PRIMARY KEY,
    from_phone TEXT,
    from_email TEXT,
    subject    TEXT,
    text       TEXT NOT NULL,
    custom     TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE lots (
    first       INTEGER PRIMARY KEY,
    sending     BLOB NOT NULL,
    number      INTEGER NOT NULL,
    messages    INTEGER NOT NULL,
    tenant      INTEGER NOT NULL,
    class       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    is_sealed   INTEGER NOT NULL,
    from_phone  INTEGER NOT NULL,
    from_email  INTEGER NOT NULL,
    UNIQUE (sending, number)
) STRICT;
CREATE TABLE messages (
    id                 INTEGER PRIMARY KEY,
    recipient          TEXT NOT NULL,
    email              TEXT,
    contact            BLOB,
    reference          TEXT,
    message_type       INTEGER NOT NULL,
    parts              INTEGER NOT NULL,
    status             INTEGER NOT NULL,
    relay              INTEGER NOT NULL,
    channel            INTEGER NOT NULL,
    attempts_made      INTEGER NOT NULL,
    first_submitted_ms INTEGER,
    final_ms           INTEGER,
    held_until_ms      INTEGER,
    reason             INTEGER NOT NULL,
    failure_class      INTEGER,
    cost_milliwon      INTEGER NOT NULL,
    attempts           BLOB NOT NULL
) STRICT;
CREATE TABLE search (
    block   INTEGER NOT NULL,
    hash    INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (block, hash, message)
) STRICT, WITHOUT ROWID;
CREATE TABLE facets (
    tenant     INTEGER NOT NULL,
    block      INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    class      INTEGER NOT NULL,
    from_phone INTEGER NOT NULL,
    from_email INTEGER NOT NULL,
    channel    INTEGER NOT NULL,
    relay      INTEGER NOT NULL,
    reason     INTEGER NOT NULL,
    counts     BLOB NOT NULL,
    PRIMARY KEY (tenant, block, status, class, from_phone, from_email, channel, relay, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE facet_times (
    block    INTEGER PRIMARY KEY,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL
) STRICT;
CREATE TABLE statistics (
    tenant          INTEGER NOT NULL,
    hour            INTEGER NOT NULL,
    relay           INTEGER NOT NULL,
    channel         INTEGER NOT NULL,
    message_type    INTEGER NOT NULL,
    class           INTEGER NOT NULL,
    {counters},
    PRIMARY KEY (tenant, hour, relay, channel, message_type, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE totals (
    relay   INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    class   INTEGER NOT NULL,
    {counters},
    PRIMARY KEY (relay, channel, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE statistic_failures (
    tenant       INTEGER NOT NULL,
    hour         INTEGER NOT NULL,
    relay        INTEGER NOT NULL,
    channel      INTEGER NOT NULL,
    message_type INTEGER NOT NULL,
    class        INTEGER NOT NULL,
    failure      INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, relay, channel, message_type, class, failure)
) STRICT, WITHOUT ROWID;
CREATE TABLE statistic_times (
    tenant       INTEGER NOT NULL,
    hour         INTEGER NOT NULL,
    relay        INTEGER NOT NULL,
    channel      INTEGER NOT NULL,
    message_type INTEGER NOT NULL,
    class        INTEGER NOT NULL,
    metric       INTEGER NOT NULL,
    bucket       INTEGER NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, relay, channel, message_type, class, metric, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay_minutes (
    channel     INTEGER NOT NULL,
    minute      INTEGER NOT NULL,
    relay       INTEGER NOT NULL,
    handed_over INTEGER NOT NULL,
    accepted    INTEGER NOT NULL,
    unknown     INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    undelivered INTEGER NOT NULL,
    delivered   INTEGER NOT NULL,
    expired     INTEGER NOT NULL,
    PRIMARY KEY (channel, minute, relay)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay_minute_failures (
    channel     INTEGER NOT NULL,
    minute      INTEGER NOT NULL,
    relay       INTEGER NOT NULL,
    failure     INTEGER NOT NULL,
    refused     INTEGER NOT NULL,
    undelivered INTEGER NOT NULL,
    PRIMARY KEY (channel, minute, relay, failure)
) STRICT, WITHOUT ROWID;
CREATE TABLE relay_minute_times (
    channel INTEGER NOT NULL,
    minute  INTEGER NOT NULL,
    relay   INTEGER NOT NULL,
    metric  INTEGER NOT NULL,
    bucket  INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (channel, minute, relay, metric, bucket)
) STRICT, WITHOUT ROWID;
";

pub(super) const INDEXES: &str = "
CREATE INDEX sendings_by_tenant ON sendings (tenant, id) WHERE accepted_ms IS NOT NULL;
CREATE INDEX sendings_paused ON sendings (id) WHERE paused_ms IS NOT NULL;
CREATE INDEX sendings_scheduled ON sendings (id) WHERE scheduled_ms IS NOT NULL;
CREATE INDEX sendings_by_reference ON sendings (tenant, client_reference, id) WHERE client_reference IS NOT NULL;
";

/// What is looked up in `search`: the same address of the same tenant has the same number, others rarely do (the row
/// is compared afterwards). FNV-1a, folded to 32 bits, so that it stays the same for ever.
pub(super) fn search_hash(tenant: u32, address: &str) -> i64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = tenant.to_le_bytes().into_iter().chain(address.bytes()).fold(0xcbf2_9ce4_8422_2325, fold);
    i64::from((hash >> 32) as u32 ^ hash as u32)
}
