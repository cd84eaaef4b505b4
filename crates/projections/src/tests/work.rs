//! Open work.

use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::LotId;
use kite_domain::lot::{MessagesFinished, Outcome, ReceiptSet, ReceiptsRecorded, RefusedSet, RelayResponded};
use kite_domain::not_understood::{Misread, MisreadReason, SaidHow};
use kite_domain::receipt::{ParkedReceiptsSettled, ParkedStretch, RawReceipt, ReceiptStatus, ReceiptsParked};
use kite_domain::sending::{
    MessageClass, SendingAbandoned, SendingCancelled, SendingCompleted, SendingReleased,
};

use super::delivery::{answered, receipts, routed, submitted};
use super::{Bench, at, lot_accepted, relay, route, sending_accepted, sending_id, seqs, tenant};
use crate::work::Backlog;

#[test]
fn a_sending_is_work_from_its_seal_until_it_is_completed() {
    let mut bench = Bench::new();
    let id = sending_id(1);
    let lot = LotId { sending: id, number: 0 };
    bench.append(&lot.stream(), at(0), vec![lot_accepted(id, 0, 2, MessageClass::Notice).into()]);
    bench.project();
    let work = bench.models.work.clone();
    assert!(
        work.unrouted_sendings(None, 9).unwrap().is_empty() && work.backlog().unwrap() == Backlog::default()
    );
    assert_eq!(work.unsealed_sendings(at(1), 9).unwrap(), [id]);
    assert!(work.unsealed_sendings(at(0), 9).unwrap().is_empty());

    let sealed = sending_accepted(id, 1, 2, MessageClass::Notice);
    let expires_ms = sealed.expires_at.timestamp_millis();
    bench.append(&id.stream(), at(1), vec![sealed.into()]);
    bench.project();
    assert_eq!(work.unrouted_sendings(None, 9).unwrap()[0].id, id);
    assert_eq!(work.unrouted_lots(id, None, 9).unwrap(), [0]);
    assert_eq!(work.backlog().unwrap(), Backlog { open_messages: 2, open_sendings: 1 });
    assert_eq!(work.backlog_of(&tenant()).unwrap().open_messages, 2);
    assert!(work.unsealed_sendings(at(9), 9).unwrap().is_empty());
    assert!(work.due_lots(expires_ms - 1, 9).unwrap().is_empty());
    assert_eq!(work.due_lots(expires_ms, 9).unwrap(), [lot]);

    bench.append(&lot.stream(), at(2), vec![routed(vec![route("alpha", 1, seqs([0, 1]))])]);
    bench.restart();
    bench.project();
    let work = bench.models.work.clone();
    assert!(work.unrouted_sendings(None, 9).unwrap().is_empty());
    let waiting = work.lots_to_sweep(None, 9).unwrap();
    assert!(waiting.len() == 1 && waiting[0].has_pending && !waiting[0].has_unrouted);
    assert!(work.lots_to_sweep(Some(lot), 9).unwrap().is_empty());

    bench.append(&lot.stream(), at(3), vec![submitted("alpha", 1, seqs([0, 1]), 3)]);
    bench.append(&lot.stream(), at(4), vec![answered("alpha", 1, vec![0, 1], vec![])]);
    bench.restart();
    bench.project();
    let work = bench.models.work.clone();
    assert!(work.lots_to_sweep(None, 9).unwrap().is_empty(), "it waits for receipts only");
    assert_eq!(work.due_lots(at(3 + 3_600_000).timestamp_millis(), 9).unwrap(), [lot]);

    bench.append(&lot.stream(), at(5), vec![receipts("alpha", 1, vec![0, 1], 5)]);
    bench.project();
    assert_eq!(work.completed_sendings(9).unwrap(), [id]);
    assert_eq!(work.backlog().unwrap(), Backlog { open_messages: 0, open_sendings: 1 });
    bench.append(&id.stream(), at(6), vec![SendingCompleted { sending: id }.into()]);
    bench.append(&lot.stream(), at(7), vec![receipts("alpha", 1, vec![0], 7)]);
    bench.project();
    assert_eq!(work.backlog().unwrap(), Backlog::default());
    assert!(work.completed_sendings(9).unwrap().is_empty());
}

