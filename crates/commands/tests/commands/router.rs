//! First routes: exact over lots, sendings and tenants, in the right order, for the right sendings.

use chrono::Duration;
use kite_commands::journal::Told;
use kite_commands::router::Router;
use kite_commands::{Lots, Step, Worker};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::LotId;
use kite_domain::lot::{MessagesFinished, Outcome};
use kite_domain::relay::{BillingMoment, BreakerPhase, RelayBreakerChanged};
use kite_domain::sending::{MessageClass, PauseBy};
use kite_domain::text::MessageType;
use std::collections::{HashMap, HashSet};

use crate::faulty_store::everything;
use crate::house::*;
use crate::seals::put_of_tomorrow;

#[tokio::test]
async fn the_split_is_exact_over_many_sendings_of_many_tenants() {
    let house = House::furnished().await;
    house.move_in("other").await;
    house.define_policy("other", shares(&[("alpha", 3_334), ("beta", 3_333), ("gamma", 3_333)])).await;
    let mut router = house.router();
    let mut messages = 0;
    for round in 0..40 {
        let count = [1, 2, 3, 7, 1_003][round % 5];
        house.accept_of("acme", notice(recipients(count))).await;
        house.accept_of("other", notice(recipients(1))).await;
        messages += count as usize + 1;
        if round % 3 == 0 {
            work_off(&mut router).await;
        }
    }
    work_off(&mut router).await;
    let log = house.log().await;
    split_is_exact(&log);
    assert_eq!(first_routes(&log).len(), messages);
}

