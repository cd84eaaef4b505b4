//! How a tenant wants the messages of a channel split over the relays, and what happens when one fails.

mod failover_terms;

pub use failover_terms::{ATTEMPTS_MAX, FailoverOutOfRange, FailoverTerms, WAIT_S_MAX};

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::slug::{RelayId, TenantId};
use crate::text::Channel;

/// Weights are hundredths of a per cent and sum to this.
pub const WEIGHT_SUM: u32 = 10_000;

/// A relay and its share, in hundredths of a per cent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayWeight {
    /// The relay.
    pub relay: RelayId,
    /// Its share in hundredths of a per cent (basis points).
    pub weight: u32,
}

/// What the split aims at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(tag = "objective", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PolicyObjective {
    /// Exactly these shares.
    Ratio {
        /// Sums to [`WEIGHT_SUM`].
        weights: Vec<RelayWeight>,
    },
    /// The least expected cost of a delivered message.
    Price,
    /// The shortest measured time to delivery.
    Speed,
    /// Success, price and speed weighed together.
    Recommended,
}

impl PolicyObjective {
    /// The word for it, as on the wire.
    pub fn word(&self) -> &'static str {
        self.into()
    }
}

/// A new version of a tenant's policy for a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDefined {
    /// Whose policy.
    pub tenant: TenantId,
    /// For which channel.
    pub channel: Channel,
    /// Counts up from 1.
    pub version: u32,
    /// What the split aims at.
    #[serde(flatten)]
    pub objective: PolicyObjective,
    /// What happens when a relay or the channel fails.
    pub failover: FailoverTerms,
}

/// Weights that an objective other than `ratio` led to, from live figures. The router routes by the newest
/// advice for the set of eligible relays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsAdvised {
    /// Whose policy.
    pub tenant: TenantId,
    /// For which channel.
    pub channel: Channel,
    /// The policy version that the advice follows.
    pub version: u32,
    /// Counts up from 1 within the channel.
    pub advice: u32,
    /// Sums to [`WEIGHT_SUM`]; it includes every relay that was considered, even with weight zero.
    pub weights: Vec<RelayWeight>,
    /// The order in which relays are tried after the first.
    pub order: Vec<RelayId>,
    /// Why, in words with figures.
    pub reasons: Vec<String>,
}

/// Why weights were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Nothing to split over.
    #[error("a ratio needs at least one relay")]
    Empty,
    /// A relay twice.
    #[error("relay {0} is named more than once")]
    Repeated(RelayId),
    /// Not 100 per cent.
    #[error(
        "the weights sum to {} %, not 100 %: a weight is in hundredths of a per cent, so 50 % is 5000",
        percent(*.0)
    )]
    Sum(u64),
}

fn percent(basis_points: u64) -> String {
    format!("{}.{:02}", basis_points / 100, basis_points % 100)
}

/// Checks what a ratio promises: at least one relay, none twice, a sum of 100 %.
pub fn check_weights(weights: &[RelayWeight]) -> Result<(), WeightsError> {
    if weights.is_empty() {
        return Err(WeightsError::Empty);
    }
    for (place, entry) in weights.iter().enumerate() {
        if weights[..place].iter().any(|earlier| earlier.relay == entry.relay) {
            return Err(WeightsError::Repeated(entry.relay.clone()));
        }
    }
    match weights.iter().map(|entry| u64::from(entry.weight)).sum() {
        sum if sum == u64::from(WEIGHT_SUM) => Ok(()),
        sum => Err(WeightsError::Sum(sum)),
    }
}

/// The stream of a policy: `policy-<tenant>-<channel>`.
pub fn stream(tenant: &TenantId, channel: Channel) -> SmolStr {
    format_smolstr!("policy-{tenant}-{channel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(pairs: &[(&str, u32)]) -> Vec<RelayWeight> {
        let of = |(relay, weight): &(&str, u32)| RelayWeight {
            relay: RelayId::parse(relay).unwrap(),
            weight: *weight,
        };
        pairs.iter().map(of).collect()
    }

    #[test]
    fn a_ratio_is_of_different_relays_and_is_all_there_is() {
        assert_eq!(check_weights(&[]), Err(WeightsError::Empty));
        assert_eq!(check_weights(&weights(&[("alpha", 10_000)])), Ok(()));
        assert_eq!(check_weights(&weights(&[("alpha", 6_667), ("beta", 3_333), ("gamma", 0)])), Ok(()));
        let twice = check_weights(&weights(&[("alpha", 5_000), ("beta", 0), ("alpha", 5_000)]));
        assert_eq!(twice, Err(WeightsError::Repeated(RelayId::parse("alpha").unwrap())));
        for (second, sum) in [(3_332, 9_999), (3_334, 10_001), (u32::MAX, 4_294_973_962)] {
            let refused = check_weights(&weights(&[("alpha", 6_667), ("beta", second)]));
            assert_eq!(refused, Err(WeightsError::Sum(sum)));
        }
    }

    #[test]
    fn a_wrong_sum_is_told_in_per_cent() {
        let told = WeightsError::Sum(9_905).to_string();
        assert!(told.starts_with("the weights sum to 99.05 %, not 100 %"), "{told}");
    }
}
