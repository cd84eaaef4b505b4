//! What time alone brings about.

use chrono::Duration;
use kite_commands::{Step, Worker, WorkerError};
use kite_domain::event::Event;
use kite_domain::ids::LotId;
use kite_domain::lot::{Handover, Outcome};

use crate::faulty_store::Fault;
use crate::house::*;

#[tokio::test]
async fn lifetimes_end_what_was_not_handed_over() {
    let house = House::furnished().await;
    let mut request = notice(recipients(3));
    request.lifetime_s = Some(60);
    let sending = house.accept(request).await.unwrap().sending;
    let mut timekeeper = house.timekeeper();
    work_off(&mut timekeeper).await;
    assert_eq!(house.lot(sending, 0).await.counts().open, 3);
    house.advance(Duration::seconds(60));
    work_off(&mut timekeeper).await;
    assert_eq!(house.lot(sending, 0).await.counts().expired, 3);
    work_off(&mut house.router()).await;
    assert_eq!(house.events("messages-routed").await, [], "too late to be routed");
}

#[tokio::test]
async fn receipt_deadlines_end_what_was() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(2).await;
    for (carrier, messages) in &sets {
        house.respond(sending, 0, carrier.as_str(), 1, accepted(messages)).await;
    }
    house.advance(Duration::hours(24) + Duration::minutes(59));
    let mut timekeeper = house.timekeeper();
    work_off(&mut timekeeper).await;
    assert_eq!(
        house.lot(sending, 0).await.counts().open,
        2,
        "the lifetime is over, the receipts may still come"
    );
    house.advance(Duration::minutes(1));
    work_off(&mut timekeeper).await;
    assert_eq!(house.lot(sending, 0).await.counts().expired, 2);
}

#[tokio::test]
async fn a_finished_sending_is_completed_once() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(2).await;
    let mut timekeeper = house.timekeeper();
    work_off(&mut timekeeper).await;
    assert_eq!(house.events("sending-completed").await, []);
    for (carrier, messages) in &sets {
        let mut note = accepted(messages);
        note.accepted_is_final = true;
        house.respond(sending, 0, carrier.as_str(), 1, note).await;
    }
    work_off(&mut timekeeper).await;
    work_off(&mut timekeeper).await;
    let completed = house.events("sending-completed").await;
    assert!(matches!(&completed[..], [Event::SendingCompleted(completed)] if completed.sending == sending));
}

#[tokio::test]
async fn a_cancellation_that_was_interrupted_is_finished() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(2_500))).await.unwrap().sending;
    // The cancellation itself and one lot are in the log; then the process dies.
    house.store.fail(2, Fault::LostBefore);
    assert!(house.acceptance.cancel(&cause(), &acme(), sending, None).await.is_err());
    house.store.heal();
    let house = house.restarted().await;
    work_off(&mut house.timekeeper()).await;
    for number in 0..3 {
        assert_eq!(house.lot(sending, number).await.counts().open, 0, "lot {number}");
    }
    work_off(&mut house.timekeeper()).await;
    assert_eq!(house.events("sending-completed").await.len(), 1);
}

