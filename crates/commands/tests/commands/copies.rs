//! A log that is a copy of one that may be at work.

use chrono::Duration;
use kite_commands::directory::Directory;
use kite_commands::settler::Settler;
use kite_commands::{Lots, Step, Worker};
use kite_domain::event::Event;
use kite_domain::ids::SendingId;
use kite_domain::instance::Originality;
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::receipt::ReceiptStatus;
use kite_event_store::EventStore;

use crate::house::*;
use crate::receipts::receipt;

fn settler(house: &House) -> Settler {
    Settler::new(house.lots.clone(), house.directory.clone())
}

/// Of another process on the same log, which knows what the log says by now.
async fn settler_of_another(house: &House) -> Settler {
    let journal = house.journal.clone().of_node("other").shared();
    let directory = Directory::default();
    directory.catch_up(&journal).await.unwrap();
    Settler::new(Lots::new(journal, 1_000), directory)
}

/// From here on the log is a copy.
async fn copy(house: &House) {
    let until = *house.store.head().borrow();
    house.manage.mark_as_copy(&cause(), until, noon()).await.unwrap();
}

async fn release(house: &House) {
    let dead_since = house.journal.now();
    house.manage.release_instance(&cause(), dead_since, "its disk is gone".to_owned()).await.unwrap();
}

async fn states(house: &House, sending: SendingId) -> Vec<AttemptState> {
    let lot = house.lot(sending, 0).await;
    lot.messages().map(|(_, message)| message.attempts.last().unwrap().state).collect()
}

