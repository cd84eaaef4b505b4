use proptest::prelude::*;

use super::samples::{Sample, figures, settings, shares};
use super::*;
use crate::relay::BreakerPhase;

fn weight(relay: &str, weight: u32) -> RelayWeight {
    RelayWeight { relay: RelayId::parse(relay).unwrap(), weight }
}

fn order(advice: &Advice) -> Vec<&str> {
    advice.order.iter().map(RelayId::as_str).collect()
}

#[test]
fn a_ratio_is_given_as_asked_whatever_was_measured() {
    let relays = [
        figures("alpha").sent(1_000, 100).build(),
        figures("beta").sent(1_000, 990).build(),
        figures("gamma").build(),
    ];
    let ratio = PolicyObjective::Ratio { weights: vec![weight("alpha", 6_667), weight("beta", 3_333)] };
    let advice = advise(&ratio, &relays, &[], &settings());
    assert_eq!(shares(&advice), [("alpha", 6_667), ("beta", 3_333), ("gamma", 0)]);
    assert_eq!(order(&advice), ["beta", "gamma", "alpha"]);
    let alone = advise(&ratio, &relays[1..], &[], &settings());
    assert_eq!(shares(&alone), [("beta", 10_000), ("gamma", 0)]);
    let nobody = advise(&ratio, &relays[2..], &[], &settings());
    assert_eq!((nobody.verdict, shares(&nobody)), (AdviceKind::NoRelay, vec![("gamma", 0)]));
}

#[test]
fn if_every_relay_looks_bad_nothing_changes() {
    let relays = [figures("alpha").sent(1_000, 300).build(), figures("beta").sent(1_000, 200).build()];
    let previous = [weight("alpha", 7_000), weight("beta", 3_000)];
    for objective in [PolicyObjective::Price, PolicyObjective::Speed, PolicyObjective::Recommended] {
        let advice = advise(&objective, &relays, &previous, &settings());
        assert_eq!(advice.verdict, AdviceKind::KeptPrevious);
        assert_eq!(advice.weights(), previous);
        assert_eq!(should_replace(&previous, &advice, &settings()), None);
        assert_eq!(advice.reason, "every relay that can be judged looks bad: the weights stay as they were");
        let fresh = advise(&objective, &relays, &[], &settings());
        assert_eq!(shares(&fresh), [("alpha", 5_000), ("beta", 5_000)]);
    }
}

#[test]
fn if_every_judged_relay_looks_bad_an_unmeasured_one_is_measured() {
    let relays = [figures("alpha").sent(1_000, 300).build(), figures("new").build()];
    let previous = [weight("alpha", 10_000), weight("new", 0)];
    let advice = advise(&PolicyObjective::Recommended, &relays, &previous, &settings());
    assert_eq!(shares(&advice), [("alpha", 9_800), ("new", 200)]);
    assert_eq!(should_replace(&previous, &advice, &settings()).unwrap(), "new is to be measured");
    let again = advise(&PolicyObjective::Recommended, &relays, &advice.weights(), &settings());
    assert_eq!(again.weights(), advice.weights());
}

#[test]
fn a_tripped_relay_gets_nothing_and_a_probed_one_little() {
    let relays = [
        figures("alpha").sent(1_000, 990).breaker(BreakerPhase::Tripped).build(),
        figures("beta").sent(1_000, 990).price(20_000).build(),
        figures("gamma").sent(1_000, 990).breaker(BreakerPhase::Probing).build(),
    ];
    let advice = advise(&PolicyObjective::Price, &relays, &[], &settings());
    assert_eq!(shares(&advice), [("alpha", 0), ("beta", 9_800), ("gamma", 200)]);
    assert_eq!(order(&advice), ["beta", "gamma", "alpha"]);
    assert_eq!(
        advice.entries.iter().map(|entry| entry.role).collect::<Vec<_>>(),
        [Role::LeftOut, Role::Carrying, Role::Measuring]
    );
}

#[test]
fn while_nobody_is_measured_all_carry_alike_whatever_their_price() {
    let relays = [figures("cheap").price(1_000).build(), figures("dear").price(90_000).build()];
    for objective in [PolicyObjective::Speed, PolicyObjective::Recommended] {
        let advice = advise(&objective, &relays, &[], &settings());
        assert_eq!(shares(&advice), [("cheap", 5_000), ("dear", 5_000)], "{objective:?}");
        assert!(advice.entries.iter().all(|entry| entry.role == Role::Carrying), "{objective:?}");
        assert_eq!(advice.entries[0].reasons.last().unwrap(), "an even share until enough is measured");
    }
}

