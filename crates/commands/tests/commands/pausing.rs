//! Pausing a sending, and letting it go on.

use chrono::Duration;
use kite_commands::accept::{PauseError, PauseOutcome};
use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::lot::Outcome;
use kite_domain::sending::PauseBy;

use crate::house::*;

async fn pause(house: &House, sending: SendingId, by: PauseBy) -> Result<PauseOutcome, PauseError> {
    house.acceptance.pause(&cause(), &acme(), sending, by, Some("wrong price".to_owned())).await
}

async fn resume(house: &House, sending: SendingId, by: PauseBy) -> Result<PauseOutcome, PauseError> {
    house.acceptance.resume(&cause(), &acme(), sending, by, None).await
}

/// By sequence number, to whom the first routes of a sending went.
async fn routed(house: &House) -> Vec<(u32, String)> {
    let mut routed = Vec::new();
    for event in house.events("messages-routed").await {
        let Event::MessagesRouted(event) = event else { continue };
        for route in event.routes {
            routed.extend(route.messages.iter().map(|seq| (seq, route.relay.to_string())));
        }
    }
    routed
}

#[tokio::test]
async fn nothing_of_a_paused_sending_is_routed_until_it_is_resumed_and_the_split_goes_on() {
    let house = House::furnished().await;
    let mut router = house.router();
    work_off(&mut router).await;
    let paused = house.accept(notice(recipients(5))).await.unwrap().sending;
    let outcome = pause(&house, paused, PauseBy::Tenant).await.unwrap();
    assert_eq!(outcome.paused.map(|pause| pause.by), Some(PauseBy::Tenant));
    house.accept(notice(recipients(5))).await.unwrap();
    work_off(&mut router).await;
    assert_eq!(routed(&house).await.len(), 5, "those of the other sending");
    assert_eq!(resume(&house, paused, PauseBy::Tenant).await.unwrap().paused, None);
    work_off(&mut router).await;
    let routed = routed(&house).await;
    let of = |relay: &str| routed.iter().filter(|(_, carrier)| carrier == relay).count();
    assert_eq!((of("alpha"), of("beta"), of("gamma")), (5, 3, 2), "50/30/20 over both");
}

#[tokio::test]
async fn a_router_that_begins_anew_leaves_a_paused_sending_aside_and_takes_it_up_when_it_is_resumed() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(2_500))).await.unwrap().sending;
    pause(&house, sending, PauseBy::Operator).await.unwrap();
    let again = house.restarted().await;
    let mut router = again.router();
    work_off(&mut router).await;
    assert_eq!(routed(&house).await, []);
    resume(&again, sending, PauseBy::Operator).await.unwrap();
    work_off(&mut router).await;
    assert_eq!(routed(&house).await.len(), 2_500);
}

#[tokio::test]
async fn nothing_of_a_paused_sending_is_handed_over() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(4))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    pause(&house, sending, PauseBy::Tenant).await.unwrap();
    assert_eq!(house.hand_over(sending, 0).await, 0);
    resume(&house, sending, PauseBy::Tenant).await.unwrap();
    assert_eq!(house.hand_over(sending, 0).await, 4);
}

#[tokio::test]
async fn repeats_are_outcomes_and_a_tenant_does_not_resume_what_an_operator_paused() {
    let house = House::furnished().await;
    house.move_in("other").await;
    let sending = house.accept(notice(recipients(1))).await.unwrap().sending;
    assert_eq!(resume(&house, sending, PauseBy::Tenant).await.unwrap().paused, None);
    pause(&house, sending, PauseBy::Operator).await.unwrap();
    let again = pause(&house, sending, PauseBy::Tenant).await.unwrap();
    assert_eq!(again.paused.map(|pause| pause.by), Some(PauseBy::Operator));
    assert_eq!(house.events("sending-paused").await.len(), 1);
    let refused = resume(&house, sending, PauseBy::Tenant).await;
    assert!(matches!(refused, Err(PauseError::PausedByOperator(id)) if id == sending), "{refused:?}");
    let stranger = house.acceptance.pause(&cause(), &tenant("other"), sending, PauseBy::Tenant, None).await;
    assert!(matches!(stranger, Err(PauseError::NotFound(_))), "{stranger:?}");
}

#[tokio::test]
async fn a_paused_sending_expires_and_can_be_cancelled() {
    let house = House::furnished().await;
    let mut request = notice(recipients(2));
    request.lifetime_s = Some(60);
    let expiring = house.accept(request).await.unwrap().sending;
    let cancelled = house.accept(notice(recipients(2))).await.unwrap().sending;
    for sending in [expiring, cancelled] {
        pause(&house, sending, PauseBy::Operator).await.unwrap();
    }
    let outcome = house.acceptance.cancel(&cause(), &acme(), cancelled, None).await.unwrap();
    assert_eq!(outcome.cancelled, 2);
    assert!(matches!(pause(&house, cancelled, PauseBy::Tenant).await, Err(PauseError::Over(_))));
    house.advance(Duration::seconds(61));
    work_off(&mut house.timekeeper()).await;
    let lot = house.lot(expiring, 0).await;
    assert!(lot.messages().all(|(_, message)| message.outcome == Some(Outcome::Expired)));
}
