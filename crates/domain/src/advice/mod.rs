//! Advice: which relays should get how much, in which order they stand in for each other, and why.
//!
//! A pure function of an objective and of live figures. It returns weights, an order of fallbacks and readable
//! reasons in one decision, so that what is shown, what is stored and what is used for routing are the same.
//!
//! - A relay without enough data gets a small share so that it is measured, never most of the traffic.
//! - A relay that delivers clearly worse than the best gets nothing, whatever its price.
//! - If every measured relay looks bad, the weights stay: the fault is then likely elsewhere, and moving everything
//!   to the least bad relay would make it worse.
//! - Weights are replaced only if the difference matters ([`should_replace`]).
//!
//! Stored output is integers. Inside, expectations are computed in `f64` with the four basic operations only, and
//! relays in order of their ids, so the same figures give the same advice on every machine.
//!
//! Deliberately absent: eligibility (only eligible relays are passed in), and where the figures come from.

mod least;
mod number_format;
mod order;
mod price;
mod recommended;
mod relay_figures;
#[cfg(test)]
mod samples;
mod score;
mod settings;
mod speed;
mod weights;

pub use relay_figures::{Percentiles, RelayFigures, RelayStanding};
pub use score::ScoreParts;
pub use settings::AdviceSettings;
pub use weights::should_replace;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::policy::{PolicyObjective, RelayWeight, WEIGHT_SUM};
use crate::slug::RelayId;
use relay_figures::{Candidate, Needs, judge};
use score::{Scored, score};

/// What is advised for one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// ratio, price, speed or recommended.
    pub objective: String,
    /// Whether these weights were computed, or are the previous ones.
    pub verdict: AdviceKind,
    /// One per relay, by id. Their weights sum to 10,000 unless the verdict is [`AdviceKind::NoRelay`].
    pub entries: Vec<AdviceEntry>,
    /// Who is tried after whom; all relays, the best first.
    pub order: Vec<RelayId>,
    /// Why, in one sentence with figures.
    pub reason: String,
    /// Start of the earliest window that figures come from; none without figures.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub measured_from: Option<DateTime<Utc>>,
    /// End of the latest window that figures come from: when this was true.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub measured_at: Option<DateTime<Utc>>,
}

impl Advice {
    /// The weights, by relay; those of zero included.
    pub fn weights(&self) -> Vec<RelayWeight> {
        self.entries
            .iter()
            .map(|entry| RelayWeight { relay: entry.relay.clone(), weight: entry.weight_basis_points })
            .collect()
    }
}

/// What kind of answer an advice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdviceKind {
    /// Weights that follow from the objective and the figures.
    Advised,
    /// Every measured relay looks bad: the weights as they were.
    KeptPrevious,
    /// There is no relay to give anything to.
    NoRelay,
}

/// What is advised for one relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdviceEntry {
    /// The relay.
    pub relay: RelayId,
    /// Its share, in basis points.
    pub weight_basis_points: u32,
    /// What that share is for.
    pub role: Role,
    /// How the relay stands, whatever the objective.
    pub standing: RelayStanding,
    /// What was compared. For a relay without data these are assumptions.
    pub score: ScoreParts,
    /// Outcomes that it was judged by.
    pub sample: u64,
    /// What was measured, then why it gets what it gets.
    pub reasons: Vec<String>,
}

/// What the share of a relay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It carries traffic, on its merits or because the ratio says so.
    Carrying,
    /// It gets a little, to be measured.
    Measuring,
    /// It is sound, but others are better; it is only a fallback.
    StandingBy,
    /// It looks bad.
    LeftOut,
}

/// What an objective thinks of the contenders.
struct Merits {
    /// One a candidate; zero for those without merit.
    scores: Vec<u128>,
    /// Why, one per candidate; empty for those that did not contend.
    reasons: Vec<String>,
    /// The contenders, the best first.
    order: Vec<usize>,
    summary: String,
}

impl Merits {
    fn none(candidates: usize, order: Vec<usize>) -> Self {
        Self {
            scores: vec![0; candidates],
            reasons: vec![String::new(); candidates],
            order,
            summary: String::new(),
        }
    }
}

