//! Receipts come in whatever order, more than once, or for nobody.

use chrono::Duration;
use kite_commands::WriteSide;
use kite_commands::receipts::ReceiptSummary;
use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{AttemptReference, LotId, MessageId, SendingId};
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::receipt::{ParkedReceipt, RawReceipt, ReceiptStatus};
use kite_domain::sender::SenderKind;
use kite_domain::text::MessageType;
use kite_event_store::Filter;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

use crate::faulty_store::Fault;
use crate::house::*;

pub(crate) fn receipt(
    sending: SendingId,
    seq: u32,
    attempt: u16,
    status: ReceiptStatus,
    code: &str,
) -> RawReceipt {
    RawReceipt {
        reference: AttemptReference { message: MessageId { sending, seq }, attempt }.to_string().into(),
        relay_reference: None,
        status,
        code: code.into(),
        at: noon(),
    }
}

#[tokio::test]
async fn receipts_are_recorded_once_and_mean_what_the_dictionary_says() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(10).await;
    let alpha = sets[0].1.as_slice();
    assert_eq!(sets[0].0, relay("alpha"));
    let receipts = vec![
        receipt(sending, alpha[0], 1, ReceiptStatus::Delivered, "4000"),
        receipt(sending, alpha[1], 1, ReceiptStatus::Undelivered, "3012"),
        receipt(sending, alpha[2], 1, ReceiptStatus::Undelivered, "3032"),
        receipt(sending, alpha[3], 1, ReceiptStatus::Undelivered, "no such code"),
    ];
    let summary = house.receipts.record(&relay("alpha"), receipts.clone()).await.unwrap();
    assert_eq!(summary, ReceiptSummary { matched: 4, parked: 0 });
    let lot = house.lot(sending, 0).await;
    let outcome = |place: usize| lot.message(alpha[place]).unwrap().outcome;
    assert_eq!(outcome(0), Some(Outcome::Delivered));
    assert_eq!(outcome(1), None, "an error of the relay: the next relay");
    assert_eq!(lot.message(alpha[1]).unwrap().attempts.last().unwrap().state, AttemptState::Routed);
    assert_eq!(outcome(2), Some(Outcome::Undelivered), "no such number");
    assert_eq!(outcome(3), Some(Outcome::Undelivered), "an unknown code is never guessed");

    let before = house.log().await.len();
    let again = house.receipts.record(&relay("alpha"), receipts).await.unwrap();
    assert_eq!(again, ReceiptSummary { matched: 4, parked: 0 });
    assert_eq!(house.log().await.len(), before, "a repeat is no news");
}

#[tokio::test]
async fn one_delivery_may_speak_of_many_lots() {
    let house = House::furnished().await;
    let mut receipts = Vec::new();
    for _ in 0..3 {
        let (sending, sets) = house.handed_over(4).await;
        for (carrier, messages) in sets {
            if carrier == relay("alpha") {
                receipts.extend(
                    messages.iter().map(|seq| receipt(sending, seq, 1, ReceiptStatus::Delivered, "4000")),
                );
            }
        }
    }
    let count = receipts.len();
    let summary = house.receipts.record(&relay("alpha"), receipts).await.unwrap();
    assert_eq!(summary, ReceiptSummary { matched: count, parked: 0 });
    assert_eq!(house.events("receipts-recorded").await.len(), 3, "one event per lot");
}

#[tokio::test]
async fn what_fits_nothing_is_parked_and_found_later() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(1))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    let carrier = house.lot(sending, 0).await.pending()[0].relay.clone();
    // Routed, not handed over: nobody can have delivered it.
    let foreign = receipt(SendingId(Uuid::from_u128(9)), 3, 1, ReceiptStatus::Delivered, "4000");
    let early = receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000");
    let nonsense = RawReceipt { reference: "hello".into(), ..foreign.clone() };
    let receipts = vec![early, foreign.clone(), nonsense];
    let summary = house.receipts.record(&carrier, receipts).await.unwrap();
    assert_eq!(summary, ReceiptSummary { matched: 0, parked: 3 });
    assert_eq!(house.lot(sending, 0).await.counts().open, 1);

    let mut timekeeper = house.timekeeper();
    work_off(&mut timekeeper).await;
    assert_eq!(house.events("parked-receipts-settled").await, [], "nothing fits yet");
    house.hand_over(sending, 0).await;
    house.advance(Duration::seconds(31));
    work_off(&mut timekeeper).await;
    assert_eq!(house.lot(sending, 0).await.counts().delivered, 1);
    let settled = house.events("parked-receipts-settled").await;
    let [Event::ParkedReceiptsSettled(settled)] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((settled.matched.len(), settled.given_up.len()), (1, 0));

    house.advance(Duration::hours(82));
    work_off(&mut timekeeper).await;
    let settled = house.events("parked-receipts-settled").await;
    let Some(Event::ParkedReceiptsSettled(settled)) = settled.last() else { panic!("{settled:?}") };
    let given_up: HashSet<_> = settled.given_up.iter().map(|one| one.reference.clone()).collect();
    assert_eq!(
        given_up,
        HashSet::from([foreign.reference, "hello".into()]),
        "given up after the longest deadline"
    );
}