#[test]
fn the_most_urgent_sending_comes_first_and_a_scheduled_one_when_it_is_due() {
    let mut bench = Bench::new();
    bench.accept(1, 1, MessageClass::Ad);
    bench.accept(2, 1, MessageClass::Notice);
    bench.accept(3, 1, MessageClass::Otp);
    let later = sending_id(4);
    let lot = LotId { sending: later, number: 0 };
    bench.append(&lot.stream(), at(0), vec![lot_accepted(later, 0, 1, MessageClass::Otp).into()]);
    let mut sealed = sending_accepted(later, 1, 1, MessageClass::Otp);
    sealed.scheduled_at = Some(at(5_000));
    bench.append(&later.stream(), at(1), vec![sealed.into()]);
    bench.project();
    let work = bench.models.work.clone();
    let order = || work.unrouted_sendings(None, 9).unwrap().into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(order(), [3, 2, 1].map(sending_id));
    assert!(work.due_scheduled(at(4_999), 9).unwrap().is_empty());
    assert_eq!(work.due_scheduled(at(5_000), 9).unwrap(), [later]);
    bench.append(&later.stream(), at(5_001), vec![SendingReleased { sending: later }.into()]);
    bench.project();
    assert_eq!(order(), [3, 4, 2, 1].map(sending_id));
    assert!(work.due_scheduled(at(9_000), 9).unwrap().is_empty());
}

#[test]
fn a_router_gets_every_unrouted_sending_however_small_the_pages() {
    let mut bench = Bench::new();
    for number in 1..=7 {
        let class = MessageClass::ALL[number as usize % 3];
        bench.accept(number, 1, class);
    }
    bench.project();
    let ids = |numbers: [u128; 7]| numbers.map(sending_id);
    let in_order = ids([3, 6, 1, 4, 7, 2, 5]);
    for page_max in [1, 2, 7, 8] {
        let place = bench.models.router_place(page_max, None).unwrap();
        assert_eq!((place.position, &place.unrouted[..]), (14, &in_order[..]), "pages of {page_max}");
    }
}

#[test]
fn a_cancelled_sending_is_no_longer_routed_and_shows_what_is_left() {
    let mut bench = Bench::new();
    let id = bench.accept(1, 2, MessageClass::Notice);
    let lot = LotId { sending: id, number: 0 };
    bench.append(&id.stream(), at(2), vec![SendingCancelled { sending: id, reason: None }.into()]);
    bench.project();
    let work = bench.models.work.clone();
    assert!(work.unrouted_sendings(None, 9).unwrap().is_empty());
    assert_eq!(work.cancelled_sendings(9).unwrap(), [id]);
    assert_eq!(work.cancelled_open_lots(id, None, 9).unwrap(), [lot]);
    let finished = MessagesFinished {
        messages: seqs([0, 1]),
        outcome: Outcome::Cancelled,
        reason: "cancelled".into(),
        class: None,
    };
    bench.append(&lot.stream(), at(3), vec![finished.into()]);
    bench.project();
    assert!(work.cancelled_sendings(9).unwrap().is_empty());
    assert_eq!(work.completed_sendings(9).unwrap(), [id]);
}

#[test]
fn an_abandoned_sending_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let id = sending_id(1);
    let lot = LotId { sending: id, number: 0 };
    bench.append(&lot.stream(), at(0), vec![lot_accepted(id, 0, 2, MessageClass::Notice).into()]);
    bench.append(&id.stream(), at(1), vec![SendingAbandoned { sending: id }.into()]);
    bench.project();
    assert!(bench.models.work.unsealed_sendings(at(99), 9).unwrap().is_empty());
    assert_eq!(bench.models.delivery.totals().unwrap().counts.messages, 0);
    assert!(bench.models.delivery.sending(&tenant(), id).unwrap().is_none());
}

/// All that is parked of relay alpha.
fn parked_at_alpha() -> ParkedStretch {
    ParkedStretch { relay: relay("alpha"), from: at(0), after: None, until: at(9_000) }
}

