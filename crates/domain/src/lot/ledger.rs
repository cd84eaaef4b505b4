//! Where every split stands in its sequence.

use smol_str::SmolStr;
use std::collections::HashMap;

use super::MessagesRouted;
use crate::split::{Carry, WeightedRelays};

/// Where every split stands in its sequence, as far as the log goes. Belongs to the router, and is folded from
/// `messages-routed`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitLedger {
    carries: HashMap<SmolStr, Carry>,
}

impl FromIterator<(SmolStr, Carry)> for SplitLedger {
    fn from_iter<I: IntoIterator<Item = (SmolStr, Carry)>>(carries: I) -> Self {
        Self { carries: carries.into_iter().collect() }
    }
}

impl SplitLedger {
    /// Takes over the carry that a recorded split left.
    pub fn record(&mut self, key: SmolStr, carry: Carry) {
        self.carries.insert(key, carry);
    }

    /// Folds a routing that is in the log.
    pub fn evolve(&mut self, routed: &MessagesRouted) {
        for split in &routed.splits {
            self.record(split.key.clone(), split.carry.clone());
        }
    }

    /// Every split and its place.
    pub fn carries(&self) -> impl Iterator<Item = (&SmolStr, &Carry)> {
        self.carries.iter()
    }

    /// Where decisions go on that are not in the log yet.
    pub fn ahead(&self) -> LedgerAhead<'_> {
        LedgerAhead { settled: self, moved: HashMap::new() }
    }
}

/// A ledger with splits that are decided and not in the log yet. Thrown away once they are, or are not.
#[derive(Debug)]
pub struct LedgerAhead<'l> {
    settled: &'l SplitLedger,
    moved: HashMap<SmolStr, Carry>,
}

impl LedgerAhead<'_> {
    /// The place where this split goes on; its start if it is new, or if what is stored does not fit.
    pub fn carry(&self, key: &str, weights: &WeightedRelays) -> Carry {
        let known = self.moved.get(key).or_else(|| self.settled.carries.get(key));
        known.filter(|carry| carry.check(weights).is_ok()).cloned().unwrap_or_else(|| Carry::new(weights))
    }

    pub(super) fn record(&mut self, key: SmolStr, carry: Carry) {
        self.moved.insert(key, carry);
    }
}
