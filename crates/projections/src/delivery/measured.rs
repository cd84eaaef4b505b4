//! The performance of a relay on a channel, from the minutes of hand-over.
//!
//! A minute is judged once it is so old that what was handed over in it should have ended, or once nearly all of it
//! has ended. Old enough is twice the time that 99 of 100 deliveries of the window took, at least a minute and at
//! most an hour; before anything is known, ten minutes. Younger minutes are left out completely, so that a message on
//! its way does not look like a failure.

use kite_domain::advice::Percentiles;
use kite_domain::failure::FailureClass;
use kite_domain::text::Channel;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::codes::Coded;
use super::counters::{Counter, word_of_a_minute};
use super::statistics::{MINUTE_MS, Metric};
use super::word_numbers::WordList;
use crate::engine::{Connection, values};
use crate::error::QueryError;
use crate::histogram::Histogram;

/// Old enough before anything is known, in milliseconds.
const PATIENCE_UNKNOWN_MS: u64 = 600_000;
/// The least and the most that is old enough, in milliseconds.
const PATIENCE_MS: (u64, u64) = (60_000, 3_600_000);

/// Sums over the minutes that are judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) handed_over: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) refused_relay_fault: u64,
    pub(crate) delivered: u64,
    pub(crate) undelivered: u64,
    pub(crate) undelivered_relay_fault: u64,
    /// Handed over and old enough, without an end.
    pub(crate) overdue: u64,
    pub(crate) delivery_ms: Option<Percentiles>,
    pub(crate) call_ms: Option<Percentiles>,
}

#[derive(Default)]
struct Minute {
    number: i64,
    handed_over: u64,
    accepted: u64,
    refused: u64,
    undelivered: u64,
    delivered: u64,
}

impl Minute {
    fn ended(&self) -> u64 {
        self.refused + self.undelivered + self.delivered
    }

    fn is_judged(&self, patience_ms: u64, now_ms: i64) -> bool {
        let age_ms = now_ms - (self.number + 1) * MINUTE_MS;
        age_ms >= patience_ms as i64 || self.ended() * 20 >= self.handed_over * 19
    }
}

/// Every relay that was handed something on the channel in the window.
pub(crate) fn measured(
    connection: Connection<'_>,
    channel: Channel,
    from_ms: i64,
    now_ms: i64,
) -> Result<BTreeMap<SmolStr, Measured>, QueryError> {
    let window = (channel.code(), from_ms.div_euclid(MINUTE_MS), now_ms.div_euclid(MINUTE_MS));
    let mut words = WordList::default();
    let mut relays = BTreeMap::new();
    for (relay, minutes) in minutes(connection, window)? {
        let Some(name) = words.word(connection, relay)? else { continue };
        let all = times(connection, window, relay, None)?;
        let patience_ms = all.deliveries.percentiles().map_or(PATIENCE_UNKNOWN_MS, |delivery| {
            delivery.p99_ms.saturating_mul(2).clamp(PATIENCE_MS.0, PATIENCE_MS.1)
        });
        let judged: Vec<&Minute> =
            minutes.iter().filter(|minute| minute.is_judged(patience_ms, now_ms)).collect();
        let numbers: Vec<i64> = judged.iter().map(|minute| minute.number).collect();
        let mut sums = Measured::default();
        for minute in judged {
            sums.handed_over += minute.handed_over;
            sums.accepted += minute.accepted;
            sums.refused += minute.refused;
            sums.delivered += minute.delivered;
            sums.undelivered += minute.undelivered;
            let age_ms = now_ms - (minute.number + 1) * MINUTE_MS;
            if age_ms >= patience_ms as i64 {
                sums.overdue += minute.handed_over.saturating_sub(minute.ended());
            } else {
                // Judged early: what is still on its way is not counted as handed over.
                sums.handed_over -= minute.handed_over.saturating_sub(minute.ended());
                sums.accepted -= minute.accepted.saturating_sub(minute.undelivered + minute.delivered);
            }
        }
        faults(connection, window, relay, &numbers, &mut sums)?;
        let times = times(connection, window, relay, Some(&numbers))?;
        sums.delivery_ms = times.deliveries.percentiles();
        sums.call_ms = times.calls.percentiles();
        relays.insert(name, sums);
    }
    Ok(relays)
}

