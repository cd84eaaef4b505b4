//! From scores to weights, and when new weights replace old ones.
//!
//! Weights are whole steps (1 % by default) and sum to exactly 10,000 basis points: what is left after rounding down
//! goes to the largest remainders. Scores are integers, so the same scores always give the same weights.

use super::relay_figures::{Candidate, RelayStanding};
use super::{Advice, AdviceKind, AdviceSettings, Role, number_format};
use crate::policy::{RelayWeight, WEIGHT_SUM};
use crate::slug::RelayId;

/// Deals `units` out in proportion to the scores: rounded down, the rest to the largest remainders, ties to the first.
///
/// All zero if no score is above zero. Scores sum to less than 2^112.
pub(super) fn apportion(scores: &[u128], units: u32) -> Vec<u32> {
    let total: u128 = scores.iter().sum();
    if total == 0 {
        return vec![0; scores.len()];
    }
    let exact = |score: u128| score * u128::from(units);
    let mut dealt: Vec<u32> = scores.iter().map(|score| (exact(*score) / total) as u32).collect();
    let left = units - dealt.iter().sum::<u32>();
    let mut by_remainder: Vec<usize> = (0..scores.len()).collect();
    by_remainder.sort_by_key(|&index| std::cmp::Reverse(exact(scores[index]) % total));
    for index in by_remainder.into_iter().take(left as usize) {
        dealt[index] += 1;
    }
    dealt
}

/// The step of weights: the one set, where it divides the whole.
fn step(settings: &AdviceSettings) -> u32 {
    match settings.step_basis_points {
        step if step > 0 && WEIGHT_SUM.is_multiple_of(step) => step,
        _ => 100,
    }
}