/// It waits for a process that understands the lot. The others of the call go on.
#[tokio::test]
async fn a_receipt_of_a_lot_that_a_newer_program_has_written_to_is_parked() {
    let house = House::furnished().await;
    house.define_policy("acme", shares(&[("alpha", 10_000)])).await;
    let mut receipts = Vec::new();
    let mut of_tomorrow = None;
    for _ in 0..2 {
        let (sending, _) = house.handed_over(1).await;
        receipts.push(receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000"));
        of_tomorrow = Some(LotId { sending, number: 0 });
    }
    crate::seals::put(&house, &of_tomorrow.unwrap().stream(), "of-tomorrow", "{}").await;
    // Whoever still had it in memory as it was would not see that.
    let house = house.restarted().await;
    let summary = house.receipts.record(&relay("alpha"), receipts.clone()).await.unwrap();
    assert_eq!(summary, ReceiptSummary { matched: 1, parked: 1 });
    let (parked, _) = house.journal.read_all(0, 100, &Filter::kinds(["receipts-parked"])).await.unwrap();
    let [Event::ReceiptsParked(parked)] = &parked.iter().map(|told| &told.event).collect::<Vec<_>>()[..]
    else {
        panic!("{parked:?}")
    };
    assert_eq!(parked.receipts, receipts[1..]);
}

/// Of a relay that it does not know yet a process cannot say what a code means.
#[tokio::test]
async fn a_receipt_is_read_by_what_the_log_says_of_its_relay_now() {
    let house = House::furnished().await;
    let journal = house.journal.clone().shared();
    let other = WriteSide::new(journal.clone(), 1_000, Arc::new(|| [7; 32]));
    other.directory.catch_up(&journal).await.unwrap();
    house.manage.define_relay(&cause(), profile("delta", &[(MessageType::Sms, 8_000)])).await.unwrap();
    house.register("acme", "025550177", SenderKind::Phone, &["delta"]).await;
    house.define_policy("acme", shares(&[("delta", 10_000)])).await;
    let mut request = notice(recipients(1));
    request.from_phone = Some("02-555-0177".to_owned());
    let sending = house.accept(request).await.unwrap().sending;
    work_off(&mut house.router()).await;
    house.hand_over(sending, 0).await;
    house.advance(Duration::seconds(2));
    let unknown_number = receipt(sending, 0, 1, ReceiptStatus::Undelivered, "3032");
    other.receipts.record(&relay("delta"), vec![unknown_number]).await.unwrap();
    let recorded = house.events("receipts-recorded").await;
    let [Event::ReceiptsRecorded(recorded)] = &recorded[..] else { panic!("{recorded:?}") };
    assert_eq!(recorded.sets[0].class, Some(FailureClass::HandsetPermanent));

    // One that is too old to know says so. The relay tells it again, and perhaps to another.
    crate::seals::put_of_tomorrow(&house, "relay-delta", "relay-defined").await;
    house.advance(Duration::seconds(2));
    let delivered = receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000");
    let told = other.receipts.record(&relay("delta"), vec![delivered]).await;
    assert!(matches!(&told, Err(error) if error.is_of_newer_program()), "{told:?}");
}

#[tokio::test]
async fn what_is_parked_while_its_reference_is_tried_again_stays_parked() {
    let house = House::furnished().await;
    let sending = house.accept(notice(recipients(1))).await.unwrap().sending;
    work_off(&mut house.router()).await;
    let carrier = house.lot(sending, 0).await.pending()[0].relay.clone();
    // Given: both came before their message was handed over; of the first alone the retry knows.
    let undelivered = receipt(sending, 0, 1, ReceiptStatus::Undelivered, "3032");
    let delivered = receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000");
    house.receipts.record(&carrier, vec![undelivered]).await.unwrap();
    let known = house.work.parked(&carrier).await;
    house.receipts.record(&carrier, vec![delivered.clone()]).await.unwrap();
    house.hand_over(sending, 0).await;

    // When it settles the first,
    let before = noon() - Duration::hours(1);
    assert_eq!(house.receipts.retry_parked(&carrier, &known, before).await.unwrap(), 1);

    // then the second still waits, and is found by the next retry.
    let waiting = house.work.parked(&carrier).await;
    assert_eq!(waiting.iter().map(|one| &one.receipt).collect::<Vec<_>>(), [&delivered]);
    work_off(&mut house.timekeeper()).await;
    assert_eq!(house.lot(sending, 0).await.message(0).unwrap().outcome, Some(Outcome::Delivered));
    assert!(house.work.parked(&carrier).await.is_empty());
}

#[tokio::test]
async fn another_relay_cannot_speak_for_an_attempt() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(1).await;
    let other = if sets[0].0 == relay("beta") { relay("gamma") } else { relay("beta") };
    let forged = receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000");
    let summary = house.receipts.record(&other, vec![forged]).await.unwrap();
    assert_eq!(summary.parked, 1);
    assert_eq!(house.lot(sending, 0).await.counts().open, 1);
}

