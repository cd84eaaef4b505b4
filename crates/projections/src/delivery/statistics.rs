//! Counts that rows are added up from, gathered in memory for one transaction.
//!
//! Everything counted is a sum over messages of what is true of each of them (or, for times, of moments that happen
//! once), so the sums do not depend on the order of arrival or on where a page of the log ended. A row that was touched
//! is written even if its change is zero, for the same reason.

use kite_domain::failure::FailureClass;
use kite_domain::lot::AttemptState;
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;
use rusqlite::{CachedStatement, Transaction};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::LazyLock;

use super::codes::Coded;
use super::counters::{self, AttemptStanding, Counter, Counts};
use crate::histogram::bucket;

/// Milliseconds in an hour. Asia/Seoul is whole hours from UTC, so its hours are these.
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Milliseconds in a minute.
pub(super) const MINUTE_MS: i64 = 60_000;
/// What a row of `statistics` is about. Relay 0: messages that have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: u32,
    /// Begin of the hour of acceptance.
    pub(super) hour_ms: i64,
    pub(super) relay: u32,
    pub(super) channel: MessageType,
    pub(super) message_type: MessageType,
    pub(super) class: MessageClass,
}

/// Which times are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Metric {
    /// From acceptance (or release) to the first hand-over.
    AcceptanceToHandOver = 0,
    /// From hand-over to delivery.
    HandOverToDelivery = 1,
    /// How long the call took.
    Call = 2,
}

/// A relay on a channel in one minute of hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct MinuteKey {
    channel: MessageType,
    minute: i64,
    relay: u32,
}

/// All changes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    counts: Map<Key, Counts>,
    failures: Map<(Key, FailureClass), i64>,
    times: Map<(Key, Metric, i64), i64>,
    minutes: Map<MinuteKey, Counts>,
    minute_failures: Map<(MinuteKey, FailureClass), (i64, i64)>,
    minute_times: Map<(MinuteKey, Metric, i64), i64>,
}

impl Statistics {
    /// The row's changes.
    pub(super) fn row(&mut self, key: Key) -> &mut Counts {
        self.counts.entry(key).or_default()
    }

    /// An attempt is something else now.
    pub(super) fn moved(&mut self, key: Key, before: AttemptStanding, after: AttemptStanding) {
        for (standing, sign) in [(before, -1), (after, 1)] {
            standing.add_to(self.row(key), sign);
            if let Some(class) = standing.failure() {
                *self.failures.entry((key, class)).or_default() += sign;
            }
            if standing.submitted_ms == 0 {
                continue;
            }
            let minute_key = minute_key(standing);
            standing.add_to(self.minutes.entry(minute_key).or_default(), sign);
            if let Some(class) = standing.failure() {
                let counts = self.minute_failures.entry((minute_key, class)).or_default();
                match standing.state {
                    AttemptState::Refused => counts.0 += sign,
                    _ => counts.1 += sign,
                }
            }
        }
    }

    /// A time was measured; or, with a negative sign, turns out not to have been.
    pub(super) fn time(&mut self, key: Key, metric: Metric, milliseconds: i64, sign: i64) {
        *self.times.entry((key, metric, bucket(milliseconds))).or_default() += sign;
    }

    /// A time of an attempt that was handed over, for the live figures of its relay.
    pub(super) fn relay_time(&mut self, standing: AttemptStanding, metric: Metric, milliseconds: i64) {
        if standing.submitted_ms != 0 {
            let key = (minute_key(standing), metric, bucket(milliseconds));
            *self.minute_times.entry(key).or_default() += 1;
        }
    }

    /// Adds everything to the tables.
    pub(super) fn flush(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        flush_counts(transaction, self.counts.drain())?;
        flush_failures(transaction, self.failures.drain())?;
        flush_times(transaction, self.times.drain())?;
        flush_minutes(transaction, self.minutes.drain())?;
        flush_minute_failures(transaction, self.minute_failures.drain())?;
        flush_minute_times(transaction, self.minute_times.drain())
    }
}

fn minute_key(standing: AttemptStanding) -> MinuteKey {
    MinuteKey {
        channel: standing.channel,
        minute: standing.submitted_ms.div_euclid(MINUTE_MS),
        relay: standing.relay,
    }
}