fn receipt(reference: &str, status: ReceiptStatus) -> RawReceipt {
    RawReceipt {
        reference: reference.into(),
        relay_reference: Some("r-1".into()),
        status,
        code: "4000".into(),
        at: at(1),
    }
}

#[test]
fn parked_receipts_are_read_stretch_by_stretch() {
    let mut bench = Bench::new();
    let both = [ReceiptStatus::Delivered, ReceiptStatus::Undelivered];
    for (time_ms, references) in [(2, ["b", "a"]), (5, ["d", "c"])] {
        let receipts = references.into_iter().flat_map(|name| both.map(|status| receipt(name, status)));
        let parked = ReceiptsParked { relay: relay("alpha"), receipts: receipts.collect() };
        bench.append("receipts-alpha", at(time_ms), vec![parked.into()]);
    }
    let of_another = ReceiptsParked { relay: relay("beta"), receipts: vec![receipt("a", both[0])] };
    bench.append("receipts-beta", at(3), vec![of_another.into()]);
    bench.project();
    let work = bench.models.work.clone();

    // Page by page, nothing twice, nothing left out.
    for page_max in [1, 3, 8, 9] {
        let mut stretch = parked_at_alpha();
        let mut found = Vec::new();
        loop {
            let page = work.parked_receipts(&stretch, page_max).unwrap();
            let Some(last) = page.last() else { break };
            (stretch.from, stretch.after) = (last.parked_at, Some((&last.receipt).into()));
            found.extend(page.into_iter().map(|one| one.receipt));
        }
        let all: Vec<RawReceipt> = ["a", "b", "c", "d"]
            .into_iter()
            .flat_map(|name| both.map(|status| receipt(name, status)))
            .collect();
        assert_eq!(found, all, "pages of {page_max}");
    }

    // Both ends belong to a stretch.
    let count = |from_ms, until_ms| {
        let stretch = ParkedStretch { from: at(from_ms), until: at(until_ms), ..parked_at_alpha() };
        work.parked_receipts(&stretch, 9).unwrap().len()
    };
    assert_eq!((count(2, 5), count(2, 4), count(3, 5), count(3, 4), count(5, 5)), (8, 4, 4, 0, 4));
    assert_eq!(work.parked_relays().unwrap(), [relay("alpha"), relay("beta")]);
}

#[test]
fn parked_receipts_wait_until_they_are_settled() {
    let mut bench = Bench::new();
    let receipt = |reference| receipt(reference, ReceiptStatus::Delivered);
    let parked = ReceiptsParked { relay: relay("alpha"), receipts: vec![receipt("one"), receipt("two")] };
    bench.append("receipts-alpha", at(2), vec![parked.clone().into(), parked.into()]);
    bench.project();
    let work = bench.models.work.clone();
    assert_eq!(work.parked_relays().unwrap(), [relay("alpha")]);
    let waiting = work.parked_receipts(&parked_at_alpha(), 9).unwrap();
    assert_eq!((waiting.len(), &waiting[0].receipt, waiting[0].parked_at), (2, &receipt("one"), at(2)));
    let settled = ParkedReceiptsSettled {
        relay: relay("alpha"),
        matched: vec![(&receipt("one")).into()],
        given_up: vec![(&receipt("two")).into()],
    };
    bench.append("receipts-alpha", at(3), vec![settled.into()]);
    bench.project();
    assert!(work.parked_relays().unwrap().is_empty());
}

#[test]
fn a_settlement_settles_one_status_of_a_reference_or_all_if_it_names_none() {
    let mut bench = Bench::new();
    let both = [ReceiptStatus::Undelivered, ReceiptStatus::Delivered];
    let receipts = ["one", "two"].into_iter().flat_map(|name| both.map(|status| receipt(name, status)));
    let parked = ReceiptsParked { relay: relay("alpha"), receipts: receipts.collect() };
    let settled = ParkedReceiptsSettled {
        relay: relay("alpha"),
        matched: vec![(&receipt("one", ReceiptStatus::Undelivered)).into()],
        given_up: Vec::new(),
    };
    let before_statuses = br#"{"relay":"alpha","matched":[],"given_up":["two"]}"#.to_vec();
    bench.append("receipts-alpha", at(2), vec![parked.into(), settled.into()]);
    bench.append_raw("receipts-alpha", at(3), vec![("parked-receipts-settled", 1, before_statuses)]);
    bench.project();
    let waiting = bench.models.work.parked_receipts(&parked_at_alpha(), 9).unwrap();
    let waiting: Vec<&RawReceipt> = waiting.iter().map(|one| &one.receipt).collect();
    assert_eq!(waiting, [&receipt("one", ReceiptStatus::Delivered)]);
}

