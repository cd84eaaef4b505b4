//! Cancelling a sending.

use kite_commands::accept::CancelError;
use kite_domain::failure::FailureClass;
use kite_domain::ids::SendingId;
use kite_domain::lot::{Outcome, ResponseNote};
use kite_domain::sending::PauseBy;
use uuid::Uuid;

use crate::house::*;

#[tokio::test]
async fn what_is_with_a_relay_goes_on_and_the_rest_stops() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(10).await;
    let alpha = &sets.iter().find(|(carrier, _)| *carrier == relay("alpha")).unwrap().1;
    house.respond(sending, 0, "alpha", 1, refused(alpha, FailureClass::RelayFault)).await;
    let outcome =
        house.acceptance.cancel(&cause(), &acme(), sending, Some("wrong".to_owned())).await.unwrap();
    assert_eq!((outcome.cancelled, outcome.in_flight, outcome.finished), (5, 5, 0));
    assert_eq!(house.lot(sending, 0).await.counts().cancelled, 5);
    assert_eq!(house.hand_over(sending, 0).await, 0, "nothing more goes out");
}

#[tokio::test]
async fn a_cancellation_over_many_lots_counts_all() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(2_500))).await.unwrap().sending;
    let outcome = house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
    assert_eq!(outcome.cancelled, 2_500);
    for number in 0..3 {
        assert!(
            house
                .lot(sending, number)
                .await
                .messages()
                .all(|(_, one)| one.outcome == Some(Outcome::Cancelled))
        );
    }
}

#[tokio::test]
async fn what_is_not_there_or_over_cannot_be_cancelled() {
    let house = House::furnished().await;
    house.move_in("other").await;
    let sending = house.accept(notice(recipients(1))).await.unwrap().sending;
    let stranger = house.acceptance.cancel(&cause(), &tenant("other"), sending, None).await;
    assert!(matches!(stranger, Err(CancelError::NotFound(id)) if id == sending), "another tenant's");
    let nobody = house.acceptance.cancel(&cause(), &acme(), SendingId(Uuid::nil()), None).await;
    assert!(matches!(nobody, Err(CancelError::NotFound(_))));
    house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
    let again = house.acceptance.cancel(&cause(), &acme(), sending, None).await;
    assert!(matches!(again, Err(CancelError::Over(_))));
    let done = house.accept(notice(recipients(1))).await.unwrap().sending;
    house.acceptance.cancel(&cause(), &acme(), done, None).await.unwrap();
    work_off(&mut house.timekeeper()).await;
    assert!(matches!(
        house.acceptance.cancel(&cause(), &acme(), done, None).await,
        Err(CancelError::Over(_))
    ));
}

#[tokio::test]
async fn a_sending_whose_messages_are_all_final_is_over_before_that_is_recorded() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(2).await;
    for (carrier, messages) in &sets {
        let mut note = accepted(messages);
        note.accepted_is_final = true;
        house.respond(sending, 0, carrier.as_str(), 1, note).await;
    }
    assert_eq!(house.events("sending-completed").await, [], "the timekeeper has not come by yet");
    let late = house.acceptance.cancel(&cause(), &acme(), sending, None).await;
    assert!(matches!(late, Err(CancelError::Over(id)) if id == sending), "{late:?}");
    assert_eq!(house.events("sending-cancelled").await, []);
    work_off(&mut house.timekeeper()).await;
    assert_eq!(house.events("sending-completed").await.len(), 1);
}

#[tokio::test]
async fn a_cancellation_counts_what_is_over_beside_what_it_stops_and_what_goes_on() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(10).await;
    for (carrier, messages) in &sets {
        let note = match carrier.as_str() {
            "alpha" => ResponseNote { accepted_is_final: true, ..accepted(messages) },
            "beta" => refused(messages, FailureClass::RelayFault),
            _ => continue,
        };
        house.respond(sending, 0, carrier.as_str(), 1, note).await;
    }
    let outcome = house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
    assert_eq!((outcome.cancelled, outcome.in_flight, outcome.finished), (3, 2, 5));
}

#[tokio::test]
async fn whatever_is_done_to_a_sending_belongs_to_it_in_the_log() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(1))).await.unwrap().sending;
    let by = PauseBy::Tenant;
    house.acceptance.pause(&cause(), &acme(), sending, by, None).await.unwrap();
    house.acceptance.resume(&cause(), &acme(), sending, by, None).await.unwrap();
    house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
    let log = house.log().await;
    for kind in ["lot-accepted", "sending-accepted", "sending-paused", "sending-resumed", "sending-cancelled"]
    {
        let told = &log.iter().find(|told| told.recorded.kind == kind).unwrap().recorded;
        assert_eq!(told.metadata.correlation, sending.0, "{kind}");
    }
}
