//! Random numbers from a seed, for tests and tools that show the seed when they fail. A known seed must always mean
//! the same, so the generator is written out here (SplitMix64, public domain) and does not change with a crate's
//! version.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A stream of numbers that follow from a seed.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: mixed(seed ^ 0x6A09_E667_F3BC_C908) }
    }

    /// The stream of a part of a seed: independent of all other parts.
    #[must_use]
    pub fn of(seed: u64, part: u64) -> Self {
        Self::new(mixed(seed).wrapping_add(mixed(part ^ 0xBB67_AE85_84CA_A73B)))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.state)
    }

    /// A number from 0 up to, but not including, `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { ((u128::from(self.any()) * u128::from(bound)) >> 64) as u64 }
    }

    /// A number between these, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True so often in a hundred.
    pub fn per_cent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// One of these.
    pub fn pick<'o, T>(&mut self, of: &'o [T]) -> &'o T {
        &of[self.below(of.len() as u64) as usize]
    }
}

fn mixed(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A number that follows from a seed and a text alone, whatever was drawn before.
#[must_use]
pub fn hash_of(seed: u64, text: &str) -> u64 {
    text.bytes().fold(mixed(seed), |hash, byte| mixed(hash ^ u64::from(byte)))
}

/// A seed that nobody chose.
#[must_use]
pub fn any_seed() -> u64 {
    // The standard library draws the keys of a hasher from the system's randomness.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// The seed of a test run: that of the variable `KITE_TEST_SEED`, otherwise a random one.
///
/// # Errors
/// When the variable is set and is not a number.
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
    fn a_seed_means_the_same_for_ever() {
        let mut dice = Dice::new(7);
        let drawn: Vec<u64> = (0..4).map(|_| dice.below(1_000)).collect();
        let mut again = Dice::new(7);
        assert_eq!(drawn, (0..4).map(|_| again.below(1_000)).collect::<Vec<_>>());
        assert_ne!(drawn, (0..4).map(|_| Dice::new(8).below(1_000)).collect::<Vec<_>>());
    }

    #[test]
    fn every_number_in_the_range_comes() {
        let mut dice = Dice::new(1);
        let mut seen = [false; 6];
        (0..200).for_each(|_| seen[dice.between(0, 5) as usize] = true);
        assert_eq!(seen, [true; 6]);
    }
}
