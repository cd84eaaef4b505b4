//! Weights from live figures.

use chrono::Duration;
use kite_commands::Worker;
use kite_commands::adviser::Adviser;
use kite_domain::advice::{AdviceSettings, Percentiles, RelayFigures};
use kite_domain::event::Event;
use kite_domain::policy::{FailoverTerms, PolicyObjective, WeightsAdvised};
use kite_domain::relay::{BillingMoment, BreakerPhase};
use kite_domain::text::MessageType;

use crate::house::*;

fn figures(name: &str, price_milliwon: i64, delivered: u64) -> RelayFigures {
    let times = Percentiles { p50_ms: 500, p95_ms: 900, p99_ms: 1_200, samples: delivered };
    RelayFigures {
        relay: relay(name),
        channel: MessageType::Sms,
        from: noon() - Duration::minutes(15),
        until: noon(),
        price_milliwon,
        bills: BillingMoment::Delivered,
        attempts: 1_000,
        answered: 1_000,
        accepted: 1_000,
        refused_relay_fault: 0,
        delivered,
        undelivered: 1_000 - delivered,
        undelivered_relay_fault: 0,
        overdue: 0,
        delivery_ms: Some(times),
        hand_over_ms: Some(times),
        queue_depth: None,
        breaker: BreakerPhase::Passing,
    }
}

fn adviser(house: &House) -> Adviser {
    Adviser::new(
        house.journal.clone(),
        house.directory.clone(),
        house.manage.clone(),
        house.work.clone(),
        AdviceSettings::default(),
    )
}

async fn advice(house: &House) -> Vec<WeightsAdvised> {
    let events = house.events("weights-advised").await;
    let sms = events.into_iter().filter_map(|event| match event {
        Event::WeightsAdvised(advised) if advised.channel == MessageType::Sms => Some(advised),
        _ => None,
    });
    sms.collect()
}

fn with_share(advised: &WeightsAdvised) -> Vec<&str> {
    advised.weights.iter().filter(|entry| entry.weight > 0).map(|entry| entry.relay.as_str()).collect()
}

#[tokio::test]
async fn the_cheapest_is_advised_followed_and_replaced_when_it_changes() {
    let house = House::furnished().await;
    house
        .manage
        .define_policy(&cause(), &acme(), MessageType::Sms, PolicyObjective::Price, FailoverTerms::default())
        .await
        .unwrap();
    let prices = |alpha, beta, gamma| {
        vec![figures("alpha", alpha, 990), figures("beta", beta, 990), figures("gamma", gamma, 990)]
    };
    *house.work.figures.lock() = prices(9_000, 5_000, 9_000);
    let mut adviser = adviser(&house);
    adviser.step().await.unwrap();
    let first = advice(&house).await;
    assert_eq!(first.len(), 1);
    assert_eq!((with_share(&first[0]), first[0].weights.len()), (vec!["beta"], 3));
    assert!(!first[0].reasons.is_empty());
    house.advance(Duration::seconds(2));
    adviser.step().await.unwrap();
    assert_eq!(advice(&house).await.len(), 1, "nothing has changed");

    house.accept(notice(recipients(4))).await.unwrap();
    work_off(&mut house.router()).await;
    let log = house.log().await;
    assert!(first_routes(&log).iter().all(|(_, carrier)| *carrier == relay("beta")));
    split_is_exact(&log);

    *house.work.figures.lock() = prices(3_000, 5_000, 9_000);
    house.advance(Duration::seconds(2));
    adviser.step().await.unwrap();
    let second = advice(&house).await;
    assert_eq!((second.len(), second[1].advice, with_share(&second[1])), (2, 2, vec!["alpha"]));
}

/// It is stepped more often than it looks. A clock that was set back makes nobody wait.
#[tokio::test]
async fn the_figures_are_looked_at_every_two_seconds_and_for_each_channel_its_own() {
    let house = House::furnished().await;
    let price = PolicyObjective::Price;
    let failover = FailoverTerms::default();
    house.manage.define_policy(&cause(), &acme(), MessageType::Sms, price, failover).await.unwrap();
    let of_email =
        |name: &str, price| RelayFigures { channel: MessageType::Email, ..figures(name, price, 990) };
    *house.work.figures.lock() =
        vec![figures("alpha", 9_000, 990), figures("beta", 5_000, 990), of_email("alpha", 1)];
    let mut adviser = adviser(&house);
    let mut looks = Vec::new();
    for after_ms in [0, 1_000, 999, 1, 1_999, 1, -5_000, 1_000] {
        house.advance(Duration::milliseconds(after_ms));
        adviser.step().await.unwrap();
        looks.push(*house.work.figures_asked.lock());
    }
    assert_eq!(looks, [1, 1, 1, 2, 2, 3, 4, 4]);
    assert_eq!(with_share(&advice(&house).await[0]), ["beta"], "an e-mail's price says nothing of a text's");
}

