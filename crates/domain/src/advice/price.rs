//! The price objective: the least expected cost of a *delivered* message, failover included.
//!
//! The cheapest first relay takes everything, with its best order of fallbacks. Relays within one per cent of it share
//! with it: a difference that small is noise, and two relays are safer than one. Where nothing was measured yet the
//! listed prices decide.

use super::least::Least;
use super::relay_figures::Candidate;
use super::score::Scored;
use super::{AdviceSettings, Merits, number_format};

pub(super) fn merits(
    candidates: &[Candidate<'_>],
    contenders: &[usize],
    scored: &[Scored],
    settings: &AdviceSettings,
) -> Option<Merits> {
    Least {
        of: |scored| scored.parts.cost_per_delivered_milliwon.max(0).unsigned_abs(),
        said: |milliwon| number_format::won(i64::try_from(milliwon).unwrap_or(i64::MAX)),
        order: |scored| &scored.price_order,
        tie_basis_points: settings.price_tie_basis_points,
        verb: "costs",
        noun: "cost of",
        included: "failover",
    }
    .merits(candidates, contenders, scored)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{figures, settings, shares};
    use super::super::{Role, advise};
    use crate::policy::PolicyObjective;
    use crate::relay::BillingMoment;

    #[test]
    fn the_cheapest_takes_everything() {
        let relays = [
            figures("alpha").sent(4_120, 4_075).price(8_000).build(),
            figures("beta").sent(900, 890).price(9_500).build(),
        ];
        let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 10_000), ("beta", 0)]);
        assert_eq!(advice.entries[1].role, Role::StandingBy);
        let why = advice.entries[1].reasons.last().unwrap();
        assert!(why.ends_with("more than the 8.0 won of the best"), "{why}");
        assert_eq!(
            advice.reason,
            "alpha has the least expected cost of a delivered message, 8.0 won with failover \
             (98.9 % delivered of 4,120, 8.0 won, p95 2.0 s)"
        );
    }

    #[test]
    fn a_low_price_on_acceptance_loses_to_a_higher_one_on_delivery() {
        let relays = [
            figures("alpha").sent(5_000, 4_250).price(8_000).bills(BillingMoment::Accepted).build(),
            figures("beta").sent(5_000, 4_950).price(9_000).build(),
        ];
        let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 0), ("beta", 10_000)]);
    }

    #[test]
    fn failing_over_to_a_dear_relay_counts() {
        // Alpha is cheapest by itself, but every tenth message continues to a relay five times as dear.
        let relays = [
            figures("alpha").sent(4_500, 4_500).refused(500).price(8_000).build(),
            figures("beta").sent(5_000, 5_000).price(10_000).build(),
            figures("gamma").sent(5_000, 5_000).price(50_000).build(),
        ];
        let both = advise(&PolicyObjective::Price, &relays, &[], &settings());
        assert_eq!(shares(&both)[0], ("alpha", 10_000), "with beta to fall back on");
        let without_beta =
            [relays[0].clone(), relays[2].clone(), figures("delta").sent(5_000, 5_000).price(11_000).build()];
        let still = advise(&PolicyObjective::Price, &without_beta, &[], &settings());
        assert_eq!(
            still.order.iter().map(|relay| relay.as_str()).collect::<Vec<_>>(),
            ["alpha", "delta", "gamma"]
        );
        let only_dear = [relays[0].clone(), relays[2].clone()];
        let cost = |advice: &super::super::Advice| advice.entries[0].score.cost_per_delivered_milliwon;
        assert!(cost(&advise(&PolicyObjective::Price, &only_dear, &[], &settings())) > cost(&both) + 3_000);
    }

    #[test]
    fn prices_that_hardly_differ_share() {
        let relays = [
            figures("alpha").sent(50_000, 49_500).price(8_000).build(),
            figures("beta").sent(50_000, 49_500).price(8_050).build(),
            figures("gamma").sent(50_000, 49_500).price(8_200).build(),
        ];
        let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 5_000), ("beta", 5_000), ("gamma", 0)]);
    }

    #[test]
    fn a_cheap_relay_without_data_gets_a_small_share() {
        let relays =
            [figures("alpha").sent(900, 890).price(9_000).build(), figures("new").price(1_000).build()];
        let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 9_800), ("new", 200)]);
        assert_eq!(advice.entries[1].role, Role::Measuring);
    }

    #[test]
    fn the_listed_prices_decide_while_nothing_is_measured() {
        let relays = [figures("alpha").price(9_000).build(), figures("beta").price(8_000).build()];
        let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 0), ("beta", 10_000)]);
    }

    #[test]
    fn a_cheap_relay_that_loses_messages_is_left_out() {
        let relays = [
            figures("alpha").sent(1_000, 600).price(1_000).build(),
            figures("beta").sent(1_000, 985).price(9_000).build(),
        ];
        let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("alpha", 0), ("beta", 10_000)]);
        assert_eq!(advice.entries[0].role, Role::LeftOut);
    }
}