#[tokio::test]
async fn a_cancelled_sending_ends_too_when_its_receipts_never_come() {
    let house = House::furnished().await;
    let (sending, _) = house.handed_over(3).await;
    house.acceptance.cancel(&cause(), &acme(), sending, None).await.unwrap();
    let mut timekeeper = house.timekeeper();
    work_off(&mut timekeeper).await;
    assert_eq!(house.lot(sending, 0).await.counts().open, 3, "in flight");
    house.advance(Duration::hours(26));
    work_off(&mut timekeeper).await;
    assert_eq!(house.lot(sending, 0).await.counts().expired, 3);
    work_off(&mut timekeeper).await;
    assert_eq!(house.events("sending-completed").await.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_hold_is_told_to_the_relay_workers() {
    let house = House::furnished().await;
    let sending = house.accept(ad(recipients(1))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    let set = house.lot(sending, 0).await.pending().remove(0);
    let until = noon() + Duration::hours(2);
    let id = LotId { sending, number: 0 };
    let directory = house.directory.snapshot();
    house
        .lots
        .change_one(id, &"worker".into(), |lot, sending| {
            let handover = Handover {
                is_asked_again: false,
                relay: &set.relay,
                attempt: 1,
                is_cancelled: false,
                is_paused: false,
                receipt_deadline: Duration::hours(25),
                answer_by: noon() + chrono::TimeDelta::seconds(15),
                holder: None,
                closed_until: &|_| Some(until),
                unsendable: &|_| None,
                has_opted_out: &|_| false,
                context: &directory.routing_context(&sending.terms, noon()),
                now: noon(),
            };
            (lot.submit(&sending.terms, &set.messages, &handover).events, ())
        })
        .await
        .unwrap();
    let mut timekeeper = house.timekeeper();
    work_off(&mut timekeeper).await;
    assert_eq!(*house.hinted.lock(), []);
    house.advance(Duration::hours(2));
    work_off(&mut timekeeper).await;
    assert_eq!(*house.hinted.lock(), [id]);
    assert_eq!(house.lot(sending, 0).await.message(0).unwrap().outcome, None);
}

/// Lots that wait for a relay which takes nothing are due again and again; others must have their turn all the same.
#[tokio::test]
async fn what_cannot_be_helped_does_not_hide_what_can() {
    let house = House::furnished().await;
    let mut stuck = notice(recipients(1));
    stuck.lifetime_s = Some(3 * 24 * 3_600);
    for _ in 0..300 {
        house.accept(stuck.clone()).await.unwrap();
    }
    work_off(&mut house.router()).await;
    for event in house.events("lot-accepted").await {
        let Event::LotAccepted(lot) = event else { unreachable!() };
        let set = house.lot(lot.sending, 0).await.pending().remove(0);
        house.hand_over(lot.sending, 0).await;
        let until = noon() + Duration::seconds(1);
        let note = kite_domain::lot::ResponseNote {
            deferred: vec![kite_domain::lot::DeferredSet {
                messages: set.messages.clone(),
                reason: "429".to_owned(),
                until,
            }],
            ..kite_domain::lot::ResponseNote::default()
        };
        house.respond(lot.sending, 0, set.relay.as_str(), 1, note).await;
    }
    let mut short = notice(recipients(1));
    short.lifetime_s = Some(60);
    let short = house.accept(short).await.unwrap().sending;
    house.advance(Duration::seconds(60));
    let mut timekeeper = house.timekeeper();
    for _ in 0..4 {
        timekeeper.step().await.unwrap();
    }
    assert_eq!(house.lot(short, 0).await.message(0).unwrap().outcome, Some(Outcome::Expired));
}

#[tokio::test]
async fn it_looks_again_within_a_second_and_after_failures() {
    let house = House::furnished().await;
    let mut timekeeper = house.timekeeper();
    assert_eq!(timekeeper.step().await.unwrap(), Step::Idle(Some(noon() + Duration::seconds(1))));
    *house.work.is_down.lock() = true;
    assert!(matches!(timekeeper.step().await, Err(WorkerError::Retry(_))));
    *house.work.is_down.lock() = false;
    let mut request = notice(recipients(1));
    request.scheduled_at = Some(noon());
    request.lifetime_s = Some(60);
    let sending = house.accept(request).await.unwrap().sending;
    house.advance(Duration::seconds(60));
    // Releasing fails; ending the lifetime is done all the same.
    house.store.fail(0, Fault::Busy);
    assert!(matches!(timekeeper.step().await, Err(WorkerError::Retry(_))));
    assert_eq!(house.lot(sending, 0).await.counts().expired, 1);
    house.store.heal();
    work_off(&mut timekeeper).await;
    assert_eq!(house.events("sending-released").await.len(), 1);
}

#[tokio::test]
async fn what_the_read_model_has_parked_is_looked_at_by_its_streams() {
    let house = House::furnished().await;
    *house.work.is_blind.lock() = true;
    let mut timekeeper = house.timekeeper();
    let mut later = notice(recipients(2));
    later.scheduled_at = Some(noon() + Duration::hours(1));
    house.accept(later).await.unwrap();
    let mut short = notice(recipients(2_500));
    short.lifetime_s = Some(60);
    let short = house.accept(short).await.unwrap().sending;
    let cancelled = house.accept(notice(recipients(3))).await.unwrap().sending;
    house.acceptance.cancel(&cause(), &acme(), cancelled, None).await.unwrap();

    // Given sendings of which no hint tells, when their time comes, then it is seen;
    house.advance(Duration::seconds(60));
    for _ in 0..3 {
        work_off(&mut timekeeper).await;
    }
    for number in 0..3 {
        assert_eq!(house.lot(short, number).await.counts().open, 0, "lot {number}");
    }
    assert_eq!(house.events("sending-completed").await.len(), 2, "what is final, and nothing else");
    assert_eq!(house.events("sending-released").await, []);

    // and what was scheduled is released, once.
    house.advance(Duration::hours(1));
    for _ in 0..3 {
        work_off(&mut timekeeper).await;
    }
    assert_eq!(house.events("sending-released").await.len(), 1);
    assert_eq!(house.events("sending-completed").await.len(), 2);
}

#[tokio::test]
async fn a_router_that_starts_takes_up_what_the_read_model_has_parked() {
    let house = House::furnished().await;
    *house.work.is_blind.lock() = true;
    house.accept(notice(recipients(2))).await.unwrap();
    let mut later = notice(recipients(2));
    later.scheduled_at = Some(noon() + Duration::hours(1));
    house.accept(later).await.unwrap();
    work_off(&mut house.router()).await;
    assert_eq!(house.events("messages-routed").await.len(), 1, "and not before its time");
}
