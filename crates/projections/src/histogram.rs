//! Log-linear buckets for times: exact below 64 ms, above that 32 buckets for each doubling.
//!
//! A bucket is at most 1/32 of its lower bound wide and is shown by its middle, so a percentile is off by at most
//! 1.6 % of its value. Buckets add up over rows, so percentiles of any grouping come from the same counts.

use kite_domain::advice::Percentiles;
use std::collections::BTreeMap;

/// Below this every millisecond has its own bucket.
const EXACT_MS: u64 = 64;
/// Buckets for each doubling above that, as a power of two.
const STEP_BITS: u32 = 5;

/// The bucket of a time; a negative one counts as 0.
pub(crate) fn bucket(milliseconds: i64) -> i64 {
    let value = u64::try_from(milliseconds).unwrap_or(0);
    if value < EXACT_MS {
        return value as i64;
    }
    let exponent = value.ilog2();
    let step = (value >> (exponent - STEP_BITS)) & ((1 << STEP_BITS) - 1);
    (EXACT_MS + (u64::from(exponent - EXACT_MS.ilog2()) << STEP_BITS) + step) as i64
}

/// The middle of a bucket, in milliseconds.
pub(crate) fn middle_ms(bucket: i64) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(0);
    if bucket < EXACT_MS {
        return bucket;
    }
    let above = bucket - EXACT_MS;
    let shift = (above >> STEP_BITS) as u32 + EXACT_MS.ilog2() - STEP_BITS;
    let low = ((1 << STEP_BITS) + (above & ((1 << STEP_BITS) - 1))) << shift.min(57);
    low + (1 << shift.min(57)) / 2
}

/// Counts by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram(BTreeMap<i64, u64>);

impl Histogram {
    /// Adds what a row says.
    pub(crate) fn add(&mut self, bucket: i64, count: u64) {
        *self.0.entry(bucket).or_default() += count;
    }

    /// None when nothing was counted.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let samples: u64 = self.0.values().sum();
        let at = |per_hundred: u64| {
            let rank = (samples * per_hundred).div_ceil(100).max(1);
            let mut seen = 0;
            let found = self.0.iter().find(|(_, count)| {
                seen += **count;
                seen >= rank
            });
            found.map_or(0, |(bucket, _)| middle_ms(*bucket))
        };
        (samples > 0).then(|| Percentiles { p50_ms: at(50), p95_ms: at(95), p99_ms: at(99), samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_middle_of_a_bucket_is_near_all_its_values(value in 0i64..10_000_000_000) {
            let middle = middle_ms(bucket(value)) as f64;
            prop_assert!((middle - value as f64).abs() <= value as f64 / 60.0, "{value} shown as {middle}");
        }

        #[test]
        fn buckets_are_in_the_order_of_their_values(one in any::<i64>(), other in any::<i64>()) {
            prop_assert_eq!(bucket(one.min(other)).min(bucket(one.max(other))), bucket(one.min(other)));
            let _ = middle_ms(bucket(one));
        }
    }

    #[test]
    fn percentiles_of_one_to_a_hundred() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentiles(), None);
        (1..=100).for_each(|value| histogram.add(bucket(value), 1));
        let found = histogram.percentiles().unwrap();
        assert_eq!((found.p50_ms, found.samples), (50, 100));
        assert!(found.p95_ms.abs_diff(95) <= 1 && found.p99_ms.abs_diff(99) <= 1, "{found:?}");
    }
}
