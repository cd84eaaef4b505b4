//! Counts that are added to rows, gathered in memory for one transaction.
//!
//! Everything counted is a sum over messages of what is true of each of them (or, for times, of moments that happen
//! once), so the sums depend neither on the order of arrival nor on where a page of the log ended. A row that was
//! touched is written even if its change is zero, for the same reason.

use kite_domain::failure::FailureClass;
use kite_domain::lot::AttemptState;
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::hash::Hash;

use super::codes::Coded;
use super::counters::{AttemptStanding, Counter, Counts, OF_A_MINUTE};
use super::schema::{
    RELAY_MINUTE_FAILURES, RELAY_MINUTE_TIMES, RELAY_MINUTES, STATISTIC_FAILURES, STATISTIC_TIMES,
    STATISTICS, TOTALS,
};
use crate::engine::{StorageError, Tables};
use crate::histogram::bucket;
use crate::table::{Pick, Statement};

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
    counts: FxHashMap<Key, Counts>,
    failures: FxHashMap<(Key, FailureClass), i64>,
    times: FxHashMap<(Key, Metric, i64), i64>,
    minutes: FxHashMap<MinuteKey, Counts>,
    minute_failures: FxHashMap<(MinuteKey, FailureClass), (i64, i64)>,
    minute_times: FxHashMap<(MinuteKey, Metric, i64), i64>,
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

    /// A time was measured; or, with a negative sign, a measured time is taken back.
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
    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), StorageError> {
        let mut totals: BTreeMap<[i64; 3], Counts> = BTreeMap::new();
        for (key, counts) in &self.counts {
            let [_, _, relay, channel, _, class] = columns(*key);
            *totals.entry([relay, channel, class]).or_default() += *counts;
        }
        add(tables, &ADD_TO_TOTALS, totals.into_iter(), |row, (key, counts)| {
            row.extend(key);
            row.extend(Counter::ALL.iter().map(|counter| counts.get(*counter)));
        })?;
        add(tables, &ADD_TO_STATISTICS, self.counts.drain(), |row, (key, counts)| {
            row.extend(columns(key));
            row.extend(Counter::ALL.iter().map(|counter| counts.get(*counter)));
        })?;
        add(tables, &ADD_TO_FAILURES, self.failures.drain(), |row, ((key, failure), count)| {
            row.extend(columns(key));
            row.extend([failure.code(), count]);
        })?;
        add(tables, &ADD_TO_TIMES, self.times.drain(), |row, ((key, metric, bucket), count)| {
            row.extend(columns(key));
            row.extend([metric as i64, bucket, count]);
        })?;
        add(tables, &ADD_TO_MINUTES, self.minutes.drain(), |row, (key, counts)| {
            row.extend(minute_columns(key));
            row.extend(OF_A_MINUTE.map(|counter| counts.get(counter)));
        })?;
        let failures = self.minute_failures.drain();
        add(tables, &ADD_TO_MINUTE_FAILURES, failures, |row, ((key, failure), (refused, undelivered))| {
            row.extend(minute_columns(key));
            row.extend([failure.code(), refused, undelivered]);
        })?;
        let times = self.minute_times.drain();
        add(tables, &ADD_TO_MINUTE_TIMES, times, |row, ((key, metric, bucket), count)| {
            row.extend(minute_columns(key));
            row.extend([metric as i64, bucket, count]);
        })
    }
}

fn minute_key(standing: AttemptStanding) -> MinuteKey {
    MinuteKey {
        channel: standing.channel,
        minute: standing.submitted_ms.div_euclid(MINUTE_MS),
        relay: standing.relay,
    }
}

static ADD_TO_STATISTICS: Statement = Statement::upsert(&STATISTICS, Pick::All);
static ADD_TO_TOTALS: Statement = Statement::upsert(&TOTALS, Pick::All);
static ADD_TO_FAILURES: Statement = Statement::upsert(&STATISTIC_FAILURES, Pick::All);
static ADD_TO_TIMES: Statement = Statement::upsert(&STATISTIC_TIMES, Pick::All);
static ADD_TO_MINUTES: Statement = Statement::upsert(&RELAY_MINUTES, Pick::All);
static ADD_TO_MINUTE_FAILURES: Statement = Statement::upsert(&RELAY_MINUTE_FAILURES, Pick::All);
static ADD_TO_MINUTE_TIMES: Statement = Statement::upsert(&RELAY_MINUTE_TIMES, Pick::All);

/// Adds rows of numbers to a table, in the order of its keys.
fn add<R>(
    tables: Tables<'_>,
    statement: &'static Statement,
    rows: impl Iterator<Item = R>,
    put: impl Fn(&mut Vec<i64>, R),
) -> Result<(), StorageError> {
    let (mut numbers, mut count) = (Vec::new(), 0);
    for row in rows {
        put(&mut numbers, row);
        count += 1;
    }
    if count == 0 {
        return Ok(());
    }
    let mut sorted: Vec<&[i64]> = numbers.chunks_exact(numbers.len() / count).collect();
    sorted.sort_unstable();
    let mut cells = tables.fill(statement)?;
    for row in sorted {
        row.iter().for_each(|number| cells.put(*number));
        cells.end()?;
    }
    Ok(())
}

fn minute_columns(key: MinuteKey) -> [i64; 3] {
    [key.channel.code(), key.minute, i64::from(key.relay)]
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
