//! How much of a relay a process has: only arithmetic.

use kite_domain::relay::RelayProfile;

/// The most shares of one relay.
const SHARES_MAX: u32 = 8;
/// This many parts per second give one part of a burst.
const RATE_OF_A_BURST_OF_ONE: u32 = 4;

/// Some shares of all that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portion {
    pub(crate) held: u32,
    /// At least one.
    pub(crate) of: u32,
}

impl Portion {
    /// Everything.
    pub(crate) const WHOLE: Self = Self { held: 1, of: 1 };

    /// This portion of something, rounded down: over all processes it is never more than the whole.
    pub(crate) fn part_of(self, whole: u32) -> u32 {
        (u64::from(whole) * u64::from(self.held) / u64::from(self.of)) as u32
    }

    /// What the whole is charged for this much, so that the portion is kept.
    pub(crate) fn charge_for(self, parts: u32) -> u32 {
        let charge = (u64::from(parts) * u64::from(self.of)).div_ceil(u64::from(self.held.max(1)));
        u32::try_from(charge).unwrap_or(u32::MAX)
    }
}

/// How many shares a relay has. Each is worth at least one call, and one part of a burst, or several processes could each
/// begin with one at the same moment.
pub(super) fn shares_of(profile: &RelayProfile) -> u32 {
    let calls = u32::from(profile.calls_in_flight_max);
    let bursts = profile.rate_parts_per_second.map_or(u32::MAX, |rate| rate / RATE_OF_A_BURST_OF_ONE);
    calls.min(bursts).clamp(1, SHARES_MAX)
}

/// The fair number of shares for the process at this place among those that want some.
pub(super) fn fair(shares: u32, place: usize, wanted_by: usize) -> u32 {
    let (place, wanted_by) = (place as u32, (wanted_by as u32).max(1));
    shares / wanted_by + u32::from(place < shares % wanted_by)
}

/// How many of several calls are reserved for one-time passwords, so that a campaign never takes them all: a quarter,
/// at least one.
pub(crate) fn kept_for_passwords(calls: u16) -> u16 {
    if calls > 1 { (calls / 4).max(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testing::profile;

    #[test]
    fn a_relay_has_as_many_shares_as_calls_up_to_eight_and_no_more_than_parts_in_a_burst() {
        let shares = |calls_in_flight_max, rate_parts_per_second| {
            let profile = RelayProfile { calls_in_flight_max, rate_parts_per_second, ..profile("alpha") };
            shares_of(&profile)
        };
        assert_eq!([0, 1, 4, 8, 1_000].map(|calls| shares(calls, None)), [1, 1, 4, 8, 8]);
        assert_eq!([1, 4, 11, 31, 32, 1_000].map(|rate| shares(8, Some(rate))), [1, 1, 2, 7, 8, 8]);
    }

    #[test]
    fn a_quarter_of_several_calls_is_kept_for_passwords_and_at_least_one() {
        let calls = [0, 1, 2, 4, 7, 8, 12, 1_000];
        assert_eq!(calls.map(kept_for_passwords), [0, 0, 1, 1, 1, 2, 3, 250]);
    }

    #[test]
    fn portions_of_all_are_the_whole_at_most_and_of_one_exactly() {
        for whole in [0, 1, 7, 8, 63, 1_000] {
            for of in 1..=8 {
                assert_eq!(Portion { held: of, of }.part_of(whole), whole);
                assert_eq!(Portion { held: of, of }.charge_for(whole), whole);
                for held in 0..=of {
                    let one = Portion { held, of }.part_of(whole);
                    let rest = Portion { held: of - held, of }.part_of(whole);
                    assert!(one + rest <= whole, "{held} of {of}");
                }
            }
        }
        assert_eq!(Portion { held: 3, of: 8 }.charge_for(10), 27);
    }

    #[test]
    fn what_is_fair_adds_up_and_differs_by_one_at_most() {
        for shares in 1..=8 {
            for wanted_by in 1..=12_usize {
                let fair: Vec<u32> = (0..wanted_by).map(|place| fair(shares, place, wanted_by)).collect();
                assert_eq!(fair.iter().sum::<u32>(), shares);
                assert!(fair.iter().max().unwrap() - fair.iter().min().unwrap() <= 1, "{fair:?}");
            }
        }
    }
}