/// Weights of all candidates: small shares for those that are yet to be measured, the rest by score.
///
/// A contender has a score above zero; the measuring shares together stay below half.
pub(super) fn assign(
    candidates: &[Candidate<'_>],
    contenders: &[usize],
    scores: &[u128],
    settings: &AdviceSettings,
) -> Vec<u32> {
    let step = step(settings);
    let measuring: Vec<usize> =
        (0..candidates.len()).filter(|index| is_measuring(candidates, contenders, *index)).collect();
    let budget =
        settings.measuring_total_max_basis_points.min(WEIGHT_SUM / 2 - step.min(WEIGHT_SUM / 2)) / step;
    let share = (settings.measuring_share_basis_points / step).max(1);
    let share = if measuring.is_empty() { 0 } else { share.min(budget / measuring.len() as u32).max(1) };
    let mut units = vec![0; candidates.len()];
    let mut given = 0;
    for index in measuring {
        if given + share <= budget {
            units[index] = share;
            given += share;
        }
    }
    let by_score = apportion(scores, WEIGHT_SUM / step - given);
    units.iter().zip(by_score).map(|(measuring, merit)| (measuring + merit) * step).collect()
}

/// Whether a relay gets a share only so that it is measured.
pub(super) fn is_measuring(candidates: &[Candidate<'_>], contenders: &[usize], index: usize) -> bool {
    !contenders.contains(&index)
        && matches!(candidates[index].standing, RelayStanding::Unmeasured | RelayStanding::Probing)
}

/// The previous weights, for relays that are still there. Relays that were never measured still get their small
/// share, or nobody would ever learn about a better one. Equal shares if there were no weights.
pub(super) fn kept(
    candidates: &[Candidate<'_>],
    previous: &[RelayWeight],
    settings: &AdviceSettings,
) -> Vec<u32> {
    let before: Vec<u128> =
        candidates.iter().map(|candidate| weight_of(previous, &candidate.figures.relay).into()).collect();
    if before.iter().all(|weight| *weight == 0) {
        return apportion(&vec![1; candidates.len()], WEIGHT_SUM);
    }
    let before = apportion(&before, WEIGHT_SUM);
    let share = (settings.measuring_share_basis_points / step(settings)).max(1) * step(settings);
    let mut budget = settings.measuring_total_max_basis_points.min(WEIGHT_SUM / 2);
    let mut weights = vec![0; candidates.len()];
    let mut rest = vec![0_u128; candidates.len()];
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.standing == RelayStanding::Unmeasured && before[index] < share && share <= budget {
            weights[index] = share;
            budget -= share;
        } else {
            rest[index] = before[index].into();
        }
    }
    if rest.iter().all(|weight| *weight == 0) {
        return before;
    }
    let given: u32 = weights.iter().sum();
    weights.iter().zip(apportion(&rest, WEIGHT_SUM - given)).map(|(share, kept)| share + kept).collect()
}

fn weight_of(weights: &[RelayWeight], relay: &RelayId) -> u32 {
    weights.iter().find(|entry| entry.relay == *relay).map_or(0, |entry| entry.weight)
}

/// Whether `advice` is different enough to replace the weights in use, and why. Small moves are not: weights that
/// follow every figure flap, and each change starts the split over.
///
/// It replaces them if the set of relays changed, if a relay that now looks bad still has a share, if a relay that
/// must be measured has none, or if a share moves by `change_min_basis_points` or more.
pub fn should_replace(
    previous: &[RelayWeight],
    advice: &Advice,
    settings: &AdviceSettings,
) -> Option<String> {
    if advice.verdict == AdviceKind::NoRelay {
        return None;
    }
    if previous.is_empty() {
        return Some("there were no weights before".to_owned());
    }
    if let Some(entry) =
        advice.entries.iter().find(|entry| !previous.iter().any(|old| old.relay == entry.relay))
    {
        return Some(format!("{} is new", entry.relay));
    }
    if let Some(old) =
        previous.iter().find(|old| !advice.entries.iter().any(|entry| entry.relay == old.relay))
    {
        return Some(format!("{} is no longer there", old.relay));
    }
    for entry in &advice.entries {
        let (old, new) = (weight_of(previous, &entry.relay), entry.weight_basis_points);
        if entry.role == Role::LeftOut && old > 0 && new == 0 {
            return Some(format!("{} had {} and now looks bad", entry.relay, number_format::share(old)));
        }
        if entry.role == Role::Measuring && old == 0 && new > 0 {
            return Some(format!("{} is to be measured", entry.relay));
        }
    }
    let moved = advice
        .entries
        .iter()
        .map(|entry| (entry, weight_of(previous, &entry.relay)))
        .max_by_key(|(entry, old)| entry.weight_basis_points.abs_diff(*old))?;
    let (entry, old) = moved;
    if entry.weight_basis_points.abs_diff(old) < settings.change_min_basis_points.max(1) {
        return None;
    }
    Some(format!(
        "the share of {} moves from {} to {}",
        entry.relay,
        number_format::share(old),
        number_format::share(entry.weight_basis_points)
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::advise;
    use super::super::samples::{figures, settings};
    use super::*;
    use crate::policy::PolicyObjective;

    fn weights(pairs: &[(&str, u32)]) -> Vec<RelayWeight> {
        pairs
            .iter()
            .map(|(relay, weight)| RelayWeight { relay: RelayId::parse(relay).unwrap(), weight: *weight })
            .collect()
    }

    #[test]
    fn the_rest_goes_to_the_largest_remainders() {
        assert_eq!(apportion(&[1, 1, 1], 100), [34, 33, 33]);
        assert_eq!(apportion(&[50, 30, 20], 7), [4, 2, 1]);
        assert_eq!(apportion(&[0, 0], 100), [0, 0]);
    }

    #[test]
    fn small_moves_replace_nothing_and_large_ones_do() {
        let relays = [figures("alpha").sent(1_000, 990).build(), figures("beta").sent(1_000, 990).build()];
        let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
        assert_eq!(advice.weights(), weights(&[("alpha", 5_000), ("beta", 5_000)]));
        let reason = |previous: &[(&str, u32)]| should_replace(&weights(previous), &advice, &settings());
        assert_eq!(reason(&[("alpha", 5_400), ("beta", 4_600)]), None);
        assert_eq!(
            reason(&[("alpha", 5_500), ("beta", 4_500)]).unwrap(),
            "the share of beta moves from 45 % to 50 %"
        );
        assert_eq!(reason(&[("alpha", 10_000)]).unwrap(), "beta is new");
        assert_eq!(
            reason(&[("alpha", 5_000), ("beta", 4_900), ("gamma", 100)]).unwrap(),
            "gamma is no longer there"
        );
        assert_eq!(reason(&[]).unwrap(), "there were no weights before");
    }

    #[test]
    fn a_relay_that_turns_bad_is_left_out_however_small_its_share() {
        let relays = [figures("alpha").sent(1_000, 990).build(), figures("beta").sent(1_000, 600).build()];
        let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
        let before = weights(&[("alpha", 9_800), ("beta", 200)]);
        assert_eq!(should_replace(&before, &advice, &settings()).unwrap(), "beta had 2 % and now looks bad");
    }

    #[test]
    fn a_relay_to_be_measured_gets_its_share_back() {
        let relays = [figures("alpha").sent(1_000, 990).build(), figures("beta").build()];
        let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
        let before = weights(&[("alpha", 10_000), ("beta", 0)]);
        assert_eq!(should_replace(&before, &advice, &settings()).unwrap(), "beta is to be measured");
        assert_eq!(should_replace(&advice.weights(), &advice, &settings()), None);
    }

    #[test]
    fn the_measuring_shares_together_stay_below_half_whatever_is_set() {
        let settings = AdviceSettings {
            measuring_total_max_basis_points: 10_000,
            measuring_share_basis_points: 10_000,
            ..settings()
        };
        let relays = [figures("alpha").sent(1_000, 990).build(), figures("new").build()];
        let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings);
        assert_eq!(advice.weights(), weights(&[("alpha", 5_100), ("new", 4_900)]));
    }

    #[test]
    fn what_is_kept_is_at_least_half_whatever_is_to_be_measured() {
        let settings = AdviceSettings {
            measuring_total_max_basis_points: 10_000,
            measuring_share_basis_points: 3_000,
            ..settings()
        };
        let relays =
            [figures("bad").sent(1_000, 300).build(), figures("new-1").build(), figures("new-2").build()];
        let before = weights(&[("bad", 10_000), ("new-1", 0), ("new-2", 0)]);
        let advice = advise(&PolicyObjective::Recommended, &relays, &before, &settings);
        assert_eq!(advice.verdict, AdviceKind::KeptPrevious);
        assert_eq!(advice.weights(), weights(&[("bad", 7_000), ("new-1", 3_000), ("new-2", 0)]));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_dealing_out(
            scores in prop::collection::vec(0_u128..=1_000_000_000_000_000_000_000_000, 1..40),
            units in 1_u32..=10_000,
        ) {
            let dealt = apportion(&scores, units);
            let total: u128 = scores.iter().sum();
            prop_assert_eq!(dealt.iter().sum::<u32>(), if total == 0 { 0 } else { units });
            for (score, got) in scores.iter().zip(&dealt) {
                let exact = score * u128::from(units);
                prop_assert!((u128::from(*got) * total).abs_diff(exact) < total.max(1));
            }
        }
    }
}