static ADD_TO_STATISTICS: LazyLock<String> =
    LazyLock::new(|| counters::adding_to("statistics", "tenant, hour, relay, channel, message_type, class"));
static ADD_TO_TOTALS: LazyLock<String> =
    LazyLock::new(|| counters::adding_to("totals", "relay, channel, class"));

/// The rows, and what they come to over all tenants and hours.
fn flush_counts(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = (Key, Counts)>,
) -> rusqlite::Result<()> {
    let mut totals: BTreeMap<[i64; 3], Counts> = BTreeMap::new();
    let mut statement = transaction.prepare_cached(&ADD_TO_STATISTICS)?;
    for (key, counts) in rows {
        let [tenant, hour, relay, channel, message_type, class] = columns(key);
        add(&mut statement, &[tenant, hour, relay, channel, message_type, class], &counts)?;
        *totals.entry([relay, channel, class]).or_default() += counts;
    }
    let mut statement = transaction.prepare_cached(&ADD_TO_TOTALS)?;
    totals.into_iter().try_for_each(|(key, counts)| add(&mut statement, &key, &counts))
}

/// Runs [`counters::adding_to`] for a row of this key.
fn add(statement: &mut CachedStatement<'_>, key: &[i64], counts: &Counts) -> rusqlite::Result<()> {
    let counts = Counter::ALL.iter().map(|counter| counts.get(*counter));
    for (place, value) in (1..).zip(key.iter().copied().chain(counts)) {
        statement.raw_bind_parameter(place, value)?;
    }
    statement.raw_execute().map(drop)
}

fn flush_failures(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = ((Key, FailureClass), i64)>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO statistic_failures VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET count = count + ?8",
    )?;
    for ((key, failure), count) in rows {
        let [tenant, hour, relay, channel, message_type, class] = columns(key);
        statement.execute([tenant, hour, relay, channel, message_type, class, failure.code(), count])?;
    }
    Ok(())
}

fn flush_times(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = ((Key, Metric, i64), i64)>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO statistic_times VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET count = count + ?9",
    )?;
    for ((key, metric, bucket), count) in rows {
        let [tenant, hour, relay, channel, message_type, class] = columns(key);
        let row = [tenant, hour, relay, channel, message_type, class, metric as i64, bucket, count];
        statement.execute(row)?;
    }
    Ok(())
}

fn flush_minutes(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = (MinuteKey, Counts)>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO relay_minutes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT DO UPDATE SET handed_over = handed_over + ?4, accepted = accepted + ?5,
             unknown = unknown + ?6, refused = refused + ?7, undelivered = undelivered + ?8,
             delivered = delivered + ?9, expired = expired + ?10",
    )?;
    for (key, counts) in rows {
        statement.execute([
            key.channel.code(),
            key.minute,
            i64::from(key.relay),
            counts.attempts_handed_over,
            counts.attempts_accepted,
            counts.attempts_unknown,
            counts.attempts_refused,
            counts.attempts_undelivered,
            counts.attempts_delivered,
            counts.attempts_expired,
        ])?;
    }
    Ok(())
}

fn flush_minute_failures(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = ((MinuteKey, FailureClass), (i64, i64))>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO relay_minute_failures VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET refused = refused + ?5, undelivered = undelivered + ?6",
    )?;
    for ((key, failure), (refused, undelivered)) in rows {
        let row =
            [key.channel.code(), key.minute, i64::from(key.relay), failure.code(), refused, undelivered];
        statement.execute(row)?;
    }
    Ok(())
}

fn flush_minute_times(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = ((MinuteKey, Metric, i64), i64)>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO relay_minute_times VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET count = count + ?6",
    )?;
    for ((key, metric, bucket), count) in rows {
        let row = [key.channel.code(), key.minute, i64::from(key.relay), metric as i64, bucket, count];
        statement.execute(row)?;
    }
    Ok(())
}

fn columns(key: Key) -> [i64; 6] {
    [
        i64::from(key.tenant),
        key.hour_ms,
        i64::from(key.relay),
        key.channel.code(),
        key.message_type.code(),
        key.class.code(),
    ]
}

pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Our own small numbers are hashed several times a message: multiplication is enough, nobody can choose them.
#[derive(Debug, Default)]
pub(super) struct FastHasher(u64);

impl FastHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.add(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    fn write_i64(&mut self, number: i64) {
        self.add(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.add(number as u64);
    }
}