#[tokio::test]
async fn it_accepts_and_routes_and_ends_nothing_before_the_word() {
    let house = House::furnished().await;
    let mut request = notice(recipients(2));
    request.lifetime_s = Some(60);
    let before = house.accept(request).await.unwrap().sending;
    copy(&house).await;
    let after = house.accept(notice(recipients(2))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    house.advance(Duration::hours(1));
    work_off(&mut house.timekeeper()).await;
    assert_eq!(house.events("messages-routed").await, []);
    assert_eq!(house.events("messages-finished").await, []);
    assert_eq!(settler(&house).step().await.unwrap(), Step::Idle(None));
    for sending in [before, after] {
        assert!(house.lot(sending, 0).await.has_unrouted());
    }
}

#[tokio::test]
async fn after_the_word_what_the_original_may_have_handed_over_is_in_doubt_and_nothing_else() {
    let house = House::furnished().await;
    let (with_relays, _) = house.handed_over(4).await;
    let routed = house.accept(notice(recipients(4))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    let unrouted = house.accept(notice(recipients(1))).await.unwrap().sending;
    let mut later = notice(recipients(1));
    later.scheduled_at = Some(house.journal.now() + Duration::hours(2));
    let later = house.accept(later).await.unwrap().sending;
    copy(&house).await;
    let own = house.accept(notice(recipients(1))).await.unwrap().sending;
    release(&house).await;
    assert!(!house.directory.snapshot().instance.may_hand_over(), "not before everything is in doubt");
    work_off(&mut settler(&house)).await;

    assert!(matches!(house.directory.snapshot().instance, Originality::Settled { .. }));
    for sending in [with_relays, routed] {
        assert!(states(&house, sending).await.iter().all(|state| *state == AttemptState::Unknown));
    }
    let lot = house.lot(unrouted, 0).await;
    assert_eq!(lot.messages().next().unwrap().1.outcome, Some(Outcome::Expired));
    for sending in [later, own] {
        assert!(house.lot(sending, 0).await.has_unrouted());
    }
    let settled = house.events("instance-settled").await;
    let [Event::InstanceSettled(settled)] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((settled.messages_in_doubt, settled.messages_given_up), (9, 1));
    work_off(&mut house.router()).await;
    assert_eq!(states(&house, own).await, [AttemptState::Routed]);
}

#[tokio::test]
async fn a_settler_that_dies_is_followed_by_another_that_puts_nothing_in_doubt_twice() {
    let house = House::furnished().await;
    for _ in 0..300 {
        house.accept(notice(recipients(1))).await.unwrap();
    }
    work_off(&mut house.router()).await;
    copy(&house).await;
    release(&house).await;
    assert_eq!(settler(&house).step().await.unwrap(), Step::Worked);
    let half = house.events("messages-doubted").await.len();
    assert!((1..300).contains(&half), "{half}");
    let house = house.restarted().await;
    work_off(&mut settler(&house)).await;
    assert_eq!(house.events("messages-doubted").await.len(), 300);
    assert_eq!(house.events("instance-settled").await.len(), 1);
    work_off(&mut settler(&house)).await;
    assert_eq!(house.events("instance-settled").await.len(), 1);
}

#[tokio::test]
async fn receipts_that_came_while_it_waited_are_matched_however_long_that_took() {
    let house = House::furnished().await;
    let unrouted = house.accept(notice(recipients(2))).await.unwrap().sending;
    let delivered = house.accept(notice(recipients(1))).await.unwrap().sending;
    copy(&house).await;
    let report = |sending, seq, attempt, status| receipt(sending, seq, attempt, status, "3032");
    // The second attempt's relay is looked at first, and the first attempt is what its receipt must wait for.
    let by_alpha = vec![report(unrouted, 0, 2, ReceiptStatus::Delivered)];
    let by_beta = vec![
        report(unrouted, 0, 1, ReceiptStatus::Undelivered),
        report(delivered, 0, 1, ReceiptStatus::Delivered),
    ];
    house.receipts.record(&relay("alpha"), by_alpha).await.unwrap();
    house.receipts.record(&relay("beta"), by_beta).await.unwrap();
    house.advance(Duration::days(4));
    release(&house).await;
    work_off(&mut settler(&house)).await;
    let mut timekeeper = house.timekeeper();
    timekeeper.step().await.unwrap();
    let outcome = async |sending, seq| house.lot(sending, 0).await.message(seq).unwrap().outcome;
    assert_eq!(outcome(delivered, 0).await, Some(Outcome::Delivered), "the receipt says so");
    assert_eq!(outcome(unrouted, 0).await, Some(Outcome::Undelivered), "not yet all that is known");
    assert_eq!(outcome(unrouted, 1).await, Some(Outcome::Expired), "nobody has said anything");
    house.advance(Duration::seconds(30));
    timekeeper.step().await.unwrap();
    assert_eq!(outcome(unrouted, 0).await, Some(Outcome::Delivered));
    assert!(house.work.parked(&relay("alpha")).await.is_empty());
}

#[tokio::test]
async fn strangers_that_came_while_it_waited_are_given_up_in_the_end() {
    let house = House::furnished().await;
    copy(&house).await;
    let stranger = receipt(SendingId(uuid::Uuid::from_u128(9)), 0, 1, ReceiptStatus::Delivered, "4000");
    house.receipts.record(&relay("alpha"), vec![stranger]).await.unwrap();
    house.advance(Duration::days(4));
    release(&house).await;
    work_off(&mut settler(&house)).await;
    let mut timekeeper = house.timekeeper();
    timekeeper.step().await.unwrap();
    house.advance(Duration::hours(80));
    timekeeper.step().await.unwrap();
    assert_eq!(house.work.parked(&relay("alpha")).await.len(), 1);
    house.advance(Duration::hours(2));
    timekeeper.step().await.unwrap();
    assert!(house.work.parked(&relay("alpha")).await.is_empty());
}

#[tokio::test]
async fn only_a_cancellation_that_the_original_knew_of_says_that_it_handed_nothing_over() {
    let house = House::furnished().await;
    let before = house.accept(notice(recipients(1))).await.unwrap().sending;
    let at_the_copy = house.accept(notice(recipients(1))).await.unwrap().sending;
    let told_of = house.accept(notice(recipients(1))).await.unwrap().sending;
    let mut later = notice(recipients(1));
    later.scheduled_at = Some(house.journal.now() + Duration::hours(2));
    let later = house.accept(later).await.unwrap().sending;
    house.acceptance.cancel(&cause(), &acme(), before, None).await.unwrap();
    copy(&house).await;
    let own = house.accept(notice(recipients(1))).await.unwrap().sending;
    for (sending, cancelled) in [(at_the_copy, 0), (told_of, 0), (later, 0), (own, 1)] {
        let outcome = house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
        assert_eq!(outcome.cancelled, cancelled, "the original may have handed it over");
    }
    release(&house).await;
    work_off(&mut settler(&house)).await;
    work_off(&mut house.timekeeper()).await;
    work_off(&mut house.router()).await;
    let outcome = async |sending| house.lot(sending, 0).await.message(0).unwrap().outcome;
    for cancelled in [before, later, own] {
        assert_eq!(outcome(cancelled).await, Some(Outcome::Cancelled));
    }
    assert_eq!(outcome(at_the_copy).await, Some(Outcome::Expired), "nobody knows");
    let delivered = receipt(told_of, 0, 1, ReceiptStatus::Delivered, "4000");
    house.receipts.record(&relay("alpha"), vec![delivered]).await.unwrap();
    assert_eq!(outcome(told_of).await, Some(Outcome::Delivered), "the original had");
}

#[tokio::test]
async fn a_settler_hears_of_the_word_that_was_given_to_another_process() {
    let house = House::furnished().await;
    let (with_relay, _) = house.handed_over(1).await;
    copy(&house).await;
    let mut settler = settler_of_another(&house).await;
    assert_eq!(settler.step().await.unwrap(), Step::Idle(None));
    release(&house).await;
    house.advance(Duration::seconds(2));
    work_off(&mut settler).await;
    assert_eq!(states(&house, with_relay).await, [AttemptState::Unknown]);
    assert_eq!(house.events("instance-settled").await.len(), 1);
}

/// Two believe themselves to be at this post, and the slower one has not heard that it is done.
#[tokio::test]
async fn a_copy_that_another_process_has_settled_is_not_settled_once_more() {
    let house = House::furnished().await;
    house.handed_over(1).await;
    copy(&house).await;
    release(&house).await;
    let mut late = settler_of_another(&house).await;
    work_off(&mut settler_of_another(&house).await).await;
    assert_eq!(late.step().await.unwrap(), Step::Worked, "it knows no better");
    assert_eq!(house.events("instance-settled").await.len(), 1);
    assert_eq!(late.step().await.unwrap(), Step::Idle(None));
}