/// Advises weights and an order of fallbacks for the relays whose figures are given.
///
/// Give only relays that are eligible except for their breaker: a tripped one is shown, gets nothing and comes last in the
/// order. `previous` are the weights in use, kept when every measured relay looks bad. The order of `figures` does not
/// matter; of two figures for the same relay the first counts.
pub fn advise(
    objective: &PolicyObjective,
    figures: &[RelayFigures],
    previous: &[RelayWeight],
    settings: &AdviceSettings,
) -> Advice {
    let mut figures: Vec<&RelayFigures> = figures.iter().collect();
    figures.sort_by(|left, right| left.relay.cmp(&right.relay));
    figures.dedup_by(|later, first| later.relay == first.relay);
    let needs = match objective {
        PolicyObjective::Speed => Needs::OutcomesAndTimes,
        PolicyObjective::Ratio { .. } | PolicyObjective::Price | PolicyObjective::Recommended => {
            Needs::Outcomes
        }
    };
    let candidates = judge(&figures, needs, settings);
    let contenders = contenders(&candidates);
    let scored = score(&candidates, &contenders, settings);
    let view = View { candidates: &candidates, contenders: &contenders, scored: &scored, settings };
    let decision = match objective {
        PolicyObjective::Ratio { weights } => view.by_ratio(weights),
        PolicyObjective::Price => view.by_merit(price::merits, previous),
        PolicyObjective::Speed if view.is_nobody_measured() => view.by_merit(even, previous),
        PolicyObjective::Speed => view.by_merit(speed::merits, previous),
        PolicyObjective::Recommended if view.is_nobody_measured() => view.by_merit(even, previous),
        PolicyObjective::Recommended => view.by_merit(recommended::merits, previous),
    };
    view.write(objective, decision)
}

