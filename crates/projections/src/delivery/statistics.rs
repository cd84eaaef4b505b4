//! Counts that rows are added up from, gathered in memory for one transaction.
//!
//! Everything counted is a sum over messages of what is true of each of them (or, for times, of moments that happen
//! once), so the sums do not depend on the order of arrival or on where a page of the log ended. A row that was touched
//! is written even if its change is zero, for the same reason.

use kite_domain::failure::FailureClass;
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;
use rusqlite::Transaction;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::attempt::Attempt;
use super::codes::Coded;
use crate::histogram::bucket;

/// Milliseconds in an hour. Asia/Seoul is whole hours from UTC, so its hours are these.
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Milliseconds in a minute.
pub(super) const MINUTE_MS: i64 = 60_000;
/// The planned share of a message is counted in ten-thousandths.
pub(super) const PLANNED_UNIT: u64 = 10_000;

/// What a row of `statistics` is about. Relay 0: the message itself, whatever its relays.
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

/// The changes of one row of `statistics`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) messages: i64,
    pub(super) ended: [i64; 5],
    pub(super) planned: i64,
    pub(super) first_routed: i64,
    pub(super) routed: i64,
    pub(super) failed_over: i64,
    pub(super) attempts: AttemptCounts,
    pub(super) delivered_twice: i64,
    pub(super) cost_milliwon: i64,
}

/// Of attempts, how many are what.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AttemptCounts {
    handed_over: i64,
    accepted: i64,
    unknown: i64,
    refused: i64,
    undelivered: i64,
    delivered: i64,
    expired: i64,
}

/// What of an attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    relay: u32,
    channel: MessageType,
    state: AttemptState,
    is_taken: bool,
    submitted_ms: i64,
    class: Option<FailureClass>,
}

impl Standing {
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self {
            relay: attempt.relay,
            channel: attempt.channel,
            state: attempt.state,
            is_taken: attempt.is_taken,
            submitted_ms: attempt.submitted_ms,
            class: attempt.class,
        }
    }

    fn add_to(self, counts: &mut AttemptCounts, sign: i64) {
        let by = |is_so: bool| if is_so { sign } else { 0 };
        counts.handed_over += by(self.submitted_ms != 0);
        counts.accepted += by(self.is_taken);
        counts.unknown += by(self.state == AttemptState::Unknown);
        counts.refused += by(self.state == AttemptState::Refused);
        counts.undelivered += by(self.state == AttemptState::Undelivered);
        counts.delivered += by(self.state == AttemptState::Delivered);
        counts.expired += by(self.state == AttemptState::Expired);
    }

    /// The class of a failure that the relay told.
    fn failure(self) -> Option<FailureClass> {
        let is_told = matches!(self.state, AttemptState::Refused | AttemptState::Undelivered);
        self.class.filter(|_| is_told)
    }
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
    minutes: Map<MinuteKey, AttemptCounts>,
    minute_failures: Map<(MinuteKey, FailureClass), (i64, i64)>,
    minute_times: Map<(MinuteKey, Metric, i64), i64>,
}

impl Statistics {
    /// The row's changes.
    pub(super) fn row(&mut self, key: Key) -> &mut Counts {
        self.counts.entry(key).or_default()
    }

    /// A message ended, or ended otherwise than was thought.
    pub(super) fn ended(&mut self, key: Key, before: Option<Outcome>, after: Outcome) {
        let row = self.row(key);
        if let Some(before) = before {
            row.ended[ended_place(before)] -= 1;
        }
        row.ended[ended_place(after)] += 1;
    }

    /// An attempt is something else now.
    pub(super) fn moved(&mut self, key: Key, before: Standing, after: Standing) {
        if before == after {
            return;
        }
        for (standing, sign) in [(before, -1), (after, 1)] {
            standing.add_to(&mut self.row(key).attempts, sign);
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
    pub(super) fn relay_time(&mut self, standing: Standing, metric: Metric, milliseconds: i64) {
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

fn minute_key(standing: Standing) -> MinuteKey {
    MinuteKey {
        channel: standing.channel,
        minute: standing.submitted_ms.div_euclid(MINUTE_MS),
        relay: standing.relay,
    }
}

/// The place of an outcome in [`Counts::ended`].
pub(super) fn ended_place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Delivered => 0,
        Outcome::Undelivered => 1,
        Outcome::Expired => 2,
        Outcome::Cancelled => 3,
        Outcome::Refused => 4,
    }
}

fn flush_counts(
    transaction: &Transaction<'_>,
    rows: impl Iterator<Item = (Key, Counts)>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO statistics VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
             ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)
         ON CONFLICT DO UPDATE SET messages = messages + ?7, ended_delivered = ended_delivered + ?8,
             ended_undelivered = ended_undelivered + ?9, ended_expired = ended_expired + ?10,
             ended_cancelled = ended_cancelled + ?11, ended_refused = ended_refused + ?12,
             planned = planned + ?13, first_routed = first_routed + ?14, routed = routed + ?15,
             failed_over = failed_over + ?16, handed_over = handed_over + ?17, accepted = accepted + ?18,
             unknown = unknown + ?19, refused = refused + ?20, undelivered = undelivered + ?21,
             delivered = delivered + ?22, expired = expired + ?23, delivered_twice = delivered_twice + ?24,
             cost_milliwon = cost_milliwon + ?25",
    )?;
    for (key, counts) in rows {
        let [tenant, hour, relay, channel, message_type, class] = columns(key);
        let Counts { messages, ended, planned, first_routed, routed, failed_over, attempts, .. } = counts;
        let [delivered, undelivered, expired, cancelled, refused] = ended;
        statement.execute([
            tenant,
            hour,
            relay,
            channel,
            message_type,
            class,
            messages,
            delivered,
            undelivered,
            expired,
            cancelled,
            refused,
            planned,
            first_routed,
            routed,
            failed_over,
            attempts.handed_over,
            attempts.accepted,
            attempts.unknown,
            attempts.refused,
            attempts.undelivered,
            attempts.delivered,
            attempts.expired,
            counts.delivered_twice,
            counts.cost_milliwon,
        ])?;
    }
    Ok(())
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
    rows: impl Iterator<Item = (MinuteKey, AttemptCounts)>,
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
            counts.handed_over,
            counts.accepted,
            counts.unknown,
            counts.refused,
            counts.undelivered,
            counts.delivered,
            counts.expired,
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

type Map<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Our own small numbers are hashed several times a message: multiplication is enough, nobody can choose them.
#[derive(Debug, Default)]
struct FastHasher(u64);

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