#[tokio::test]
async fn a_receipt_is_acknowledged_only_when_it_is_in_the_log() {
    for fault in [Fault::Busy, Fault::LostBefore, Fault::LostAfter] {
        let house = House::furnished().await;
        let (sending, sets) = house.handed_over(1).await;
        let said = vec![receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000")];
        house.store.fail(0, fault);
        assert!(house.receipts.record(&sets[0].0, said.clone()).await.is_err(), "{fault:?}");
        house.store.heal();
        // The relay says it again.
        assert_eq!(house.receipts.record(&sets[0].0, said).await.unwrap().matched, 1);
        assert_eq!(house.lot(sending, 0).await.counts().delivered, 1);
        assert_eq!(house.events("receipts-recorded").await.len(), 1, "{fault:?}");
    }
}

/// Those that found their message are in the log by then.
#[tokio::test]
async fn a_receipt_that_fits_nothing_is_acknowledged_only_when_it_is_parked() {
    for fault in [Fault::Busy, Fault::Unavailable, Fault::LostBefore] {
        let house = House::furnished().await;
        let (sending, sets) = house.handed_over(1).await;
        let carrier = &sets[0].0;
        let own = receipt(sending, 0, 1, ReceiptStatus::Delivered, "4000");
        let foreign = receipt(SendingId(Uuid::from_u128(9)), 3, 1, ReceiptStatus::Delivered, "4000");
        let said = vec![own, foreign.clone()];
        house.store.fail(1, fault);
        assert!(house.receipts.record(carrier, said.clone()).await.is_err(), "{fault:?}");
        assert!(!house.store.is_armed(), "{fault:?} did not happen");
        house.store.heal();
        let again = house.receipts.record(carrier, said).await.unwrap();
        assert_eq!(again, ReceiptSummary { matched: 1, parked: 1 }, "{fault:?}");
        assert_eq!(house.events("receipts-recorded").await.len(), 1, "{fault:?}");
        let parked = house.work.parked(carrier).await;
        let references: Vec<_> = parked.iter().map(|one| one.receipt.reference.clone()).collect();
        assert_eq!(references, [foreign.reference], "{fault:?}");
    }
}

#[tokio::test]
async fn a_conflict_with_another_process_is_decided_anew() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(10).await;
    let other = house.restarted().await;
    let (carrier, messages) = &sets[0];
    let said = |seq| vec![receipt(sending, seq, 1, ReceiptStatus::Delivered, "4000")];
    for seq in messages {
        // Each knows the lot as it was before the other wrote.
        let process = if seq % 2 == 0 { &house } else { &other };
        process.receipts.record(carrier, said(seq)).await.unwrap();
    }
    assert_eq!(house.lot(sending, 0).await.counts().delivered as usize, messages.len());
}

#[tokio::test]
async fn a_parked_receipt_is_given_up_only_when_it_came_before_the_moment_that_is_named() {
    let house = House::furnished().await;
    let nobodys = receipt(SendingId(Uuid::from_u128(9)), 0, 1, ReceiptStatus::Delivered, "4000");
    let parked = [ParkedReceipt { parked_at: noon(), receipt: nobodys }];
    let given_up =
        async |before| house.receipts.retry_parked(&relay("alpha"), &parked, before).await.unwrap();
    assert_eq!(given_up(noon()).await, 0, "it came at that moment");
    assert_eq!(house.events("parked-receipts-settled").await, []);
    assert_eq!(given_up(noon() + Duration::milliseconds(1)).await, 1);
}
