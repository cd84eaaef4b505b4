//! What all processes together ask of a relay, by its own ledger: no more calls at once than agreed, and no more
//! messages per second.
//!
//! Messages are counted, not their parts, so it is less than what is charged. What was charged a moment ago may come
//! in later, one call of each worker.

use kite_domain::relay::RelayProfile;

use super::noted::notice;
use super::{Checked, Checker};
use crate::relays::Call;

/// A second's worth in this many parts is what may come at once.
const BURSTS_A_SECOND: u32 = 4;

/// What came in of late: what a bucket would hold that empties at the relay's rate.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In thousandths of a message.
    level: i64,
    at_ms: i64,
    /// From then on everybody knows the rate.
    known_from_ms: i64,
}

impl Pace {
    /// Another rate is agreed, or its keeper begins again.
    pub(super) fn begins(&mut self, from_ms: i64) {
        *self = Self { level: 0, at_ms: from_ms, known_from_ms: from_ms };
    }

    /// Returns how many messages more than may have come in.
    fn count(&mut self, messages: usize, profile: &RelayProfile, at_ms: i64) -> i64 {
        let Some(rate) = profile.rate_parts_per_second.filter(|_| at_ms >= self.known_from_ms) else {
            return 0;
        };
        let burst = (rate / BURSTS_A_SECOND).max(1);
        let of_a_call = burst.min(profile.batch_max).max(1);
        let most = burst + u32::from(profile.calls_in_flight_max.max(1)) * of_a_call;
        let left = self.level - i64::from(rate) * (at_ms - self.at_ms);
        self.level = left.max(0) + 1_000 * messages as i64;
        self.at_ms = at_ms;
        self.level / 1_000 - i64::from(most)
    }
}

impl Checker {
    /// With a moving clock nobody knows how long a share is its own, and two processes may have a lost share.
    pub(super) fn is_within_pace(&mut self, call: &Call) -> Checked {
        let Call { relay, at_once, references, .. } = call;
        let Some(state) = self.relays.get_mut(relay) else { return Ok(()) };
        if call.at_ms < self.spans_unsure_until_ms.max(state.shares_unsure_until_ms) {
            return Ok(());
        }
        let at = call.at();
        let is_agreed = |profile: &Option<RelayProfile>| {
            profile.as_ref().is_none_or(|profile| *at_once <= usize::from(profile.calls_in_flight_max.max(1)))
        };
        if !state.profile.may(at, is_agreed) {
            return Err(format!("law 10: {relay} has {at_once} calls at once, more than were agreed"));
        }
        let Some(profile) = state.profile.now() else { return Ok(()) };
        match state.pace.count(references.len(), profile, call.at_ms) {
            more if more > 0 => {
                Err(format!("law 10: {relay} is called with {more} messages more than its rate"))
            }
            _ => Ok(()),
        }
    }

    /// Another definition of a relay is in force once everybody knows it.
    pub(super) fn pace_is_defined(&mut self, relay: &kite_domain::slug::RelayId, at_ms: i64) {
        let known_from_ms = at_ms + notice().num_milliseconds();
        self.relays.entry(relay.clone()).or_default().pace.begins(known_from_ms);
    }

    /// A process that is alone begins with a burst.
    pub(super) fn paces_begin(&mut self, at_ms: i64) {
        for relay in self.relays.values_mut() {
            relay.pace.begins(at_ms.max(relay.pace.known_from_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::{profile, traits_of};

    #[test]
    fn what_comes_at_its_rate_is_no_more_than_may_come_and_twice_as_much_is() {
        let profile = RelayProfile {
            rate_parts_per_second: Some(40),
            calls_in_flight_max: 2,
            ..profile(0, traits_of(1)[0])
        };
        let most = |every_ms: i64| {
            let mut pace = Pace::default();
            pace.begins(0);
            (0..60).map(|call| pace.count(10, &profile, call * every_ms)).max().unwrap()
        };
        assert!(most(250) <= 0);
        assert!(most(125) > 100);
        let mut early = Pace::default();
        early.begins(1_000);
        assert_eq!(early.count(10_000, &profile, 999), 0, "not everybody knows the rate yet");
    }
}