#[tokio::test]
async fn the_split_goes_on_where_it_stopped_when_sets_and_policies_change() {
    let house = House::furnished().await;
    let mut router = house.router();
    for round in 0..30 {
        match round {
            5 => drop(
                house.manage.suspend_relay(&cause(), &relay("beta"), "maintenance".to_owned()).await.unwrap(),
            ),
            9 => drop(house.manage.resume_relay(&cause(), &relay("beta")).await.unwrap()),
            12 => house.define_policy("acme", shares(&[("alpha", 1_000), ("gamma", 9_000)])).await,
            20 => {
                house
                    .define_policy("acme", shares(&[("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)]))
                    .await
            }
            _ => {}
        }
        house.accept(notice(recipients(1 + round % 4))).await.unwrap();
        work_off(&mut router).await;
    }
    let log = house.log().await;
    split_is_exact(&log);
    let keys: std::collections::HashSet<String> = log
        .iter()
        .filter_map(|told| if let Event::MessagesRouted(routed) = &told.event { Some(routed) } else { None })
        .flat_map(|routed| routed.splits.iter().map(|split| split.key.to_string()))
        .collect();
    assert_eq!(keys.len(), 4, "three versions, and one set without beta: {keys:?}");
}

#[tokio::test]
async fn a_router_keeps_no_place_in_splits_that_are_over() {
    let house = House::furnished().await;
    let mut router = house.router();
    let mut kept = Vec::new();
    for parts in 1..=6 {
        house
            .define_policy("acme", shares(&[("alpha", 1_000 * parts), ("gamma", 10_000 - 1_000 * parts)]))
            .await;
        house.accept(notice(recipients(3))).await.unwrap();
        work_off(&mut router).await;
        kept.push(router.splits_kept());
    }
    assert_eq!(kept, [1; 6]);
    split_is_exact(&house.log().await);
}

#[tokio::test]
async fn a_route_says_who_why_and_what_it_costs() {
    let house = House::furnished().await;
    house.accept(notice(recipients(10))).await.unwrap();
    work_off(&mut house.router()).await;
    let events = house.events("messages-routed").await;
    let [Event::MessagesRouted(routed)] = &events[..] else { panic!("{events:?}") };
    let alpha = &routed.routes[0];
    assert_eq!(alpha.reason, "ratio acme-sms-1: 5000 of 10000");
    assert_eq!(alpha.fallbacks, [relay("beta"), relay("gamma")]);
    assert_eq!(alpha.price_milliwon, 9_000);
    let told = house.log().await.pop().unwrap();
    assert_eq!(told.recorded.metadata.actor, "router");
}

/// Each relay has another price, and they do not all bill at the same moment.
#[tokio::test]
async fn first_and_later_attempts_have_the_price_and_the_billing_of_their_own_relay() {
    let house = House::furnished().await;
    let terms = [
        ("alpha", 7_000, BillingMoment::Accepted),
        ("beta", 8_000, BillingMoment::Delivered),
        ("gamma", 11_000, BillingMoment::Accepted),
    ];
    for (name, price_milliwon, bills) in terms {
        let mut profile = profile(name, &[(MessageType::Sms, price_milliwon), (MessageType::Lms, 27_000)]);
        profile.channels.get_mut(&MessageType::Sms).unwrap().bills = bills;
        house.manage.define_relay(&cause(), profile).await.unwrap();
    }
    let (sending, sets) = house.handed_over(10).await;
    for (relay, messages) in &sets {
        house.respond(sending, 0, relay.as_str(), 1, refused(messages, FailureClass::RelayFault)).await;
    }
    let mut seen = HashSet::new();
    for event in house.events("messages-routed").await {
        let Event::MessagesRouted(routed) = event else { continue };
        for route in routed.routes {
            let (name, price_milliwon, bills) =
                terms.into_iter().find(|one| one.0 == route.relay.as_str()).unwrap();
            assert_eq!((route.price_milliwon, route.bills), (price_milliwon, bills), "{name}");
            seen.insert((name, route.attempt));
        }
    }
    // The next after alpha is beta, and after the others it is alpha.
    let expected = [("alpha", 1), ("beta", 1), ("gamma", 1), ("alpha", 2), ("beta", 2)];
    assert_eq!(seen, HashSet::from(expected));
}

#[tokio::test]
async fn a_password_overtakes_advertisements() {
    let house = House::furnished().await;
    for _ in 0..5 {
        house.accept(ad(recipients(2_000))).await.unwrap();
    }
    let mut otp = notice(recipients(1));
    otp.class = MessageClass::Otp;
    let otp = house.accept(otp).await.unwrap().sending;
    let mut router = house.router();
    while first_routes(&house.log().await).is_empty() {
        router.step().await.unwrap();
    }
    assert_eq!(first_routes(&house.log().await)[0].0.sending, otp);
}

#[tokio::test]
async fn a_scheduled_sending_waits_until_it_is_released() {
    let house = House::furnished().await;
    let mut request = notice(recipients(2));
    request.scheduled_at = Some(noon() + Duration::hours(1));
    house.accept(request).await.unwrap();
    let (mut router, mut timekeeper) = (house.router(), house.timekeeper());
    work_off(&mut router).await;
    work_off(&mut timekeeper).await;
    assert_eq!(house.events("sending-released").await.len() + house.events("messages-routed").await.len(), 0);
    house.advance(Duration::hours(1));
    work_off(&mut timekeeper).await;
    work_off(&mut timekeeper).await;
    work_off(&mut router).await;
    assert_eq!(house.events("sending-released").await.len(), 1);
    assert_eq!(first_routes(&house.log().await).len(), 2);
}

#[tokio::test]
async fn a_cancelled_sending_is_not_routed() {
    let house = House::furnished().await;
    let mut request = notice(recipients(2));
    request.scheduled_at = Some(noon() + Duration::hours(1));
    let sending = house.accept(request).await.unwrap().sending;
    let outcome = house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
    assert_eq!((outcome.cancelled, outcome.in_flight, outcome.finished), (2, 0, 0));
    house.advance(Duration::hours(1));
    work_off(&mut house.timekeeper()).await;
    work_off(&mut house.router()).await;
    assert_eq!(house.events("messages-routed").await, []);
    assert_eq!(house.events("sending-released").await, []);
}

#[tokio::test]
async fn what_is_blocked_is_routed_as_soon_as_a_relay_comes_back() {
    let house = House::furnished().await;
    for name in ["alpha", "beta", "gamma"] {
        house.manage.suspend_relay(&cause(), &relay(name), "maintenance".to_owned()).await.unwrap();
    }
    house.accept(notice(recipients(4))).await.unwrap();
    let mut router = house.router();
    work_off(&mut router).await;
    let Step::Idle(Some(again)) = router.step().await.unwrap() else { panic!("it comes back by itself") };
    assert_eq!(again, noon() + Duration::seconds(5));
    assert_eq!(house.events("messages-routed").await, []);
    house.manage.resume_relay(&cause(), &relay("gamma")).await.unwrap();
    work_off(&mut router).await;
    let log = house.log().await;
    assert!(first_routes(&log).iter().all(|(_, carrier)| *carrier == relay("gamma")));
    assert_eq!(first_routes(&log).len(), 4);
    split_is_exact(&log);
}

#[tokio::test]
async fn a_blocked_channel_does_not_block_the_others_of_a_lot() {
    let house = House::furnished().await;
    house.manage.suspend_relay(&cause(), &relay("mail"), "maintenance".to_owned()).await.unwrap();
    let mut rows = recipients(2);
    rows.push(row(2, "kim@example.com"));
    house.accept(notice(rows)).await.unwrap();
    let mut router = house.router();
    work_off(&mut router).await;
    assert_eq!(first_routes(&house.log().await).len(), 2);
    house.manage.resume_relay(&cause(), &relay("mail")).await.unwrap();
    work_off(&mut router).await;
    let log = house.log().await;
    assert_eq!(first_routes(&log).len(), 3);
    split_is_exact(&log);
}

#[tokio::test]
async fn a_tripped_breaker_takes_a_relay_out_of_the_split() {
    let house = House::furnished().await;
    let tripped = RelayBreakerChanged {
        relay: relay("alpha"),
        from: BreakerPhase::Passing,
        to: BreakerPhase::Tripped,
        reason: "test".to_owned(),
        until: None,
    };
    house.manage.change_breaker(&cause(), tripped, 0).await.unwrap();
    house.accept(notice(recipients(10))).await.unwrap();
    work_off(&mut house.router()).await;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (_, carrier) in first_routes(&house.log().await) {
        *counts.entry(carrier.as_str().to_owned()).or_default() += 1;
    }
    assert_eq!(counts, HashMap::from([("beta".to_owned(), 6), ("gamma".to_owned(), 4)]));
}

#[tokio::test]
async fn empty_pages_of_the_log_are_not_its_end() {
    let house = House::furnished().await;
    let mut router = house.router();
    work_off(&mut router).await;
    house.store.look_at_most_at(1);
    for _ in 0..5 {
        house.accept(notice(recipients(1))).await.unwrap();
    }
    work_off(&mut router).await;
    assert_eq!(first_routes(&house.log().await).len(), 5);
}

#[tokio::test]
async fn an_append_of_the_router_ends_with_the_lot_that_makes_it_a_thousand_messages() {
    let house = House::furnished().await;
    for _ in 0..3 {
        house.accept(notice(recipients(500))).await.unwrap();
    }
    let mut router = house.router();
    let mut routed = Vec::new();
    while router.step().await.unwrap() == Step::Worked {
        routed.push(first_routes(&house.log().await).len());
    }
    routed.dedup();
    assert_eq!(routed, [0, 1_000, 1_500]);
}

#[tokio::test]
async fn a_router_reads_the_next_lots_while_it_routes() {
    let house = House::furnished().await;
    let mut lots = Vec::new();
    for _ in 0..3 {
        let accepted = house.accept(notice(recipients(500))).await.unwrap();
        let of_sending = |number| LotId { sending: accepted.sending, number };
        lots.extend((0..accepted.lots).map(of_sending));
    }
    let (mut router, _) = elsewhere(&house);
    while first_routes(&house.log().await).is_empty() {
        router.step().await.unwrap();
    }
    assert_eq!(first_routes(&house.log().await).len(), 1_000);
    let reads = || lots.iter().map(|lot| house.store.reads_of(&lot.stream())).collect::<Vec<_>>();
    assert_eq!(reads(), vec![1; lots.len()], "also those that are routed next");
    work_off(&mut router).await;
    assert_eq!(first_routes(&house.log().await).len(), 1_500);
    assert_eq!(reads(), vec![1; lots.len()], "none is read twice");
}

/// A router in another process than the one that accepts, and its lots.
fn elsewhere(house: &House) -> (Router, Lots) {
    let lots = Lots::new(house.journal.clone().shared(), 10_000);
    (Router::new(lots.clone(), house.directory.clone(), house.work.clone()), lots)
}

/// The same, after it has come to the end of the log.
async fn following(house: &House) -> (Router, Lots) {
    let (mut router, lots) = elsewhere(house);
    work_off(&mut router).await;
    (router, lots)
}

#[tokio::test]
async fn what_a_router_was_told_it_need_not_read() {
    let house = House::furnished().await;
    let (mut router, _) = following(&house).await;
    // The first one is elected, and looks for routes.
    house.accept(notice(recipients(1))).await.unwrap();
    work_off(&mut router).await;
    let before = house.store.questions();
    let mut messages = 1;
    for count in [1, 3, 1_500] {
        house.accept(notice(recipients(count))).await.unwrap();
        messages += count as usize;
    }
    work_off(&mut router).await;
    assert_eq!(first_routes(&house.log().await).len(), messages);
    assert_eq!(house.store.questions(), before);
}

#[tokio::test]
async fn a_router_that_was_told_of_a_lot_before_others_changed_it_reads_it_again() {
    let house = House::furnished().await;
    let (mut router, _) = following(&house).await;
    let sending = house.accept(notice(recipients(4))).await.unwrap().sending;
    let id = LotId { sending, number: 0 };
    // It knows of the lot; whoever changes it does so behind its back.
    let cancelled = MessagesFinished {
        messages: [1, 3].into_iter().collect(),
        outcome: Outcome::Cancelled,
        reason: "test".into(),
        class: None,
    };
    let change = |_: &_, _: &_| (vec![cancelled.clone().into()], ());
    Lots::new(house.journal.clone().shared(), 10_000).change_one(id, &"test".into(), change).await.unwrap();
    work_off(&mut router).await;
    let routed: Vec<u32> = first_routes(&house.log().await).iter().map(|(message, _)| message.seq).collect();
    assert_eq!(routed.len(), 2);
    assert!(routed.contains(&0) && routed.contains(&2), "{routed:?}");
    split_is_exact(&house.log().await);
}

#[tokio::test]
async fn a_router_that_was_told_of_a_pause_waits_until_it_is_told_of_its_end() {
    let house = House::furnished().await;
    let (mut router, _) = following(&house).await;
    let other = house.accept(notice(recipients(2))).await.unwrap().sending;
    let sending = house.accept(notice(recipients(3))).await.unwrap().sending;
    house.acceptance.pause(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await.unwrap();
    work_off(&mut router).await;
    let of = |log: &[Told], id| first_routes(log).iter().filter(|(message, _)| message.sending == id).count();
    let log = house.log().await;
    assert_eq!((of(&log, other), of(&log, sending)), (2, 0));
    house.acceptance.resume(&cause(), &tenant("acme"), sending, PauseBy::Tenant, None).await.unwrap();
    work_off(&mut router).await;
    assert_eq!(of(&house.log().await, sending), 3);
}

#[tokio::test]
async fn a_lot_that_a_router_was_told_of_and_cannot_understand_keeps_no_other_from_being_routed() {
    let house = House::furnished().await;
    let (mut router, _) = following(&house).await;
    put_of_tomorrow(&house, "lot-0190a000-0000-7000-8000-000000000000-0", "lot-accepted").await;
    house.accept(notice(recipients(2))).await.unwrap();
    work_off(&mut router).await;
    let routed = everything(&house.store).await.into_iter().filter(|event| event.kind == "messages-routed");
    assert_eq!(routed.count(), 1);
}
