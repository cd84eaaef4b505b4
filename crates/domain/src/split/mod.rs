//! Exact splitting: which relay takes the next message, so that every share is within one message of its target.
//!
//! The law (law 3 of docs/laws.md): for every policy version and every set of eligible relays, after n first routes
//! |routed(relay) − n × weight| < 1, across lots, sendings, restarts and nodes. Three parts keep it:
//! - [`WeightedRelays`]: the eligible set with its integer weights, in one fixed order;
//! - [`Carry`]: how far the sequence of that set has come; it is stored, and continues where it stopped;
//! - `sequence`: the rule that picks the relay of one slot.
//!
//! A set that is not in use keeps its carry untouched. When a relay comes back, the carry of the larger set continues
//! as if nothing had happened: no burst to catch up.
//!
//! Deliberately absent: rounding per batch, randomness, floating point, and eligibility (decided before a set is
//! made). Which carry belongs to which set is said by [`SplitKey`].

mod carry;
mod sequence;

pub use carry::{Carry, CarryMismatch};

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::policy::RelayWeight;
use crate::slug::RelayId;

/// The most relays that one set may hold.
pub const RELAYS_MAX: usize = 256;

/// A set of relays with integer weights, sorted by relay, each relay once.
///
/// Any unit of weight will do: only the proportions count. Advice uses basis points. A relay of weight zero belongs
/// to the set (it may be a fallback) and is never routed to first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(RelayId, u32)>", into = "Vec<(RelayId, u32)>")]
pub struct WeightedRelays {
    entries: Vec<(RelayId, u32)>,
    weight_total: u64,
}

/// Why a list of relays and weights is not a set that can be split over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// No relay has a weight above zero.
    #[error("no relay has a weight above zero")]
    NoWeight,
    /// The relay is listed more than once.
    #[error("relay {0} is listed more than once")]
    Repeated(RelayId),
    /// More relays than [`RELAYS_MAX`].
    #[error("{0} relays; at most {RELAYS_MAX} can share one split")]
    TooMany(usize),
}

impl WeightedRelays {
    /// Makes a set from relays and weights in any order.
    ///
    /// # Errors
    /// A relay listed twice, no weight above zero, or more than [`RELAYS_MAX`] relays.
    pub fn new(mut entries: Vec<(RelayId, u32)>) -> Result<Self, WeightsError> {
        if entries.len() > RELAYS_MAX {
            return Err(WeightsError::TooMany(entries.len()));
        }
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(WeightsError::Repeated(pair[0].0.clone()));
        }
        let weight_total: u64 = entries.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if weight_total == 0 {
            return Err(WeightsError::NoWeight);
        }
        Ok(Self { entries, weight_total })
    }

    /// Relays and weights, sorted by relay.
    pub fn entries(&self) -> &[(RelayId, u32)] {
        &self.entries
    }

    /// How many relays the set holds, those of weight zero included. Never zero.
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The relay at an index given by [`Carry::next`] or [`Carry::take`].
    pub fn relay(&self, index: usize) -> Option<&RelayId> {
        self.entries.get(index).map(|(relay, _)| relay)
    }

    /// The weight of a relay, in the unit of this set; nothing if the relay is not in the set.
    pub fn weight_of(&self, relay: &RelayId) -> Option<u32> {
        let index = self.entries.binary_search_by(|(listed, _)| listed.cmp(relay)).ok()?;
        Some(self.entries[index].1)
    }

    /// The sum of all weights. Above zero.
    pub fn weight_total(&self) -> u64 {
        self.weight_total
    }

    /// The part of this set whose relays `eligible` accepts, with unchanged weights.
    ///
    /// # Errors
    /// [`WeightsError::NoWeight`] if no eligible relay has a weight above zero.
    pub fn restricted(&self, mut eligible: impl FnMut(&RelayId) -> bool) -> Result<Self, WeightsError> {
        Self::new(self.entries.iter().filter(|(relay, _)| eligible(relay)).cloned().collect())
    }
}

impl TryFrom<Vec<(RelayId, u32)>> for WeightedRelays {
    type Error = WeightsError;

    fn try_from(entries: Vec<(RelayId, u32)>) -> Result<Self, Self::Error> {
        Self::new(entries)
    }
}

impl TryFrom<&[RelayWeight]> for WeightedRelays {
    type Error = WeightsError;

    fn try_from(weights: &[RelayWeight]) -> Result<Self, Self::Error> {
        Self::new(weights.iter().map(|entry| (entry.relay.clone(), entry.weight)).collect())
    }
}

impl From<&WeightedRelays> for Vec<RelayWeight> {
    fn from(weights: &WeightedRelays) -> Self {
        weights
            .entries
            .iter()
            .map(|(relay, weight)| RelayWeight { relay: relay.clone(), weight: *weight })
            .collect()
    }
}

