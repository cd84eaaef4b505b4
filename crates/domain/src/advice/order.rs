//! The best order to try relays in, failover included.
//!
//! An order r1, r2, … spends `C = Σ reach × cost` and delivers `P = Σ reach × delivered`, where the reach of a relay
//! is the chance that all relays before it failed in a way that allows another try. The best order has the least C /
//! P.
//!
//! For a given price λ of a delivery, `C − λ·P` is least when relays are sorted by rising `(cost − λ·delivered) / (1
//! − passed_on)`: swapping two neighbours against that order never helps. Raising λ to the C / P of the order found,
//! until it no longer changes, gives the exact minimum of the ratio (W. Dinkelbach, "On nonlinear fractional
//! programming", 1967). A test compares it with all permutations.

/// What one attempt at a relay spends and gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prospect {
    /// In any unit; not below zero.
    pub(super) cost: f64,
    /// Chance of delivery; above zero.
    pub(super) delivered: f64,
    /// Chance that it fails and another relay may try; below one.
    pub(super) passed_on: f64,
}

/// Enough for any input met; each round strictly lowers the ratio.
const ROUNDS_MAX: u32 = 100;

/// What an order spends for each delivery.
pub(super) fn cost_per_delivery(prospects: &[Prospect], order: &[usize]) -> f64 {
    let (mut reach, mut cost, mut delivered) = (1.0, 0.0, 0.0);
    for prospect in order.iter().map(|&index| &prospects[index]) {
        cost += reach * prospect.cost;
        delivered += reach * prospect.delivered;
        reach *= prospect.passed_on;
    }
    cost / delivered
}

/// The best order that begins with `first` and continues with all of `others`, and what it spends for each delivery.
///
/// Relays that are equally good stay in the order given.
pub(super) fn best_order(prospects: &[Prospect], first: usize, others: &[usize]) -> (Vec<usize>, f64) {
    let mut order: Vec<usize> = std::iter::once(first).chain(others.iter().copied()).collect();
    let mut best = (order.clone(), cost_per_delivery(prospects, &order));
    for _ in 0..ROUNDS_MAX {
        let price = best.1;
        let rank = |index: usize| {
            let prospect = &prospects[index];
            (prospect.cost - price * prospect.delivered) / (1.0 - prospect.passed_on)
        };
        order[1..].copy_from_slice(others);
        order[1..].sort_by(|&left, &right| rank(left).total_cmp(&rank(right)));
        let cost = cost_per_delivery(prospects, &order);
        if cost >= best.1 {
            break;
        }
        best = (order.clone(), cost);
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
        if items.is_empty() {
            return vec![vec![]];
        }
        let mut all = Vec::new();
        for (position, &item) in items.iter().enumerate() {
            let mut rest = items.to_vec();
            rest.remove(position);
            for mut tail in permutations(&rest) {
                tail.insert(0, item);
                all.push(tail);
            }
        }
        all
    }

    #[test]
    fn a_dear_relay_that_rarely_fails_may_still_come_second() {
        let prospects = [
            Prospect { cost: 8.0, delivered: 0.90, passed_on: 0.08 },
            Prospect { cost: 9.0, delivered: 0.99, passed_on: 0.005 },
            Prospect { cost: 30.0, delivered: 0.99, passed_on: 0.005 },
        ];
        assert_eq!(best_order(&prospects, 0, &[2, 1]).0, [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn no_permutation_is_better(
            raw in prop::collection::vec((0_u32..50_000, 1_u32..1_000, 0_u32..1_000), 1..=6),
        ) {
            let prospects: Vec<Prospect> = raw
                .iter()
                .map(|&(cost, delivered, passed_on)| {
                    let whole = f64::from((delivered + passed_on).max(1_000));
                    Prospect {
                        cost: f64::from(cost),
                        delivered: f64::from(delivered) / whole,
                        passed_on: f64::from(passed_on) / whole,
                    }
                })
                .collect();
            let others: Vec<usize> = (1..prospects.len()).collect();
            let (order, found) = best_order(&prospects, 0, &others);
            prop_assert_eq!(order.len(), prospects.len());
            for mut permutation in permutations(&others) {
                permutation.insert(0, 0);
                let cost = cost_per_delivery(&prospects, &permutation);
                prop_assert!(found <= cost * (1.0 + 1e-9), "{:?} costs {}, {:?} costs {}", order, found, permutation, cost);
            }
        }
    }
}
