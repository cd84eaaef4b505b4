//! The numbers that advice is made with. All of them are data: an operator may change each.

use serde::{Deserialize, Serialize};

/// How figures become advice. Shares are in basis points (hundredths of a per cent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdviceSettings {
    /// A relay is judged from this many outcomes (for speed: this many measured deliveries) in the window.
    pub sample_min: u64,
    /// The share delivered that is assumed of a relay before anything is measured.
    pub prior_success_basis_points: u32,
    /// How many outcomes that assumption is worth.
    pub prior_strength: u32,
    /// The time to delivery assumed of a relay without deliveries, in milliseconds.
    pub prior_delivery_ms: u64,
    /// The time to an answer assumed of a relay without answers, in milliseconds.
    pub prior_hand_over_ms: u64,
    /// How much of the judged time to delivery is the 95th percentile; the rest is the median.
    pub tail_share_basis_points: u32,
    /// What a message lost at a relay counts for when speed is judged, in milliseconds.
    pub lost_ms: u64,
    /// A relay that delivers less than this gets nothing.
    pub success_min_basis_points: u32,
    /// A relay that delivers this much less than the best gets nothing, and a success score of zero.
    pub success_gap_basis_points: u32,
    /// The share of a relay that is yet to be measured.
    pub measuring_share_basis_points: u32,
    /// The share of all relays that are yet to be measured, together.
    pub measuring_total_max_basis_points: u32,
    /// Relays whose cost is within this of the cheapest share with it.
    pub price_tie_basis_points: u32,
    /// Relays whose time is within this of the fastest share with it.
    pub speed_tie_basis_points: u32,
    /// How much success counts in a recommendation, relative to price and speed.
    pub success_importance: u32,
    /// How much price counts in a recommendation.
    pub price_importance: u32,
    /// How much speed counts in a recommendation.
    pub speed_importance: u32,
    /// Recommended weights are in proportion to this power of the score; from 1 to 6.
    pub score_power: u32,
    /// Weights are whole multiples of this.
    pub step_basis_points: u32,
    /// Weights are replaced only if a share moves by at least this.
    pub change_min_basis_points: u32,
}

impl Default for AdviceSettings {
    fn default() -> Self {
        Self {
            sample_min: 50,
            prior_success_basis_points: 9_500,
            prior_strength: 20,
            prior_delivery_ms: 10_000,
            prior_hand_over_ms: 1_000,
            tail_share_basis_points: 5_000,
            lost_ms: 60_000,
            success_min_basis_points: 5_000,
            success_gap_basis_points: 2_000,
            measuring_share_basis_points: 200,
            measuring_total_max_basis_points: 1_000,
            price_tie_basis_points: 100,
            speed_tie_basis_points: 500,
            success_importance: 50,
            price_importance: 30,
            speed_importance: 20,
            score_power: 4,
            step_basis_points: 100,
            change_min_basis_points: 500,
        }
    }
}