impl From<WeightedRelays> for Vec<(RelayId, u32)> {
    fn from(weights: WeightedRelays) -> Self {
        weights.entries
    }
}

/// The stable name of one policy version over one set of relays and weights: the key under which its carry is kept.
///
/// Text form: `<policy>|<relay>:<weight>,<relay>:<weight>…`, relays in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SplitKey(SmolStr);

impl SplitKey {
    /// Names the split of `policy` over `weights`. `policy` names one version of one policy, for example
    /// `acme-sms@7`; another version has another carry.
    pub fn new(policy: &str, weights: &WeightedRelays) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(policy.len() + weights.len() * 16);
        text.push_str(policy);
        for (position, (relay, weight)) in weights.entries.iter().enumerate() {
            let separator = if position == 0 { '|' } else { ',' };
            write!(text, "{separator}{relay}:{weight}").expect("writing to a string cannot fail");
        }
        Self(text.into())
    }

    /// The range of the text forms of all splits of a policy, and no others: from the first to before the second.
    pub fn bounds(policy: &str) -> (String, String) {
        // The separator, and the character after it.
        (format!("{policy}|"), format!("{policy}}}"))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SplitKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(name: &str) -> RelayId {
        RelayId::parse(name).unwrap()
    }

    #[test]
    fn a_set_is_sorted_and_named_the_same_whatever_the_order_given() {
        let one = WeightedRelays::new(vec![(relay("beta"), 3_000), (relay("alpha"), 7_000)]).unwrap();
        let other = WeightedRelays::new(vec![(relay("alpha"), 7_000), (relay("beta"), 3_000)]).unwrap();
        assert_eq!(one, other);
        assert_eq!(SplitKey::new("acme-sms@7", &one).as_str(), "acme-sms@7|alpha:7000,beta:3000");
        assert_eq!(one.weight_of(&relay("beta")), Some(3_000));
        assert_eq!(one.weight_of(&relay("gamma")), None);
        assert_eq!(one.relay(1), Some(&relay("beta")));
    }

    #[test]
    fn the_splits_of_a_policy_lie_together() {
        let weights = WeightedRelays::new(vec![(relay("alpha"), 7_000), (relay("beta"), 3_000)]).unwrap();
        let (first, end) = SplitKey::bounds("acme-sms-7");
        let is_between = |policy: &str| {
            let key = SplitKey::new(policy, &weights);
            (first.as_str()..end.as_str()).contains(&key.as_str())
        };
        assert!(is_between("acme-sms-7"));
        for other in ["acme-sms-6", "acme-sms-70", "acme-sms-7-3", "acme-sms", "acme-sms-8"] {
            assert!(!is_between(other), "{other}");
        }
    }

    #[test]
    fn another_policy_version_set_or_weight_is_another_key() {
        let weights = WeightedRelays::new(vec![(relay("alpha"), 7), (relay("beta"), 3)]).unwrap();
        let without_beta = weights.restricted(|id| id.as_str() != "beta").unwrap();
        let heavier = WeightedRelays::new(vec![(relay("alpha"), 8), (relay("beta"), 3)]).unwrap();
        let key = SplitKey::new("p@1", &weights);
        assert_ne!(key, SplitKey::new("p@2", &weights));
        assert_ne!(key, SplitKey::new("p@1", &without_beta));
        assert_ne!(key, SplitKey::new("p@1", &heavier));
    }

    #[test]
    fn impossible_sets_are_refused() {
        assert_eq!(WeightedRelays::new(vec![]), Err(WeightsError::NoWeight));
        assert_eq!(WeightedRelays::new(vec![(relay("alpha"), 0)]), Err(WeightsError::NoWeight));
        assert_eq!(
            WeightedRelays::new(vec![(relay("alpha"), 1), (relay("beta"), 1), (relay("alpha"), 2)]),
            Err(WeightsError::Repeated(relay("alpha")))
        );
        let many = (0..=RELAYS_MAX).map(|n| (relay(&format!("r{n}")), 1)).collect();
        assert_eq!(WeightedRelays::new(many), Err(WeightsError::TooMany(RELAYS_MAX + 1)));
        assert!(serde_json::from_str::<WeightedRelays>(r#"[["alpha",1],["alpha",2]]"#).is_err());
    }

    #[test]
    fn a_set_survives_its_stored_form() {
        let weights = WeightedRelays::new(vec![(relay("beta"), 3), (relay("alpha"), 0)]).unwrap();
        let stored = serde_json::to_string(&weights).unwrap();
        assert_eq!(stored, r#"[["alpha",0],["beta",3]]"#);
        assert_eq!(serde_json::from_str::<WeightedRelays>(&stored).unwrap(), weights);
    }
}