#[test]
fn who_is_not_measured_and_gets_nothing_stands_by() {
    let relays = [figures("alpha").build(), figures("beta").breaker(BreakerPhase::Probing).build()];
    let ratio = PolicyObjective::Ratio { weights: vec![weight("alpha", 10_000)] };
    let advice = advise(&ratio, &relays, &[], &settings());
    let roles: Vec<_> = advice.entries.iter().map(|entry| entry.role).collect();
    assert_eq!(roles, [Role::Carrying, Role::StandingBy]);
}

#[test]
fn many_unmeasured_relays_together_stay_within_their_limit() {
    let mut relays = vec![figures("alpha").sent(1_000, 990).build()];
    relays.extend((10..40).map(|number| figures(&format!("new-{number}")).build()));
    let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
    assert_eq!(shares(&advice)[0], ("alpha", 9_000));
    assert_eq!(shares(&advice)[1..].iter().map(|(_, share)| share).sum::<u32>(), 1_000);
}

#[test]
fn without_relays_there_is_no_advice() {
    let advice = advise(&PolicyObjective::Price, &[], &[weight("alpha", 10_000)], &settings());
    assert_eq!((advice.verdict, advice.entries.len(), advice.measured_at), (AdviceKind::NoRelay, 0, None));
    assert_eq!(should_replace(&[weight("alpha", 10_000)], &advice, &settings()), None);
}

#[test]
fn advice_survives_its_stored_form() {
    let relays = [figures("alpha").sent(4_120, 4_075).build(), figures("beta").build()];
    let advice = advise(&PolicyObjective::Recommended, &relays, &[], &settings());
    let stored = serde_json::to_string(&advice).unwrap();
    assert!(!stored.contains('.') || stored.contains("98.9 %"), "numbers are integers: {stored}");
    assert_eq!(serde_json::from_str::<Advice>(&stored).unwrap(), advice);
}

fn any_relays() -> impl Strategy<Value = Vec<RelayFigures>> {
    let relay = (0_u64..5_000, 0_u64..=100, 0_u64..500, 0_i64..30_000, 1_u64..20_000, 0_u8..8).prop_map(
        |(accepted, percent, refused, price, p50_ms, breaker)| {
            let breaker = match breaker {
                0 => BreakerPhase::Tripped,
                1 => BreakerPhase::Probing,
                _ => BreakerPhase::Passing,
            };
            let sample = |name: &str| -> Sample {
                figures(name)
                    .sent(accepted, accepted * percent / 100)
                    .refused(refused)
                    .price(price)
                    .times(p50_ms, p50_ms * 3)
                    .breaker(breaker)
            };
            sample("x").build()
        },
    );
    prop::collection::vec(relay, 1..10).prop_map(|mut relays| {
        for (number, relay) in relays.iter_mut().enumerate() {
            relay.relay = RelayId::parse(&format!("r{number}")).unwrap();
        }
        relays
    })
}

fn any_objective() -> impl Strategy<Value = PolicyObjective> {
    prop_oneof![
        Just(PolicyObjective::Price),
        Just(PolicyObjective::Speed),
        Just(PolicyObjective::Recommended)
    ]
}

proptest! {
    #[test]
    fn weights_are_whole_sum_to_all_and_never_bet_on_the_unmeasured(
        objective in any_objective(),
        relays in any_relays(),
    ) {
        let advice = advise(&objective, &relays, &[], &settings());
        prop_assert_eq!(shares(&advice).iter().map(|(_, share)| share).sum::<u32>(), WEIGHT_SUM);
        prop_assert_eq!(advice.order.len(), relays.len());
        let measured = advice.entries.iter().any(|entry| entry.standing == RelayStanding::Measured);
        for entry in &advice.entries {
            prop_assert!(!entry.reasons.is_empty());
            if advice.verdict == AdviceKind::Advised {
                prop_assert_eq!(entry.weight_basis_points % 100, 0);
                prop_assert!(entry.role != Role::LeftOut || entry.weight_basis_points == 0);
                if measured && entry.standing != RelayStanding::Measured {
                    prop_assert!(entry.weight_basis_points <= 200);
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_figures_does_not_matter(
        objective in any_objective(),
        relays in any_relays(),
        turn in 0_usize..10,
    ) {
        let advice = advise(&objective, &relays, &[], &settings());
        let mut turned = relays.clone();
        turned.rotate_left(turn % relays.len());
        turned.reverse();
        prop_assert_eq!(advise(&objective, &turned, &[], &settings()), advice);
    }

    #[test]
    fn advice_that_was_followed_is_not_replaced_by_itself(
        objective in any_objective(),
        relays in any_relays(),
    ) {
        let advice = advise(&objective, &relays, &[], &settings());
        let again = advise(&objective, &relays, &advice.weights(), &settings());
        prop_assert_eq!(should_replace(&advice.weights(), &again, &settings()), None);
    }
}