/// Each has a directory of its own, and neither sees what the other writes until it reads on.
#[tokio::test]
async fn two_advisers_over_one_log_advise_once() {
    let house = House::furnished().await;
    let price = PolicyObjective::Price;
    house
        .manage
        .define_policy(&cause(), &acme(), MessageType::Sms, price, FailoverTerms::default())
        .await
        .unwrap();
    let other = house.restarted().await;
    let prices = |alpha, beta, gamma| {
        vec![figures("alpha", alpha, 990), figures("beta", beta, 990), figures("gamma", gamma, 990)]
    };
    let (mut one, mut rival) = (adviser(&house), adviser(&other));
    *house.work.figures.lock() = prices(9_000, 5_000, 9_000);
    *other.work.figures.lock() = prices(9_000, 5_000, 9_000);
    one.step().await.unwrap();
    rival.step().await.unwrap();
    assert_eq!(advice(&house).await.len(), 1, "what the other has advised is not advised again");
    assert!(
        other.directory.snapshot().policies[&(acme(), MessageType::Sms)].advised.is_some(),
        "it knows now"
    );
    house.advance(Duration::seconds(2));
    rival.step().await.unwrap();
    assert_eq!(advice(&house).await.len(), 1, "nor at its next look");

    *house.work.figures.lock() = prices(3_000, 5_000, 9_000);
    *other.work.figures.lock() = prices(3_000, 5_000, 9_000);
    house.advance(Duration::seconds(2));
    let (first, second) = tokio::join!(rival.step(), one.step());
    first.unwrap();
    second.unwrap();
    let advised = advice(&house).await;
    let numbers: Vec<u32> = advised.iter().map(|advised| advised.advice).collect();
    assert_eq!((numbers, with_share(&advised[1])), (vec![1, 2], vec!["alpha"]));
}

/// An adviser that was paused between its look and its word.
#[tokio::test]
async fn advice_on_a_policy_that_is_another_by_now_is_not_written() {
    let house = House::furnished().await;
    let price = PolicyObjective::Price;
    let define = async |objective| {
        let failover = FailoverTerms::default();
        house.manage.define_policy(&cause(), &acme(), MessageType::Sms, objective, failover).await.unwrap()
    };
    define(price).await;
    let paused = house.restarted().await;
    define(PolicyObjective::Speed).await;
    *paused.work.figures.lock() =
        vec![figures("alpha", 9_000, 990), figures("beta", 5_000, 990), figures("gamma", 9_000, 990)];
    adviser(&paused).step().await.unwrap();
    assert_eq!(advice(&house).await, []);
    adviser(&paused).step().await.unwrap();
    let advised = advice(&house).await;
    assert!(advised.iter().all(|advised| advised.version == 3), "only on the newest: {advised:?}");
}

#[tokio::test]
async fn a_ratio_is_never_overridden() {
    let house = House::furnished().await;
    *house.work.figures.lock() =
        vec![figures("alpha", 1, 0), figures("beta", 1, 1_000), figures("gamma", 1, 1_000)];
    adviser(&house).step().await.unwrap();
    assert_eq!(advice(&house).await, []);
}

#[tokio::test]
async fn until_there_is_advice_the_split_is_even() {
    let house = House::furnished().await;
    house
        .manage
        .define_policy(&cause(), &acme(), MessageType::Sms, PolicyObjective::Speed, FailoverTerms::default())
        .await
        .unwrap();
    house.accept(notice(recipients(9))).await.unwrap();
    work_off(&mut house.router()).await;
    let log = house.log().await;
    split_is_exact(&log);
    for name in ["alpha", "beta", "gamma"] {
        assert_eq!(first_routes(&log).iter().filter(|(_, carrier)| *carrier == relay(name)).count(), 3);
    }
}
