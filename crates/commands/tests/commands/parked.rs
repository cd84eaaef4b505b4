//! Parked receipts among strangers: tried in time, and not for ever.

use chrono::Duration;
use kite_commands::Worker;
use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::receipt::{RawReceipt, ReceiptStatus};
use kite_domain::slug::RelayId;
use uuid::Uuid;

use crate::house::*;
use crate::receipts::receipt;

/// Reports on messages that nobody knows; their references come before those of ours.
fn strangers(count: u32) -> Vec<RawReceipt> {
    let one = receipt(SendingId(Uuid::from_u128(9)), 0, 1, ReceiptStatus::Delivered, "4000");
    (0..count)
        .map(|number| RawReceipt { reference: format!("0-{number:06}").into(), ..one.clone() })
        .collect()
}

/// A message with a route, which relay has it, and the report that it was delivered.
async fn routed(house: &House) -> (SendingId, RelayId, RawReceipt) {
    let sending = house.accept(notice(recipients(1))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    let carrier = house.lot(sending, 0).await.pending()[0].relay.clone();
    (sending, carrier, receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000"))
}

async fn is_delivered(house: &House, sending: SendingId) -> bool {
    house.lot(sending, 0).await.counts().delivered == 1
}

#[tokio::test]
async fn strangers_that_were_there_first_do_not_hide_a_receipt_that_came_early() {
    let house = House::furnished().await;
    let (sending, carrier, early) = routed(&house).await;
    house.receipts.record(&carrier, strangers(17_000)).await.unwrap();
    house.advance(Duration::hours(2));
    house.receipts.record(&carrier, vec![early]).await.unwrap();
    house.hand_over(sending, 0).await;
    house.timekeeper().step().await.unwrap();
    assert!(is_delivered(&house, sending).await);
}

#[tokio::test]
async fn strangers_of_the_same_moment_are_passed_page_by_page() {
    let house = House::furnished().await;
    let (sending, carrier, early) = routed(&house).await;
    let mut pushed = strangers(5_000);
    pushed.push(early);
    house.receipts.record(&carrier, pushed).await.unwrap();
    house.hand_over(sending, 0).await;
    let mut timekeeper = house.timekeeper();
    for _ in 0..3 {
        assert!(!is_delivered(&house, sending).await, "the test is too small to show anything");
        timekeeper.step().await.unwrap();
        house.advance(Duration::seconds(30));
    }
    assert!(is_delivered(&house, sending).await);
}

#[tokio::test]
async fn a_stranger_is_tried_less_and_less_often() {
    let house = House::furnished().await;
    house.receipts.record(&relay("alpha"), strangers(1)).await.unwrap();
    let mut timekeeper = house.timekeeper();
    let mut tried_at_s = Vec::new();
    for at_s in (0..=3_600).step_by(10) {
        let before = *house.work.parked_given.lock();
        timekeeper.step().await.unwrap();
        if *house.work.parked_given.lock() > before {
            tried_at_s.push(at_s);
        }
        house.advance(Duration::seconds(10));
    }
    assert_eq!(tried_at_s, [0, 30, 60, 120, 240, 480, 960, 1_920]);
}

#[tokio::test]
async fn what_came_while_no_timekeeper_ran_is_tried_by_the_next_one_at_once() {
    let house = House::furnished().await;
    let (sending, carrier, early) = routed(&house).await;
    house.receipts.record(&carrier, vec![early]).await.unwrap();
    house.hand_over(sending, 0).await;
    house.advance(Duration::minutes(100));
    let house = house.restarted().await;
    house.timekeeper().step().await.unwrap();
    assert!(is_delivered(&house, sending).await);
    assert_eq!(*house.work.parked_given.lock(), 1, "once");
}

#[tokio::test]
async fn a_relay_whose_receipts_cannot_be_recorded_does_not_keep_the_others_waiting() {
    let house = House::furnished().await;
    let (first, first_carrier, first_early) = routed(&house).await;
    let (second, second_carrier, second_early) = routed(&house).await;
    assert_ne!(first_carrier, second_carrier);
    for (carrier, early) in [(&first_carrier, first_early), (&second_carrier, second_early)] {
        house.receipts.record(carrier, vec![early]).await.unwrap();
    }
    house.hand_over(first, 0).await;
    house.hand_over(second, 0).await;
    house.store.fail(0, crate::faulty_store::Fault::Busy);
    let mut timekeeper = house.timekeeper();
    assert!(timekeeper.step().await.is_err());
    let delivered = [is_delivered(&house, first).await, is_delivered(&house, second).await];
    assert_eq!(delivered.into_iter().filter(|is_delivered| *is_delivered).count(), 1);

    house.store.heal();
    house.advance(Duration::seconds(30));
    timekeeper.step().await.unwrap();
    assert!(is_delivered(&house, first).await && is_delivered(&house, second).await);
}

#[tokio::test]
async fn all_strangers_are_given_up_in_the_end() {
    let house = House::furnished().await;
    house.receipts.record(&relay("alpha"), strangers(3_000)).await.unwrap();
    house.advance(Duration::hours(82));
    let mut timekeeper = house.timekeeper();
    for _ in 0..2 {
        timekeeper.step().await.unwrap();
        house.advance(Duration::seconds(30));
    }
    assert!(house.work.parked(&relay("alpha")).await.is_empty());
    let settled = house.events("parked-receipts-settled").await;
    let count = |event: &Event| match event {
        Event::ParkedReceiptsSettled(settled) => settled.given_up.len(),
        _ => 0,
    };
    assert_eq!(settled.iter().map(count).sum::<usize>(), 3_000, "each of them once");
}