#[test]
fn what_was_not_understood_is_listed_newest_first_and_page_by_page() {
    let mut bench = Bench::new();
    let said = |name: &str, raw: &str| -> Event {
        let reason = MisreadReason::NoTime;
        let misread = Misread { row: Some(4), field: Some("at".into()), reason, raw: raw.to_owned() };
        misread.kept(&relay(name), SaidHow::Pulled).into()
    };
    bench.append("not-understood-alpha-19700101", at(1), vec![said("alpha", "one"), said("alpha", "two")]);
    bench.append("not-understood-beta-19700101", at(2), vec![said("beta", "of another")]);
    bench.append("not-understood-alpha-19700102", at(3), vec![said("alpha", "three")]);
    bench.project();
    let work = bench.models.work.clone();
    let first = work.not_understood(&relay("alpha"), None, 2).unwrap();
    let raws: Vec<&str> = first.items.iter().map(|one| one.raw.as_str()).collect();
    assert_eq!(raws, ["three", "two"]);
    let newest = &first.items[0];
    assert_eq!((newest.kept_at, newest.how, newest.reason), (at(3), SaidHow::Pulled, MisreadReason::NoTime));
    assert_eq!((newest.row, newest.field.as_deref(), newest.raw_bytes), (Some(4), Some("at"), 5));
    let second = work.not_understood(&relay("alpha"), first.next.as_ref(), 2).unwrap();
    assert_eq!((second.items[0].raw.as_str(), second.next), ("one", None));
    let count = work.not_understood_count(&relay("alpha")).unwrap().unwrap();
    assert_eq!((count.kept, count.newest_at), (3, at(3)));
    assert_eq!(work.not_understood_count(&relay("gamma")).unwrap(), None);
}

#[test]
fn codes_without_a_class_are_counted_by_message_with_the_newest_time() {
    let mut bench = Bench::new();
    let id = bench.accept(1, 6, MessageClass::Notice);
    let lot = LotId { sending: id, number: 0 }.stream();
    bench.append(&lot, at(2), vec![routed(vec![route("alpha", 1, seqs(0..6))])]);
    bench.append(&lot, at(3), vec![submitted("alpha", 1, seqs(0..6), 3)]);
    let refused = |code: &str, class, messages| RefusedSet { messages, code: code.into(), class, text: None };
    let responded = RelayResponded {
        relay: relay("alpha"),
        attempt: 1,
        call_ms: None,
        accepted: None,
        refused: vec![
            refused("9876", FailureClass::Unclassified, seqs([0, 1])),
            refused("3032", FailureClass::HandsetPermanent, seqs([2])),
        ],
        unknown: None,
        deferred: None,
        refused_for_now: Vec::new(),
    };
    bench.append(&lot, at(4), vec![responded.into()]);
    let set = |code: &str, seq| ReceiptSet {
        attempt: 1,
        status: ReceiptStatus::Undelivered,
        code: code.into(),
        class: Some(FailureClass::Unclassified),
        billable_failure: false,
        messages: seqs([seq]),
        at_ms: vec![5],
    };
    let recorded = ReceiptsRecorded { relay: relay("alpha"), sets: vec![set("9876", 3), set("77", 4)] };
    bench.append(&lot, at(7), vec![recorded.into()]);
    bench.project();
    let codes = bench.models.work.unclassified_codes(&relay("alpha")).unwrap();
    let codes: Vec<_> = codes.iter().map(|one| (one.code.as_str(), one.times, one.newest_at)).collect();
    assert_eq!(codes, [("9876", 3, at(7)), ("77", 1, at(7))]);
    assert!(bench.models.work.unclassified_codes(&relay("beta")).unwrap().is_empty());
}
