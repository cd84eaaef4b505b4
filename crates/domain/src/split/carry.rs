//! How far a split has come: the state that is stored, and that lots, sendings, restarts and nodes share.

use serde::{Deserialize, Serialize};

use super::WeightedRelays;
use super::sequence::Sequence;

/// The place of one split in its sequence.
///
/// The sequence of a set repeats after W / gcd messages (W the sum of the weights, gcd their greatest common divisor),
/// at which every relay has exactly its share; so the carry counts within one period and never grows.
/// It belongs to exactly one [`super::SplitKey`].
///
/// Stored as `{"slot": n, "routed": [n0, n1, …]}`, the counts in the order of the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    /// Messages routed in the current period.
    slot: u64,
    /// How many of them each relay got, in the order of the set.
    routed: Vec<u64>,
}

/// The carry is not a place in the sequence of these weights: it was stored for another set, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the carry ({carry}) is no place in the split over {weights}")]
pub struct CarryMismatch {
    carry: String,
    weights: String,
}

impl Carry {
    /// The start of the sequence of `weights`.
    pub fn new(weights: &WeightedRelays) -> Self {
        Self { slot: 0, routed: vec![0; weights.len()] }
    }

    /// Messages routed in the current period.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// Messages that each relay got in the current period, in the order of the set.
    pub fn routed(&self) -> &[u64] {
        &self.routed
    }

    /// Routes one message: the index of its relay in `weights`.
    ///
    /// # Errors
    /// [`CarryMismatch`] if the carry is not one of `weights`; it is then unchanged.
    pub fn next(&mut self, weights: &WeightedRelays) -> Result<usize, CarryMismatch> {
        let taken = self.take(weights, 1)?;
        Ok(usize::from(taken[0]))
    }

    /// Routes `count` messages: for each, in order, the index of its relay in `weights`.
    ///
    /// The same as `count` calls of [`Carry::next`], for the price of one allocation: about one pass over the relays
    /// per message.
    ///
    /// # Errors
    /// [`CarryMismatch`] if the carry is not one of `weights`; it is then unchanged.
    pub fn take(&mut self, weights: &WeightedRelays, count: usize) -> Result<Vec<u16>, CarryMismatch> {
        let mut taken = Vec::with_capacity(count);
        self.walk(weights, count as u64, |index| taken.push(index))?;
        Ok(taken)
    }

    /// Advances by `count` messages without saying where each went: for a fold over events that stored only the
    /// count.
    ///
    /// Whole periods are skipped, so the work is limited to one period.
    ///
    /// # Errors
    /// [`CarryMismatch`] if the carry is not one of `weights`; it is then unchanged.
    pub fn advance(&mut self, weights: &WeightedRelays, count: u64) -> Result<(), CarryMismatch> {
        let period = weights.weight_total() / common_divisor(weights);
        self.walk(weights, count % period, |_| {})
    }

    /// Whether the carry is a place in the sequence of `weights`: as many counts as relays, which sum to the slot, each
    /// within one message of its share.
    ///
    /// # Errors
    /// [`CarryMismatch`] if it is not.
    pub fn check(&self, weights: &WeightedRelays) -> Result<(), CarryMismatch> {
        let reduced = reduced(weights);
        let period: u64 = reduced.iter().sum();
        self.check_reduced(&reduced, period).ok_or_else(|| CarryMismatch {
            carry: format!("slot {}, routed {:?}", self.slot, self.routed),
            weights: super::SplitKey::new("weights", weights).to_string(),
        })
    }

    fn check_reduced(&self, reduced: &[u64], period: u64) -> Option<()> {
        if self.routed.len() != reduced.len() || self.slot >= period {
            return None;
        }
        let mut sum = 0_u64;
        for (routed, weight) in self.routed.iter().zip(reduced) {
            let got = u128::from(*routed) * u128::from(period);
            let due = u128::from(self.slot) * u128::from(*weight);
            if got.abs_diff(due) >= u128::from(period) {
                return None;
            }
            sum += routed;
        }
        (sum == self.slot).then_some(())
    }

    fn walk(
        &mut self,
        weights: &WeightedRelays,
        count: u64,
        mut visit: impl FnMut(u16),
    ) -> Result<(), CarryMismatch> {
        self.check(weights)?;
        let reduced = reduced(weights);
        let period: u64 = reduced.iter().sum();
        let mut sequence = Sequence::resume(&reduced, period, self.slot, &self.routed);
        for _ in 0..count {
            let index = sequence.next();
            self.slot += 1;
            self.routed[usize::from(index)] += 1;
            if self.slot == period {
                self.slot = 0;
                self.routed.fill(0);
            }
            visit(index);
        }
        Ok(())
    }
}

