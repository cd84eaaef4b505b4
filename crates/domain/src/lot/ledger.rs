//! Where every split is in its sequence.

use smol_str::SmolStr;
use std::collections::HashMap;

use super::MessagesRouted;
use crate::election::RoutesClaimed;
use crate::split::{Carry, CarryMismatch, WeightedRelays};

/// The position of every split in its sequence, as far as the log goes. It belongs to the router, and is folded from
/// `messages-routed` and `routes-claimed`.
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

    /// Folds routes that are claimed.
    pub fn evolve_claim(&mut self, claim: &RoutesClaimed) {
        claim.lots.iter().for_each(|lot| self.evolve(&lot.routed));
    }

    /// Keeps those whose key this admits.
    pub fn retain(&mut self, mut keeps: impl FnMut(&str) -> bool) {
        self.carries.retain(|key, _| keeps(key));
    }

    /// Every split and its place.
    pub fn carries(&self) -> impl Iterator<Item = (&SmolStr, &Carry)> {
        self.carries.iter()
    }

    /// The positions after decisions that are not in the log yet.
    pub fn ahead(&self) -> LedgerAhead<'_> {
        LedgerAhead { settled: self, moved: HashMap::new(), misfits: Vec::new() }
    }
}

/// A ledger with splits that are decided and not in the log yet. It is dropped once they are in the log, or have
/// failed.
#[derive(Debug)]
pub struct LedgerAhead<'l> {
    settled: &'l SplitLedger,
    moved: HashMap<SmolStr, Carry>,
    misfits: Vec<CarryMismatch>,
}

impl LedgerAhead<'_> {
    /// The position where this split continues; its start if it is new, or if what is stored does not fit, which is
    /// noted.
    pub fn carry(&mut self, key: &str, weights: &WeightedRelays) -> Carry {
        let Some(known) = self.moved.get(key).or_else(|| self.settled.carries.get(key)) else {
            return Carry::new(weights);
        };
        match known.check(weights) {
            Ok(()) => known.clone(),
            Err(misfit) => {
                self.misfits.push(misfit);
                Carry::new(weights)
            }
        }
    }

    /// Takes out the positions that did not fit their split. Somebody, or a fault, has changed them, and those splits
    /// begin again.
    pub fn take_misfits(&mut self) -> Vec<CarryMismatch> {
        std::mem::take(&mut self.misfits)
    }

    pub(super) fn record(&mut self, key: SmolStr, carry: Carry) {
        self.moved.insert(key, carry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slug::RelayId;

    #[test]
    fn a_place_that_fits_no_split_is_noted_and_the_split_begins_anew() {
        let relay = |name: &'static str| RelayId::from_trusted(SmolStr::new_static(name));
        let weights = WeightedRelays::new(vec![(relay("alpha"), 1), (relay("beta"), 1)]).unwrap();
        let one = WeightedRelays::new(vec![(relay("alpha"), 1)]).unwrap();
        let mut moved = Carry::new(&weights);
        moved.take(&weights, 1).unwrap();
        let kept = [("sound".into(), moved.clone()), ("damaged".into(), Carry::new(&one))];
        let ledger: SplitLedger = kept.into_iter().collect();
        let mut ahead = ledger.ahead();
        assert_eq!(ahead.carry("sound", &weights), moved);
        assert_eq!(ahead.carry("new", &weights), Carry::new(&weights));
        assert!(ahead.take_misfits().is_empty());
        assert_eq!(ahead.carry("damaged", &weights), Carry::new(&weights));
        assert_eq!(ahead.take_misfits().len(), 1);
        assert!(ahead.take_misfits().is_empty());
    }

    #[test]
    fn a_ledger_keeps_the_splits_that_are_wanted_and_no_others() {
        let all = WeightedRelays::new(vec![(RelayId::from_trusted("alpha"), 10_000)]).unwrap();
        let carry = Carry::new(&all);
        let mut ledger: SplitLedger = ["acme-sms-1", "acme-sms-2", "shop-sms-1"]
            .map(|key| (key.into(), carry.clone()))
            .into_iter()
            .collect();
        ledger.retain(|key| key.starts_with("acme"));
        let mut kept: Vec<&str> = ledger.carries().map(|(key, _)| key.as_str()).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["acme-sms-1", "acme-sms-2"]);
    }
}