/// Channel, first minute, last minute.
type Window = (i64, i64, i64);

fn minutes(connection: Connection<'_>, window: Window) -> Result<BTreeMap<u32, Vec<Minute>>, QueryError> {
    let sql = format!(
        "SELECT relay, minute, {} FROM relay_minutes WHERE channel = ?1 AND minute >= ?2 AND minute <= ?3",
        MINUTE_COUNTERS.map(word_of_a_minute).join(", ")
    );
    let mut relays: BTreeMap<u32, Vec<Minute>> = BTreeMap::new();
    let found = connection.all(&sql, values![window.0, window.1, window.2], |row| {
        let count = |column: usize| row.get::<i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
        let minute = Minute {
            number: row.get(1)?,
            handed_over: count(2)?,
            accepted: count(3)?,
            refused: count(4)?,
            undelivered: count(5)?,
            delivered: count(6)?,
        };
        Ok::<_, QueryError>((row.get::<u32>(0)?, minute))
    })?;
    for (relay, minute) in found {
        relays.entry(relay).or_default().push(minute);
    }
    Ok(relays)
}

/// The columns of a minute that are read, in this order.
const MINUTE_COUNTERS: [Counter; 5] = [
    Counter::AttemptsHandedOver,
    Counter::AttemptsAccepted,
    Counter::AttemptsRefused,
    Counter::AttemptsUndelivered,
    Counter::AttemptsDelivered,
];

fn faults(
    connection: Connection<'_>,
    window: Window,
    relay: u32,
    minutes: &[i64],
    sums: &mut Measured,
) -> Result<(), QueryError> {
    let sql = "SELECT minute, failure, refused, undelivered FROM relay_minute_failures
               WHERE channel = ?1 AND minute >= ?2 AND minute <= ?3 AND relay = ?4";
    connection.each(sql, values![window.0, window.1, window.2, relay], |row| {
        let is_fault = FailureClass::from_code(row.get(1)?).is_some_and(FailureClass::is_relay_fault);
        if is_fault && minutes.contains(&row.get(0)?) {
            sums.refused_relay_fault += u64::try_from(row.get::<i64>(2)?).unwrap_or(0);
            sums.undelivered_relay_fault += u64::try_from(row.get::<i64>(3)?).unwrap_or(0);
        }
        Ok(ControlFlow::Continue(()))
    })
}

#[derive(Default)]
struct Times {
    deliveries: Histogram,
    calls: Histogram,
}

/// Of these minutes, or of all.
fn times(
    connection: Connection<'_>,
    window: Window,
    relay: u32,
    minutes: Option<&[i64]>,
) -> Result<Times, QueryError> {
    let sql = "SELECT minute, metric, bucket, count FROM relay_minute_times
               WHERE channel = ?1 AND minute >= ?2 AND minute <= ?3 AND relay = ?4";
    let mut times = Times::default();
    connection.each(sql, values![window.0, window.1, window.2, relay], |row| {
        let minute: i64 = row.get(0)?;
        if minutes.is_none_or(|minutes| minutes.contains(&minute)) {
            let count = u64::try_from(row.get::<i64>(3)?).unwrap_or(0);
            let is_call = row.get::<i64>(1)? == Metric::Call as i64;
            let histogram = if is_call { &mut times.calls } else { &mut times.deliveries };
            histogram.add(row.get(2)?, count);
        }
        Ok::<_, QueryError>(ControlFlow::Continue(()))
    })?;
    Ok(times)
}
