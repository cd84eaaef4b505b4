//! The measures that every objective is shown with: success, cost and time of a delivered message, and how close each
//! comes to the best.

use serde::{Deserialize, Serialize};

use super::AdviceSettings;
use super::order::{Prospect, best_order};
use super::relay_figures::Candidate;

/// The parts of a relay's score. Scores are in basis points of the best: 10,000 is as good as the best relay.
///
/// All are rounded to whole units; weights are made from these integers, so they can be recomputed from what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreParts {
    /// Expected share of attempts delivered, shrunk by the size of the sample, in basis points.
    pub success_basis_points: u32,
    /// Expected cost of a delivered message that is tried here first, failover included, in thousandths of a won.
    pub cost_per_delivered_milliwon: i64,
    /// Expected time spent for a delivered message that is tried here first, failover and losses included, in
    /// milliseconds.
    pub time_per_delivered_ms: u64,
    /// How close its success comes to the best; 0 at the gap from which a relay is left out.
    pub success_score: u32,
    /// The least cost divided by its cost.
    pub price_score: u32,
    /// The least time divided by its time.
    pub speed_score: u32,
    /// The three weighed together.
    pub total_score: u32,
}

/// A relay's score, and the best orders that begin with it.
pub(super) struct Scored {
    pub(super) parts: ScoreParts,
    pub(super) price_order: Vec<usize>,
    pub(super) speed_order: Vec<usize>,
}

/// Scores all candidates against the best of the contenders, with the other contenders as fallbacks.
pub(super) fn score(
    candidates: &[Candidate<'_>],
    contenders: &[usize],
    settings: &AdviceSettings,
) -> Vec<Scored> {
    let costs = prospects(candidates, |candidate| candidate.estimate.bill_milliwon);
    let times = prospects(candidates, |candidate| candidate.estimate.spent_ms);
    let mut scored: Vec<Scored> = (0..candidates.len())
        .map(|index| {
            let others: Vec<usize> = contenders.iter().copied().filter(|other| *other != index).collect();
            let (price_order, cost) = best_order(&costs, index, &others);
            let (speed_order, time) = best_order(&times, index, &others);
            let parts = ScoreParts {
                success_basis_points: (candidates[index].estimate.delivered * 10_000.0).round() as u32,
                cost_per_delivered_milliwon: cost.round() as i64,
                time_per_delivered_ms: time.round() as u64,
                success_score: 0,
                price_score: 0,
                speed_score: 0,
                total_score: 0,
            };
            Scored { parts, price_order, speed_order }
        })
        .collect();
    let compared: Vec<usize> =
        if contenders.is_empty() { (0..candidates.len()).collect() } else { contenders.to_vec() };
    let best = Best::of(compared.iter().map(|&index| &scored[index].parts));
    for relay in &mut scored {
        best.compare(&mut relay.parts, settings);
    }
    scored
}

fn prospects(candidates: &[Candidate<'_>], cost: impl Fn(&Candidate<'_>) -> f64) -> Vec<Prospect> {
    candidates
        .iter()
        .map(|candidate| Prospect {
            cost: cost(candidate),
            delivered: candidate.estimate.delivered,
            passed_on: candidate.estimate.passed_on,
        })
        .collect()
}

struct Best {
    success_basis_points: u32,
    cost_milliwon: i64,
    time_ms: u64,
}

impl Best {
    fn of<'parts>(parts: impl Iterator<Item = &'parts ScoreParts>) -> Self {
        let none = Self { success_basis_points: 0, cost_milliwon: i64::MAX, time_ms: u64::MAX };
        parts.fold(none, |best, parts| Self {
            success_basis_points: best.success_basis_points.max(parts.success_basis_points),
            cost_milliwon: best.cost_milliwon.min(parts.cost_per_delivered_milliwon),
            time_ms: best.time_ms.min(parts.time_per_delivered_ms),
        })
    }

    fn compare(&self, parts: &mut ScoreParts, settings: &AdviceSettings) {
        let gap = settings.success_gap_basis_points.max(1);
        let behind = self.success_basis_points.saturating_sub(parts.success_basis_points).min(gap);
        parts.success_score = 10_000 - (u64::from(behind) * 10_000 / u64::from(gap)) as u32;
        let cost = |milliwon: i64| u128::from(milliwon.max(0).unsigned_abs());
        parts.price_score = ratio(cost(self.cost_milliwon), cost(parts.cost_per_delivered_milliwon));
        parts.speed_score = ratio(self.time_ms.into(), parts.time_per_delivered_ms.into());
        let weighed = [
            (parts.success_score, settings.success_importance),
            (parts.price_score, settings.price_importance),
            (parts.speed_score, settings.speed_importance),
        ];
        let importance: u64 = weighed.iter().map(|(_, importance)| u64::from(*importance)).sum();
        let sum: u64 =
            weighed.iter().map(|(score, importance)| u64::from(*score) * u64::from(*importance)).sum();
        parts.total_score = (sum / importance.max(1)) as u32;
    }
}

/// The best value divided by the relay's own, in basis points, at most 10,000. One unit is added to both, so that a
/// free relay does not give infinity.
fn ratio(best: u128, own: u128) -> u32 {
    ((best + 1) * 10_000 / (own + 1)).min(10_000) as u32
}
