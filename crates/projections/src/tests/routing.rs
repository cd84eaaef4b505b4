//! Relays, policies, splits, figures.

use chrono::TimeDelta;
use kite_domain::address::PhoneKind;
use kite_domain::event::Event;
use kite_domain::ids::LotId;
use kite_domain::lot::{MessagesRouted, SplitRecord};
use kite_domain::policy::{FailoverTerms, PolicyDefined, PolicyObjective, RelayWeight, WeightsAdvised};
use kite_domain::relay::{
    BillingMoment, BreakerPhase, ChannelTerms, Endpoint, ReceiptMode, RelayBreakerChanged, RelayCredentials,
    RelayDefined, RelayProfile, RelaySuspended, RelayTls, RelayUnattended, UnattendedCause,
};
use kite_domain::sending::MessageClass;
use kite_domain::split::{Carry, WeightedRelays};
use kite_domain::text::MessageType;
use std::collections::BTreeMap;

use super::delivery::{answered, receipts, submitted};
use super::{Bench, at, relay, route, seqs, tenant};

fn defined(name: &str) -> Event {
    let terms =
        ChannelTerms { price_milliwon: 9_000, bills: BillingMoment::Delivered, receipt_deadline_s: 90_000 };
    let profile = RelayProfile {
        relay: relay(name),
        name: name.to_uppercase(),
        endpoint: Endpoint::Http { base_url: "http://localhost:1".to_owned() },
        channels: BTreeMap::from([(MessageType::Sms, terms)]),
        reaches: vec![PhoneKind::KoreanMobile],
        batch_max: 100,
        rate_parts_per_second: None,
        calls_in_flight_max: 4,
        answer_timeout_ms: 5_000,
        deduplicates: true,
        answers_status: true,
        receipts: ReceiptMode::Push,
        codes: "solapi".into(),
        tls: RelayTls::default(),
        credentials: RelayCredentials {
            api_key: Some("secret-key".to_owned()),
            ..RelayCredentials::default()
        },
    };
    RelayDefined { profile }.into()
}

#[test]
fn relays_are_shown_as_they_stand_and_never_with_credentials() {
    let mut bench = Bench::new();
    bench.append("relay-alpha", at(0), vec![defined("alpha")]);
    let suspended = RelaySuspended { relay: relay("alpha"), reason: "contract".to_owned() };
    let tripped = RelayBreakerChanged {
        relay: relay("alpha"),
        from: BreakerPhase::Passing,
        to: BreakerPhase::Tripped,
        reason: "12 of 20 failed".to_owned(),
        until: Some(at(60_000)),
    };
    let left = RelayUnattended {
        relay: relay("alpha"),
        cause: UnattendedCause::WorkersGone,
        reason: "panicked".to_owned(),
        since: at(1),
    };
    bench.append("relay-alpha", at(5), vec![suspended.into(), tripped.into(), left.clone().into()]);
    bench.project();
    let view = bench.models.routing.relay(&relay("alpha")).unwrap().unwrap();
    assert_eq!((view.suspended.as_deref(), view.breaker), (Some("contract"), BreakerPhase::Tripped));
    assert_eq!((view.breaker_since, view.breaker_until), (Some(at(5)), Some(at(60_000))));
    assert_eq!(view.unattended, Some(left));
    assert_eq!(view.profile.credentials, RelayCredentials::default());
    if bench.has_files() {
        let bytes = std::fs::read(bench.path().join("routing.db-wal")).unwrap();
        assert!(!bytes.windows(10).any(|window| window == b"secret-key"), "not even in the file");
    }
    assert_eq!(bench.models.routing.relays().unwrap().len(), 1);
}