fn reduced(weights: &WeightedRelays) -> Vec<u64> {
    let divisor = common_divisor(weights);
    weights.entries().iter().map(|(_, weight)| u64::from(*weight) / divisor).collect()
}

/// Above zero: a set has a weight above zero.
fn common_divisor(weights: &WeightedRelays) -> u64 {
    weights
        .entries()
        .iter()
        .fold(0, |divisor, (_, weight)| greatest_common_divisor(divisor, u64::from(*weight)))
}

fn greatest_common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::slug::RelayId;

    fn set(weights: &[u32]) -> WeightedRelays {
        let entries = weights
            .iter()
            .enumerate()
            .map(|(position, weight)| (RelayId::parse(&format!("r{position:03}")).unwrap(), *weight))
            .collect();
        WeightedRelays::new(entries).unwrap()
    }

    /// Routes `count` messages and checks the law after each of them, in exact arithmetic.
    fn check_law(weights: &[u32], carry: &mut Carry, routed: &mut [u64], from: u64, count: usize) {
        let set = set(weights);
        let total = u128::from(set.weight_total());
        for (step, index) in carry.take(&set, count).unwrap().into_iter().enumerate() {
            routed[usize::from(index)] += 1;
            let slot = u128::from(from) + step as u128 + 1;
            for (relay, weight) in weights.iter().enumerate() {
                let got = u128::from(routed[relay]) * total;
                let due = slot * u128::from(*weight);
                assert!(
                    got.abs_diff(due) < total,
                    "weights {weights:?}: after {slot} messages relay {relay} has {} of {due}/{total}",
                    routed[relay]
                );
            }
        }
    }

    fn check_law_from_the_start(weights: &[u32], count: usize) {
        let mut carry = Carry::new(&set(weights));
        check_law(weights, &mut carry, &mut vec![0; weights.len()], 0, count);
    }

    #[test]
    fn every_small_set_keeps_the_law_over_two_periods() {
        fn each(prefix: &mut Vec<u32>, relays: usize, weight_max: u32) {
            if prefix.len() == relays {
                if prefix.iter().any(|weight| *weight > 0) {
                    let period: u32 = prefix.iter().sum();
                    check_law_from_the_start(prefix, 2 * period as usize);
                }
                return;
            }
            for weight in 0..=weight_max {
                prefix.push(weight);
                each(prefix, relays, weight_max);
                prefix.pop();
            }
        }
        for (relays, weight_max) in [(1, 9), (2, 14), (3, 9), (4, 5), (5, 3)] {
            each(&mut Vec::new(), relays, weight_max);
        }
    }

    #[test]
    fn the_set_that_defeats_largest_deficit_first_is_kept() {
        check_law_from_the_start(&[1, 21, 33, 1, 1], 57 * 3);
    }

    #[test]
    fn a_50_30_20_split_is_interleaved() {
        let weights = set(&[5_000, 3_000, 2_000]);
        let mut carry = Carry::new(&weights);
        let taken = carry.take(&weights, 10).unwrap();
        assert_eq!(taken, [0, 1, 0, 2, 0, 1, 0, 1, 0, 2]);
        assert_eq!(carry, Carry::new(&weights), "ten messages are one period");
    }

    #[test]
    fn a_relay_without_weight_gets_nothing() {
        let weights = set(&[0, 3, 0, 1]);
        let taken = Carry::new(&weights).take(&weights, 1_000).unwrap();
        assert_eq!(taken.iter().filter(|index| **index == 1).count(), 750);
        assert_eq!(taken.iter().filter(|index| **index == 3).count(), 250);
    }

    #[test]
    fn a_set_that_comes_back_goes_on_without_a_burst() {
        let all = set(&[5, 3, 2]);
        let rest = all.restricted(|relay| relay.as_str() != "r001").unwrap();
        let mut carry_all = Carry::new(&all);
        let mut uninterrupted = Carry::new(&all);
        let before = carry_all.take(&all, 7).unwrap();
        let mut carry_rest = Carry::new(&rest);
        carry_rest.take(&rest, 1_003).unwrap();
        let after = carry_all.take(&all, 6).unwrap();
        assert_eq!([before, after].concat(), uninterrupted.take(&all, 13).unwrap());
    }

    #[test]
    fn a_carry_of_another_set_is_refused_and_left_alone() {
        let three = set(&[5, 3, 2]);
        let two = set(&[5, 3]);
        let mut carry = Carry::new(&three);
        carry.take(&three, 4).unwrap();
        let untouched = carry.clone();
        assert!(carry.take(&two, 1).is_err());
        assert!(carry.next(&set(&[1, 1, 1])).is_err(), "slot 4 is outside a period of 3");
        assert_eq!(carry, untouched);
        let damaged: Carry = serde_json::from_str(r#"{"slot":4,"routed":[4,0,0]}"#).unwrap();
        assert!(damaged.check(&three).is_err(), "two messages ahead is no place of the sequence");
        let miscounted: Carry = serde_json::from_str(r#"{"slot":4,"routed":[2,1,0]}"#).unwrap();
        assert!(miscounted.check(&three).is_err());
    }

    #[test]
    fn the_stored_form_is_small_and_stable() {
        let weights = set(&[5_000, 3_000, 2_000]);
        let mut carry = Carry::new(&weights);
        carry.take(&weights, 7).unwrap();
        let stored = serde_json::to_string(&carry).unwrap();
        assert_eq!(stored, r#"{"slot":7,"routed":[4,2,1]}"#);
        assert_eq!(serde_json::from_str::<Carry>(&stored).unwrap(), carry);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        check_law_from_the_start(&[u32::MAX; 32], 100);
        check_law_from_the_start(&[u32::MAX, 1, u32::MAX - 1, 2, u32::MAX, 7], 5_000);
        let weights = set(&[u32::MAX, 1, u32::MAX - 1]);
        let period: u64 = weights.weight_total();
        let near_the_end: Carry = serde_json::from_value(serde_json::json!({
            "slot": period - 1, "routed": [u32::MAX, 1, u32::MAX - 2],
        }))
        .unwrap();
        let mut carry = near_the_end;
        assert_eq!(carry.next(&weights), Ok(2), "the last message of the period is the only one still owed");
        assert_eq!(carry, Carry::new(&weights));
    }

    /// Weights of all magnitudes, zero included, at least one above zero.
    fn any_weights() -> impl Strategy<Value = Vec<u32>> {
        let weight = prop_oneof![
            2 => 0_u32..=3,
            3 => 1_u32..=100,
            3 => 1_u32..=10_000,
            1 => any::<u32>(),
            1 => Just(u32::MAX),
        ];
        prop::collection::vec(weight, 1..=12)
            .prop_filter("a weight above zero", |weights| weights.iter().any(|weight| *weight > 0))
    }

    proptest! {
        #[test]
        fn the_law_holds_for_any_weights_and_any_cuts(
            weights in any_weights(),
            cuts in prop::collection::vec(1_usize..=700, 1..6),
        ) {
            // Each cut is a lot; between lots the carry goes through its stored form, as over a restart.
            let mut carry = Carry::new(&set(&weights));
            let mut routed = vec![0; weights.len()];
            let mut slots = 0;
            for cut in cuts {
                check_law(&weights, &mut carry, &mut routed, slots, cut);
                slots += cut as u64;
                carry = serde_json::from_str(&serde_json::to_string(&carry).unwrap()).unwrap();
            }
        }

        #[test]
        fn cuts_change_nothing(weights in any_weights(), first in 0_usize..500, second in 0_usize..500) {
            let set = set(&weights);
            let mut whole = Carry::new(&set);
            let mut cut = Carry::new(&set);
            let expected = whole.take(&set, first + second).unwrap();
            let mut taken = cut.take(&set, first).unwrap();
            taken.extend(cut.take(&set, second).unwrap());
            prop_assert_eq!(taken, expected);
            prop_assert_eq!(&cut, &whole);
            let mut advanced = Carry::new(&set);
            advanced.advance(&set, (first + second) as u64).unwrap();
            prop_assert_eq!(&advanced, &whole);
        }

        #[test]
        fn one_at_a_time_is_the_same(weights in any_weights(), count in 1_usize..300) {
            let set = set(&weights);
            let mut together = Carry::new(&set);
            let mut singly = Carry::new(&set);
            let expected = together.take(&set, count).unwrap();
            for index in expected {
                prop_assert_eq!(singly.next(&set).unwrap(), usize::from(index));
            }
        }

        #[test]
        fn many_periods_are_skipped_exactly(weights in prop::collection::vec(1_u32..=20, 1..=6), count in 0_u64..5_000) {
            let set = set(&weights);
            let mut walked = Carry::new(&set);
            walked.take(&set, count as usize).unwrap();
            let mut advanced = Carry::new(&set);
            advanced.advance(&set, count).unwrap();
            prop_assert_eq!(advanced, walked);
        }
    }
}
