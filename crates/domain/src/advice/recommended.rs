//! The recommended objective: success, price and speed weighed together, success most.
//!
//! Each part is compared with the best relay; shares are in proportion to a power of the total, so that a clearly
//! better relay gets clearly more and the others stay in use. Relays that are not yet measured get a small share.

use super::relay_figures::Candidate;
use super::score::{ScoreParts, Scored};
use super::{AdviceSettings, Merits, number_format};

/// The highest power of a score: with 256 relays of the highest score the sum stays far below what a share is computed
/// in.
const POWER_MAX: u32 = 6;

pub(super) fn merits(
    candidates: &[Candidate<'_>],
    contenders: &[usize],
    scored: &[Scored],
    settings: &AdviceSettings,
) -> Option<Merits> {
    let parts = |index: usize| &scored[index].parts;
    let mut order = contenders.to_vec();
    order.sort_by_key(|&index| std::cmp::Reverse(parts(index).total_score));
    let best = *order.first()?;
    let mut merits = Merits::none(candidates.len(), order);
    for &index in contenders {
        let score = parts(index).total_score.max(1);
        merits.scores[index] = u128::from(score).pow(settings.score_power.clamp(1, POWER_MAX));
        merits.reasons[index] = in_words(parts(index));
    }
    merits.summary = format!(
        "{} does best when success, price and speed are weighed {}:{}:{} ({})",
        candidates[best].figures.relay,
        settings.success_importance,
        settings.price_importance,
        settings.speed_importance,
        number_format::measured(candidates[best].figures),
    );
    Some(merits)
}

fn in_words(parts: &ScoreParts) -> String {
    format!(
        "score {} of the best possible: success {}, price {}, speed {}",
        number_format::percent(parts.total_score.into()),
        number_format::percent(parts.success_score.into()),
        number_format::percent(parts.price_score.into()),
        number_format::percent(parts.speed_score.into()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::advise;
    use super::super::samples::{figures, settings, shares};
    use crate::policy::PolicyObjective;

    #[test]
    fn the_best_in_everything_gets_most_and_the_others_stay_in_use() {
        let relays = [
            figures("alpha").sent(4_120, 4_075).price(8_000).times(900, 2_100).build(),
            figures("beta").sent(4_000, 3_800).price(9_000).times(1_500, 4_000).build(),
            figures("gamma").sent(4_000, 3_500).price(12_000).times(3_000, 9_000).build(),
        ];
        let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
        let given = shares(&advice);
        assert!(given[0].1 > given[1].1 && given[1].1 > given[2].1 && given[2].1 > 0, "{given:?}");
        assert_eq!(advice.entries[0].reasons[0], "98.9 % delivered of 4,120, 8.0 won, p95 2.1 s");
        assert!(advice.entries[0].reasons[1].starts_with("score 100.0 %"), "{:?}", advice.entries[0].reasons);
        assert!(advice.reason.starts_with("alpha does best"), "{}", advice.reason);
    }

    #[test]
    fn success_counts_more_than_price() {
        let relays = [
            figures("cheap").sent(5_000, 4_300).price(7_000).build(),
            figures("sound").sent(5_000, 4_950).price(9_000).build(),
        ];
        let given = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
        let given = shares(&given);
        assert!(given[1].1 > 2 * given[0].1, "{given:?}");
    }

    #[test]
    fn like_relays_share_alike() {
        let relays: Vec<_> =
            ["a", "b", "c", "d"].iter().map(|name| figures(name).sent(1_000, 980).build()).collect();
        let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
        assert!(shares(&advice).iter().all(|(_, share)| *share == 2_500));
    }

    #[test]
    fn twice_the_price_or_the_time_is_half_the_score() {
        let relays = [
            figures("cheap").sent(50_000, 50_000).price(8_000).times(2_000, 2_000).build(),
            figures("fast").sent(50_000, 50_000).price(16_000).times(1_000, 1_000).build(),
        ];
        let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
        let [cheap, fast] = [&advice.entries[0].score, &advice.entries[1].score];
        assert_eq!((cheap.price_score, fast.speed_score), (10_000, 10_000));
        assert!((4_950..5_050).contains(&fast.price_score), "{fast:?}");
        assert!((4_950..5_050).contains(&cheap.speed_score), "{cheap:?}");
    }
}
