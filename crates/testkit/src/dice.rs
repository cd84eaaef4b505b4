//! Chance from a seed, for tests and tools that show the seed when they fail.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A stream of numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = most.saturating_sub(least).saturating_add(1);
        least + ((u128::from(self.any()) * u128::from(span)) >> 64) as u64
    }

    /// True so often in a hundred.
    pub fn per_cent(&mut self, share: u64) -> bool {
        self.between(1, 100) <= share
    }

    /// One of these, which must not be none.
    pub fn pick<'o, T>(&mut self, of: &'o [T]) -> &'o T {
        &of[self.between(0, of.len() as u64 - 1) as usize]
    }
}

/// A seed that nobody chose.
#[must_use]
pub fn any_seed() -> u64 {
    // The standard library draws the keys of a hasher from the system's randomness.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// The seed of a test run: that of the variable `KITE_TEST_SEED`, else one that nobody chose.
///
/// # Errors
/// When the variable is set and is no number.
pub fn test_seed() -> anyhow::Result<u64> {
    match std::env::var("KITE_TEST_SEED") {
        Ok(text) => text.parse().map_err(|_| anyhow::anyhow!("KITE_TEST_SEED is {text:?}, not a number")),
        Err(_) => Ok(any_seed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_within_the_bounds() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..1_000).map(|_| dice.between(3, 5)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let mut seen = draw(7);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [3, 4, 5]);
    }
}
