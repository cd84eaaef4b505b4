//! What relays say and nobody understands: kept once, up to a bound, and for ever.

use chrono::Duration;
use kite_commands::not_understood::{KeptSummary, NotUnderstoodBook};
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::not_understood::{KEPT_PER_DAY_MAX, Misread, MisreadReason, RAW_BYTES_MAX, SaidHow};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::{CodeClassed, CodeUnclassed};

use crate::faulty_store::Fault;
use crate::house::*;
use crate::receipts::receipt;

fn misread(raw: impl Into<String>) -> Misread {
    Misread {
        row: Some(0),
        field: Some("status".into()),
        reason: MisreadReason::UnknownWord,
        raw: raw.into(),
    }
}

fn summary(kept: usize, known: usize, beyond: usize) -> KeptSummary {
    KeptSummary { kept, known, beyond }
}

async fn keep(house: &House, name: &str, raws: &[&str]) -> KeptSummary {
    let misread = raws.iter().map(|raw| misread(*raw)).collect();
    house.receipts.keep_not_understood(&relay(name), SaidHow::Pushed, misread).await.unwrap()
}

#[tokio::test]
async fn the_same_words_of_a_relay_are_kept_once_however_often_they_come() {
    let house = House::furnished().await;
    assert_eq!(keep(&house, "alpha", &["{1}", "{2}", "{1}"]).await, summary(2, 1, 0));
    assert_eq!(keep(&house, "alpha", &["{2}", "{3}"]).await, summary(1, 1, 0));
    assert_eq!(keep(&house, "beta", &["{1}"]).await, summary(1, 0, 0), "another relay's words");
    let before = house.log().await.len();
    // A process that remembers nothing finds them in the stream of the day.
    let forgetful = NotUnderstoodBook::new(house.journal.clone());
    let again = || vec![misread("{1}"), misread("{2}"), misread("{3}")];
    let kept = forgetful.keep(&relay("alpha"), SaidHow::Pulled, again()).await.unwrap();
    assert_eq!((kept, house.log().await.len()), (summary(0, 3, 0), before));
    // One that has kept them remembers them on another day, too.
    house.advance(Duration::days(1));
    let kept = forgetful.keep(&relay("alpha"), SaidHow::Pulled, again()).await.unwrap();
    assert_eq!((kept, house.log().await.len()), (summary(0, 3, 0), before));
    let raws: Vec<String> = house
        .events("relay-not-understood")
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::RelayNotUnderstood(said) if said.relay == relay("alpha") => Some(said.personal.raw),
            _ => None,
        })
        .collect();
    assert_eq!(raws, ["{1}", "{2}", "{3}"]);
}

#[tokio::test]
async fn a_day_has_a_bound_and_what_is_beyond_it_is_told_and_not_kept() {
    let house = House::furnished().await;
    let max = KEPT_PER_DAY_MAX as usize;
    let many = |from: usize, count: usize| -> Vec<Misread> {
        (from..from + count).map(|number| misread(format!("{{{number}}}"))).collect()
    };
    let alpha = relay("alpha");
    let keep = |misread| house.receipts.keep_not_understood(&alpha, SaidHow::Pushed, misread);
    assert_eq!(keep(many(0, max - 5)).await.unwrap(), summary(max - 5, 0, 0));
    assert_eq!(house.receipts.not_understood_full_until(&alpha).await.unwrap(), None);
    assert_eq!(keep(many(max - 5, 8)).await.unwrap(), summary(5, 0, 3));
    let full_until = house.receipts.not_understood_full_until(&alpha).await.unwrap().unwrap();
    assert!(full_until > house.journal.now() && full_until - house.journal.now() <= Duration::days(1));
    let full = house.log().await.len();
    assert_eq!(keep(many(max + 100, 700)).await.unwrap(), summary(0, 0, 700));
    assert_eq!(house.log().await.len(), full);
    house.advance(full_until - house.journal.now());
    assert_eq!(house.receipts.not_understood_full_until(&alpha).await.unwrap(), None);
    assert_eq!(keep(many(max + 100, 2)).await.unwrap(), summary(2, 0, 0), "another day");
}

#[tokio::test]
async fn long_words_are_cut_and_still_told_apart() {
    let house = House::furnished().await;
    let long = "x".repeat(10 * RAW_BYTES_MAX);
    assert_eq!(keep(&house, "alpha", &[&format!("{long}1"), &format!("{long}2")]).await, summary(2, 0, 0));
    for event in house.events("relay-not-understood").await {
        let Event::RelayNotUnderstood(said) = event else { panic!("another event") };
        assert_eq!((said.personal.raw.len(), said.raw_bytes as usize), (RAW_BYTES_MAX, long.len() + 1));
    }
}

