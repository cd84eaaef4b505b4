//! What relays have agreed to take a second, and whether they were called faster, by their own ledgers.
//!
//! A relay is a bucket that fills with what comes in and drains at its rate. Kite calls in bursts of a quarter of a second's worth,
//! and calls that were made ready may wait for the log together. So the bucket may hold some seconds' worth; workers that each
//! used the whole rate would fill it further with every second.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use kite_testkit::oracle::LedgerEntry;
use kite_testkit::relays::{self, PHONE_RELAYS};
use serde::Serialize;
use serde_json::{Value, json};

/// How much of a relay's rate the mean load is, in hundredths.
const MEAN_LOAD_PER_CENT: u64 = 20;
/// The smallest rate. With less a share is worth one message a call, and calls take their time while thirteen processes share two cores.
const RATE_MIN: u64 = 50;
/// How many seconds' worth a relay may be ahead: a burst, every call that may be in progress, and the same again of a worker that
/// stood still and was taken over from.
const AHEAD_SECONDS_MAX: f64 = 2.0;
/// How long after a standstill of the relays what came in meanwhile is still being looked at. Microseconds.
const AFTERWARDS_US: u64 = 2_000_000;

/// The rates of phone relays, in parts a second.
#[derive(Debug, Clone, Default)]
pub(super) struct Agreed(BTreeMap<&'static str, u64>);

impl Agreed {
    /// Rates at which relays keep up with so many messages a second, and not with every burst of them.
    pub(super) fn for_load(messages_per_second: u32) -> Self {
        let rate = |weight: u32| {
            let mean = u64::from(messages_per_second) * u64::from(weight) / 10_000;
            (mean * 100 / MEAN_LOAD_PER_CENT).max(RATE_MIN)
        };
        Self(PHONE_RELAYS.iter().map(|(relay, weight)| (*relay, rate(*weight))).collect())
    }

    /// The definition of each relay for Kite, with its rate.
    pub(super) fn profiles(
        &self,
        address_of: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Vec<(&'static str, Value)>> {
        let mut profiles = relays::profiles(address_of)?;
        for (relay, profile) in &mut profiles {
            if let Some(rate) = self.0.get(relay) {
                profile["rate_parts_per_second"] = json!(rate);
            }
        }
        Ok(profiles)
    }
}

/// How fast a relay was called.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Called {
    pub(super) rate: u64,
    /// What came in before it could be taken at that rate, at most: in seconds' worth.
    pub(super) ahead_seconds_max: f64,
    /// Hand-overs that were counted.
    pub(super) counted: u64,
    #[serde(skip)]
    level: f64,
    #[serde(skip)]
    last_us: u64,
}

impl Called {
    fn note(&mut self, at_us: u64, is_counted: bool) {
        let drained = at_us.saturating_sub(self.last_us) as f64 / 1e6 * self.rate as f64;
        self.last_us = self.last_us.max(at_us);
        // A text of several parts counts as one message there.
        self.level = if is_counted { (self.level - drained).max(0.0) + 1.0 } else { 0.0 };
        self.counted += u64::from(is_counted);
        self.ahead_seconds_max = self.ahead_seconds_max.max(self.level / self.rate as f64);
    }
}

/// Reads ledgers in their order.
pub(super) struct Pace {
    called: BTreeMap<&'static str, Called>,
    /// Microseconds since 1970.
    standstills: Vec<(u64, u64)>,
}

impl Pace {
    /// What was agreed, and when relays stood still: then nobody knows when what they see has come.
    pub(super) fn new(agreed: &Agreed, standstills: &[(DateTime<Utc>, DateTime<Utc>)]) -> Self {
        let called = |rate: u64| Called { rate, ahead_seconds_max: 0.0, counted: 0, level: 0.0, last_us: 0 };
        let micros = |time: DateTime<Utc>| time.timestamp_micros() as u64;
        Self {
            called: agreed.0.iter().map(|(relay, rate)| (*relay, called(*rate))).collect(),
            standstills: standstills
                .iter()
                .map(|(from, until)| (micros(*from), micros(*until) + AFTERWARDS_US))
                .collect(),
        }
    }

    /// The next entry of a ledger.
    pub(super) fn read(&mut self, entry: &LedgerEntry) {
        let at = entry.arrived_at_us;
        let stood_still = self.standstills.iter().any(|(from, until)| (*from..*until).contains(&at));
        if let Some(called) = self.called.get_mut(&*entry.relay) {
            called.note(at, !stood_still);
        }
    }

    /// How fast each relay was called.
    pub(super) fn called(self) -> BTreeMap<&'static str, Called> {
        self.called
    }
}

/// What does not hold.
pub(super) fn complaints(called: &BTreeMap<&'static str, Called>) -> impl Iterator<Item = String> {
    called.iter().flat_map(|(relay, called)| {
        let is_fast = called.ahead_seconds_max > AHEAD_SECONDS_MAX;
        let too_fast = is_fast
            .then(|| format!("{relay} was called {:.1} s ahead of its rate", called.ahead_seconds_max));
        let unseen = (called.counted == 0).then(|| format!("{relay} was never called"));
        too_fast.into_iter().chain(unseen)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called_by(workers: u64, standstills: &[(u64, u64)]) -> BTreeMap<&'static str, Called> {
        let agreed = Agreed(BTreeMap::from([("alpha", 40)]));
        let mut pace = Pace::new(&agreed, &[]);
        pace.standstills = standstills.to_vec();
        // Each of them at the whole rate, for ten seconds.
        for number in 0..40 * workers * 10 {
            let entry = json!({
                "relay": "alpha", "message": "m-0", "attempt": 1, "recipient": "", "type": "sms", "status": "accepted",
                "code": "", "times_received": 1, "deliveries": 0, "arrived_at_us": number * 25_000 / workers,
            });
            pace.read(&serde_json::from_value(entry).unwrap());
        }
        pace.called()
    }

    #[test]
    fn workers_that_use_the_whole_rate_each_are_found() {
        assert!(complaints(&called_by(1, &[])).next().is_none());
        let twice = called_by(2, &[]);
        assert!(complaints(&twice).next().is_some(), "{twice:?}");
    }

    #[test]
    fn what_came_while_the_relay_stood_still_is_not_counted() {
        let called = called_by(3, &[(0, 9_500_000)]);
        assert!(complaints(&called).next().is_none(), "{called:?}");
        assert!(called["alpha"].counted > 0);
        assert_eq!(
            complaints(&called_by(3, &[(0, 20_000_000)])).collect::<Vec<_>>(),
            ["alpha was never called"]
        );
    }

    #[test]
    fn relays_keep_up_with_the_mean_load() {
        let agreed = Agreed::for_load(100);
        assert_eq!(agreed.0, BTreeMap::from([("alpha", 200), ("beta", 150), ("gamma", 100), ("delta", 50)]));
        assert_eq!(Agreed::for_load(20).0["delta"], RATE_MIN);
    }
}