/// The relays that may get a share on merit: the measured ones. If there is none and none looks bad either, all that
/// are not tripped, and those being probed only if there is no other. Empty if every measured relay looks bad.
fn contenders(candidates: &[Candidate<'_>]) -> Vec<usize> {
    let standing = |wanted: RelayStanding| -> Vec<usize> {
        (0..candidates.len()).filter(|&index| candidates[index].standing == wanted).collect()
    };
    let measured = standing(RelayStanding::Measured);
    if !measured.is_empty() || !standing(RelayStanding::Failing).is_empty() {
        return measured;
    }
    let unmeasured = standing(RelayStanding::Unmeasured);
    if unmeasured.is_empty() { standing(RelayStanding::Probing) } else { unmeasured }
}

/// Nothing to compare by: the same for everybody.
fn even(
    candidates: &[Candidate<'_>],
    contenders: &[usize],
    _scored: &[Scored],
    settings: &AdviceSettings,
) -> Option<Merits> {
    if contenders.is_empty() {
        return None;
    }
    let mut merits = Merits::none(candidates.len(), contenders.to_vec());
    for &index in contenders {
        merits.scores[index] = 1;
        merits.reasons[index] = "an even share until enough is measured".to_owned();
    }
    merits.summary = format!(
        "no relay has the {} outcomes that it takes to compare: even shares",
        number_format::count(settings.sample_min)
    );
    Some(merits)
}

type MeritsOf = fn(&[Candidate<'_>], &[usize], &[Scored], &AdviceSettings) -> Option<Merits>;

struct Decision {
    verdict: AdviceKind,
    weights: Vec<u32>,
    reasons: Vec<String>,
    order: Vec<usize>,
    reason: String,
}

/// The candidates, with what a decision needs to know of them.
struct View<'view> {
    candidates: &'view [Candidate<'view>],
    contenders: &'view [usize],
    scored: &'view [Scored],
    settings: &'view AdviceSettings,
}

impl View<'_> {
    fn is_nobody_measured(&self) -> bool {
        !self.candidates.iter().any(|candidate| candidate.standing == RelayStanding::Measured)
    }

    fn by_merit(&self, merits: MeritsOf, previous: &[RelayWeight]) -> Decision {
        let Some(merits) = merits(self.candidates, self.contenders, self.scored, self.settings) else {
            return self.keep(previous);
        };
        let weights = weights::assign(self.candidates, self.contenders, &merits.scores, self.settings);
        Decision {
            verdict: AdviceKind::Advised,
            weights,
            reasons: merits.reasons,
            order: self.with_the_others(merits.order),
            reason: merits.summary,
        }
    }

    /// Every measured relay looks bad: change nothing.
    fn keep(&self, previous: &[RelayWeight]) -> Decision {
        Decision {
            verdict: AdviceKind::KeptPrevious,
            weights: weights::kept(self.candidates, previous, self.settings),
            reasons: vec![String::new(); self.candidates.len()],
            order: self.with_the_others(Vec::new()),
            reason: "every relay that can be judged looks bad: the weights stay as they were".to_owned(),
        }
    }

    /// The shares that were asked for, over the relays that are there. Measurements do not change them.
    fn by_ratio(&self, asked: &[RelayWeight]) -> Decision {
        let scores: Vec<u128> = self
            .candidates
            .iter()
            .map(|candidate| {
                asked
                    .iter()
                    .find(|entry| entry.relay == candidate.figures.relay)
                    .map_or(0, |entry| entry.weight.into())
            })
            .collect();
        let weights = weights::apportion(&scores, WEIGHT_SUM);
        let mut order = self.contenders.to_vec();
        order.sort_by_key(|&index| std::cmp::Reverse(self.scored[index].parts.total_score));
        let is_anybody_there = weights.iter().any(|weight| *weight > 0);
        Decision {
            verdict: if is_anybody_there { AdviceKind::Advised } else { AdviceKind::NoRelay },
            weights,
            reasons: vec![String::new(); self.candidates.len()],
            order: self.with_the_others(order),
            reason: if is_anybody_there {
                "the ratio of the policy, over the relays that are there".to_owned()
            } else {
                "none of the relays of the ratio is there".to_owned()
            },
        }
    }

    /// The order of all relays: `order`, then those not in it, by their state and how well they deliver.
    fn with_the_others(&self, mut order: Vec<usize>) -> Vec<usize> {
        let mut others: Vec<usize> =
            (0..self.candidates.len()).filter(|index| !order.contains(index)).collect();
        others.sort_by_key(|&index| {
            let delivered = self.scored[index].parts.success_basis_points;
            (self.candidates[index].standing, std::cmp::Reverse(delivered))
        });
        order.append(&mut others);
        order
    }

    fn write(&self, objective: &PolicyObjective, decision: Decision) -> Advice {
        let figures = || self.candidates.iter().map(|candidate| candidate.figures);
        let is_empty = self.candidates.is_empty();
        Advice {
            objective: objective.word().to_owned(),
            verdict: if is_empty { AdviceKind::NoRelay } else { decision.verdict },
            entries: (0..self.candidates.len()).map(|index| self.entry(index, &decision)).collect(),
            order: decision.order.iter().map(|&index| self.candidates[index].figures.relay.clone()).collect(),
            reason: if is_empty { "there is no relay".to_owned() } else { decision.reason },
            measured_from: figures().map(|figures| figures.from).min(),
            measured_at: figures().map(|figures| figures.until).max(),
        }
    }

    fn entry(&self, index: usize, decision: &Decision) -> AdviceEntry {
        let Candidate { figures, standing, .. } = &self.candidates[index];
        let weight = decision.weights[index];
        let mut reasons = vec![number_format::measured(figures)];
        reasons.extend(self.standing_in_words(index));
        reasons.extend(Some(decision.reasons[index].clone()).filter(|reason| !reason.is_empty()));
        let is_contender = self.contenders.contains(&index);
        let role = match standing {
            RelayStanding::Tripped | RelayStanding::Failing => Role::LeftOut,
            RelayStanding::Unmeasured | RelayStanding::Probing if !is_contender && weight > 0 => {
                Role::Measuring
            }
            RelayStanding::Measured | RelayStanding::Unmeasured | RelayStanding::Probing if weight > 0 => {
                Role::Carrying
            }
            RelayStanding::Measured | RelayStanding::Unmeasured | RelayStanding::Probing => Role::StandingBy,
        };
        AdviceEntry {
            relay: figures.relay.clone(),
            weight_basis_points: weight,
            role,
            standing: *standing,
            score: self.scored[index].parts,
            sample: figures.judged(),
            reasons,
        }
    }

    fn standing_in_words(&self, index: usize) -> Option<String> {
        let figures = self.candidates[index].figures;
        match self.candidates[index].standing {
            RelayStanding::Measured => None,
            RelayStanding::Unmeasured => Some(format!(
                "{} of the {} outcomes that it takes to judge it",
                number_format::count(
                    figures.delivery_ms.map_or(figures.judged(), |time| time.samples.min(figures.judged()))
                ),
                number_format::count(self.settings.sample_min)
            )),
            RelayStanding::Probing => Some("its circuit breaker is probing it".to_owned()),
            RelayStanding::Failing => Some(format!(
                "it delivers too little: {} expected",
                number_format::percent(self.scored[index].parts.success_basis_points.into())
            )),
            RelayStanding::Tripped => Some("its circuit breaker is tripped".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