#[tokio::test]
async fn what_the_log_does_not_take_can_be_said_again() {
    let house = House::furnished().await;
    house.store.fail(1, Fault::Busy);
    let said = || vec![misread("{1}"), misread("{2}")];
    let alpha = relay("alpha");
    let keep = |misread| house.receipts.keep_not_understood(&alpha, SaidHow::Pushed, misread);
    assert!(keep(said()).await.is_err());
    let then = keep(said()).await.unwrap();
    assert_eq!(then.kept + then.known, 2);
    assert_eq!(house.events("relay-not-understood").await.len(), 2);
}

fn classed(class: FailureClass) -> CodeClassed {
    CodeClassed {
        relay: relay("alpha"),
        code: "9876".into(),
        class,
        billable: true,
        text: Some("the handset is roaming".to_owned()),
    }
}

/// The class is in the events: what an operator says later changes nothing that was.
#[tokio::test]
async fn an_operators_class_holds_from_then_on_and_history_keeps_what_it_had() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(10).await;
    let alpha = sets[0].1.as_slice();
    let failed = |place: usize| receipt(sending, alpha[place], 1, ReceiptStatus::Undelivered, "9876");
    let carrier = relay("alpha");
    let record = |place: usize| house.receipts.record(&carrier, vec![failed(place)]);
    record(0).await.unwrap();
    house.manage.class_code(&cause(), classed(FailureClass::RelayFault)).await.unwrap();
    record(1).await.unwrap();
    house.manage.class_code(&cause(), classed(FailureClass::HandsetPermanent)).await.unwrap();
    record(2).await.unwrap();
    let unclassed = CodeUnclassed { relay: relay("alpha"), code: "9876".into() };
    house.manage.unclass_code(&cause(), unclassed).await.unwrap();
    record(3).await.unwrap();

    let told: Vec<(Option<FailureClass>, bool)> = house
        .events("receipts-recorded")
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::ReceiptsRecorded(recorded) => {
                Some((recorded.sets[0].class, recorded.sets[0].billable_failure))
            }
            _ => None,
        })
        .collect();
    let expected = [
        (Some(FailureClass::Unclassified), false),
        (Some(FailureClass::RelayFault), true),
        (Some(FailureClass::HandsetPermanent), true),
        (Some(FailureClass::Unclassified), false),
    ];
    assert_eq!(told, expected);

    let lot = house.lot(sending, 0).await;
    let last = |place: usize| lot.message(alpha[place]).unwrap().attempts.last().unwrap().state;
    assert_eq!(lot.message(alpha[0]).unwrap().outcome, Some(Outcome::Undelivered), "it is never guessed");
    assert_eq!(last(1), AttemptState::Routed, "the next relay");
    assert_eq!(lot.message(alpha[2]).unwrap().outcome, Some(Outcome::Undelivered));
    // A process that knows the classes of today folds the same lot from the same events.
    let other = house.restarted().await.lot(sending, 0).await;
    assert_eq!(format!("{other:?}"), format!("{lot:?}"));
}

#[tokio::test]
async fn an_operators_class_is_an_event_once_and_goes_once() {
    let house = House::furnished().await;
    let before = house.log().await.len();
    for _ in 0..2 {
        house.manage.class_code(&cause(), classed(FailureClass::Content)).await.unwrap();
    }
    assert_eq!(house.log().await.len(), before + 1);
    let entry = house.directory.snapshot().relays.get(&relay("alpha")).unwrap().clone();
    let meaning = entry.meaning(&["9876"]);
    assert_eq!((meaning.failure(), meaning.text_ko), (Some(FailureClass::Content), "the handset is roaming"));
    assert!(meaning.is_known() && meaning.billable && !meaning.failover_eligible);
    // The exact code of two counts before the general one, whoever says what it means.
    assert_eq!(entry.meaning(&["3032", "9876"]).failure(), Some(FailureClass::HandsetPermanent));
    assert_eq!(entry.meaning(&["nothing", "9876"]).failure(), Some(FailureClass::Content));

    let unclassed = CodeUnclassed { relay: relay("alpha"), code: "9876".into() };
    house.manage.unclass_code(&cause(), unclassed.clone()).await.unwrap();
    assert!(house.manage.unclass_code(&cause(), unclassed).await.is_err());
    let nobody = CodeClassed { relay: relay("nobody"), ..classed(FailureClass::Content) };
    assert!(house.manage.class_code(&cause(), nobody).await.is_err());
    assert!(!house.directory.snapshot().relays.get(&relay("alpha")).unwrap().meaning(&["9876"]).is_known());
}