#[test]
fn policies_keep_their_versions_and_their_newest_advice() {
    let mut bench = Bench::new();
    let policy = |version: u32, objective: PolicyObjective| -> Event {
        PolicyDefined {
            tenant: tenant(),
            channel: MessageType::Sms,
            version,
            objective,
            failover: FailoverTerms::default(),
        }
        .into()
    };
    let ratio =
        PolicyObjective::Ratio { weights: vec![RelayWeight { relay: relay("alpha"), weight: 10_000 }] };
    let advised = |advice: u32| -> Event {
        WeightsAdvised {
            tenant: tenant(),
            channel: MessageType::Sms,
            version: 2,
            advice,
            weights: vec![RelayWeight { relay: relay("beta"), weight: 10_000 }],
            order: vec![relay("alpha")],
            reasons: vec![format!("advice {advice}")],
        }
        .into()
    };
    let events = vec![policy(1, ratio.clone()), policy(2, PolicyObjective::Price), advised(1), advised(2)];
    bench.append("policy-acme-sms", at(3), events);
    bench.project();
    let routing = &bench.models.routing;
    let newest = routing.policy(&tenant(), MessageType::Sms, None).unwrap().unwrap();
    assert_eq!((newest.version, newest.objective.clone()), (2, PolicyObjective::Price));
    assert_eq!((newest.defined_at, newest.actor.as_str()), (at(3), "test"));
    assert_eq!(newest.advice.as_ref().unwrap().reasons, ["advice 2"]);
    let first = routing.policy(&tenant(), MessageType::Sms, Some(1)).unwrap().unwrap();
    assert_eq!((first.objective, first.advice), (ratio, None));
    assert_eq!(routing.policies(&tenant()).unwrap(), [newest]);
    let versions = routing.policy_versions(&tenant(), MessageType::Sms).unwrap();
    assert_eq!(versions.iter().map(|policy| policy.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(routing.advice_history(&tenant(), MessageType::Sms, 9).unwrap().len(), 2);
    assert_eq!(routing.policy(&tenant(), MessageType::Email, None).unwrap(), None);
}

#[test]
fn splits_show_planned_against_routed_and_carry_on() {
    let mut bench = Bench::new();
    let weights = WeightedRelays::new(vec![(relay("alpha"), 7_000), (relay("beta"), 3_000)]).unwrap();
    let mut carry = Carry::new(&weights);
    let mut seq = 0;
    for lot in 0..3 {
        let taken = carry.take(&weights, 5).unwrap();
        let messages = |index: u16| {
            let places = taken.iter().enumerate().filter(|(_, one)| **one == index);
            seqs(places.map(|(place, _)| seq + place as u32))
        };
        let routes = vec![route("alpha", 1, messages(0)), route("beta", 1, messages(1))];
        let split = SplitRecord {
            key: "acme-sms-1|alpha:7000,beta:3000".into(),
            channel: MessageType::Sms,
            version: 1,
            objective: "ratio".into(),
            weights: weights
                .entries()
                .iter()
                .map(|(relay, weight)| RelayWeight { relay: relay.clone(), weight: *weight })
                .collect(),
            messages: 5,
            carry: carry.clone(),
            left_out: vec![],
        };
        let event = MessagesRouted { routes, splits: vec![split] };
        bench.append(&format!("lot-{}-{lot}", super::sending_id(1)), at(lot), vec![event.into()]);
        seq += 5;
    }
    bench.project();
    let splits = bench.models.routing.splits(Some("acme-sms-1")).unwrap();
    assert_eq!((splits.len(), splits[0].messages, splits[0].updated_at), (1, 15, at(2)));
    for share in &splits[0].relays {
        assert!((share.planned - share.routed as f64).abs() < 1.0, "{share:?}");
    }
    assert_eq!(splits[0].relays.iter().map(|share| share.routed).sum::<u64>(), 15);
    assert!(bench.models.routing.splits(Some("other")).unwrap().is_empty());
    let (position, _, carries) = bench.models.routing.carries(None).unwrap();
    assert_eq!((position, &carries), (3, &vec![("acme-sms-1|alpha:7000,beta:3000".into(), carry)]));
    let of = |policies: &[&str]| {
        let policies: Vec<_> = policies.iter().map(|policy| (*policy).into()).collect();
        bench.models.routing.carries_of(&policies).unwrap()
    };
    assert_eq!(of(&["acme-lms-1", "acme-sms-1"]), carries);
    assert_eq!(of(&["acme-sms", "acme-sms-2", "acme-sms-1-0"]), []);
}

/// No two relays and no two channels have the same.
#[test]
fn figures_have_the_present_price_and_billing_of_their_own_relay_and_channel() {
    let mut bench = Bench::new();
    let terms = |price_milliwon, bills| ChannelTerms { price_milliwon, bills, receipt_deadline_s: 90_000 };
    let mut define = |name: &str, sms: ChannelTerms, email: ChannelTerms| {
        let Event::RelayDefined(mut defined) = defined(name) else { panic!("{name}") };
        defined.profile.channels = BTreeMap::from([(MessageType::Sms, sms), (MessageType::Email, email)]);
        bench.append(&format!("relay-{name}"), at(0), vec![defined.into()]);
    };
    let (taken, delivered) = (BillingMoment::Accepted, BillingMoment::Delivered);
    define("alpha", terms(1, delivered), terms(2, delivered));
    define("alpha", terms(7_000, taken), terms(501, delivered));
    define("beta", terms(8_000, delivered), terms(502, taken));
    bench.project();
    let figures = |channel: MessageType| {
        let window = TimeDelta::hours(1);
        let figures = bench.models.routing.figures(&[channel].into(), window, at(1_000)).unwrap();
        let of = figures.into_iter().map(|one| (one.relay.to_string(), one.price_milliwon, one.bills));
        of.collect::<Vec<_>>()
    };
    let (alpha, beta) = ("alpha".to_owned(), "beta".to_owned());
    let sms = [(alpha.clone(), 7_000, taken), (beta.clone(), 8_000, delivered)];
    assert_eq!(figures(MessageType::Sms), sms);
    assert_eq!(figures(MessageType::Email), [(alpha, 501, delivered), (beta, 502, taken)]);
}

#[test]
fn figures_judge_old_minutes_in_full_and_leave_out_what_is_on_its_way() {
    let mut bench = Bench::new();
    bench.append("relay-alpha", at(0), vec![defined("alpha")]);
    bench.append("relay-beta", at(0), vec![defined("beta")]);
    let id = bench.accept(1, 10, MessageClass::Notice);
    let stream = LotId { sending: id, number: 0 }.stream();
    let routes = vec![route("alpha", 1, seqs(0..10))];
    bench.append(&stream, at(10), vec![MessagesRouted { routes, splits: vec![] }.into()]);
    bench.append(&stream, at(20), vec![submitted("alpha", 1, seqs(0..10), 20)]);
    bench.append(&stream, at(40), vec![answered("alpha", 1, (0..9).collect(), vec![9])]);
    bench.append(&stream, at(520), vec![receipts("alpha", 1, (0..6).collect(), 520)]);
    bench.project();
    let figures = |now: i64| {
        let window = TimeDelta::hours(1);
        bench.models.routing.figures(&[MessageType::Sms].into(), window, at(now)).unwrap()
    };
    let young = figures(1_000);
    assert_eq!(
        (young.len(), young[0].attempts, young[0].delivered),
        (2, 0, 0),
        "three are still on their way"
    );
    let old = figures(200_000);
    let alpha = &old[0];
    assert_eq!((alpha.attempts, alpha.answered, alpha.accepted), (10, 10, 9));
    assert_eq!((alpha.delivered, alpha.overdue, alpha.refused_relay_fault), (6, 3, 1));
    assert_eq!(alpha.hand_over_ms.unwrap().p50_ms, 20);
    assert!(alpha.delivery_ms.unwrap().p99_ms.abs_diff(500) <= 8, "{alpha:?}");
    assert_eq!((old[1].attempts, old[1].price_milliwon), (0, 9_000), "a relay without data is there too");
    assert!(
        bench
            .models
            .routing
            .figures(&[MessageType::Email].into(), TimeDelta::hours(1), at(0))
            .unwrap()
            .is_empty()
    );
}
