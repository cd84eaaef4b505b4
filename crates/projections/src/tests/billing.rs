//! What relays charge, by when their prices are due.

use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{LotId, MessageId};
use kite_domain::lot::{ReceiptSet, ReceiptsRecorded, RouteSet};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BillingMoment;
use kite_domain::sending::MessageClass;

use super::delivery::{answered, receipts, routed, submitted};
use super::{Bench, at, lot_accepted, relay, route, sending_accepted, sending_id, seqs, tenant};
use crate::delivery::{Dimension, StatisticsQuery};

fn failed(messages: Vec<u32>, billable_failure: bool) -> Event {
    let set = ReceiptSet {
        attempt: 1,
        status: ReceiptStatus::Undelivered,
        code: "3041".into(),
        class: Some(FailureClass::HandsetTemporary),
        billable_failure,
        at_ms: messages.iter().map(|_| at(90).timestamp_millis()).collect(),
        messages: seqs(messages),
    };
    ReceiptsRecorded { relay: relay("alpha"), sets: vec![set] }.into()
}

/// Seven messages at a relay with a price of nine won: 0 is refused; 1 to 6 are taken; of those 1 and 2 are delivered, 3
/// fails and the relay charges for it, 4 fails for nothing, 5 and 6 are still on their way.
fn billed(bills: BillingMoment) -> Bench {
    billed_with(bills, |_| ())
}

/// [`billed`], and this is done after every event.
fn billed_with(bills: BillingMoment, between: impl Fn(&mut Bench)) -> Bench {
    let mut bench = Bench::new();
    let id = bench.accept(1, 7, MessageClass::Notice);
    let stream = LotId { sending: id, number: 0 }.stream();
    let mut set = route("alpha", 1, seqs(0..7));
    set.bills = bills;
    for (time, event) in [
        (10, routed(vec![set])),
        (20, submitted("alpha", 1, seqs(0..7), 20)),
        (30, answered("alpha", 1, (1..7).collect(), vec![0])),
        (80, receipts("alpha", 1, vec![1, 2], 80)),
        (90, failed(vec![3], true)),
        (91, failed(vec![4], false)),
    ] {
        bench.append(&stream, at(time), vec![event]);
        between(&mut bench);
    }
    bench.project();
    bench
}

fn costs(bench: &Bench) -> [i64; 7] {
    let sending = sending_id(1);
    std::array::from_fn(|seq| {
        let id = MessageId { sending, seq: seq as u32 };
        bench.models.delivery.message(&tenant(), id).unwrap().unwrap().cost_milliwon
    })
}

fn cost_of_all(bench: &Bench) -> [i64; 3] {
    let query = StatisticsQuery { group_by: vec![Dimension::Relay], ..StatisticsQuery::default() };
    let rows = bench.models.delivery.statistics(&query).unwrap();
    let sending = bench.models.delivery.sending(&tenant(), sending_id(1)).unwrap().unwrap();
    let by_relay = rows.iter().map(|row| row.counts.cost_milliwon).sum();
    let totals = bench.models.delivery.totals().unwrap();
    [by_relay, sending.counts.cost_milliwon, totals.counts.cost_milliwon]
}

#[test]
fn a_relay_that_bills_what_it_takes_charges_for_all_of_it_and_for_nothing_that_it_refuses() {
    let bench = billed(BillingMoment::Accepted);
    assert_eq!(costs(&bench), [0, 9_000, 9_000, 9_000, 9_000, 9_000, 9_000]);
    assert_eq!(cost_of_all(&bench), [54_000; 3]);
}

#[test]
fn a_relay_that_bills_what_it_delivers_charges_for_that_and_for_failures_that_it_says_it_bills() {
    let bench = billed(BillingMoment::Delivered);
    assert_eq!(costs(&bench), [0, 9_000, 9_000, 9_000, 0, 0, 0]);
    assert_eq!(cost_of_all(&bench), [27_000; 3]);
}

#[test]
fn what_is_charged_is_the_same_when_every_event_finds_only_what_is_in_the_file() {
    let restarted = |bench: &mut Bench| {
        bench.project();
        bench.restart();
    };
    for bills in [BillingMoment::Accepted, BillingMoment::Delivered] {
        let (at_once, piecemeal) = (billed(bills), billed_with(bills, restarted));
        assert_eq!(costs(&piecemeal), costs(&at_once), "{bills:?}");
        assert_eq!(cost_of_all(&piecemeal), cost_of_all(&at_once), "{bills:?}");
    }
}

#[test]
fn what_is_told_a_second_time_is_not_charged_a_second_time() {
    for (bills, won) in [(BillingMoment::Accepted, 54), (BillingMoment::Delivered, 27)] {
        let mut bench = billed(bills);
        let stream = LotId { sending: sending_id(1), number: 0 }.stream();
        bench.append(&stream, at(100), vec![answered("alpha", 1, (1..7).collect(), vec![0])]);
        bench.append(&stream, at(101), vec![receipts("alpha", 1, vec![1, 2], 80), failed(vec![3], true)]);
        bench.project();
        assert_eq!(cost_of_all(&bench), [won * 1_000; 3], "{bills:?}");
    }
}

/// Two relays with prices and moments of their own, and messages of three parts: no two of the sums are alike.
#[test]
fn each_attempt_costs_what_its_own_relay_charges_for_all_parts_of_the_message() {
    let mut bench = Bench::new();
    let id = sending_id(1);
    let stream = LotId { sending: id, number: 0 }.stream();
    let mut lot = lot_accepted(id, 0, 2, MessageClass::Notice);
    lot.groups[0].parts = 3;
    bench.append(&stream, at(0), vec![lot.into()]);
    bench.append(&id.stream(), at(1), vec![sending_accepted(id, 1, 2, MessageClass::Notice).into()]);
    let first =
        RouteSet { price_milliwon: 7_000, bills: BillingMoment::Accepted, ..route("alpha", 1, seqs([0, 1])) };
    let second = RouteSet { price_milliwon: 11_000, ..route("beta", 2, seqs([0])) };
    for (time, event) in [
        (10, routed(vec![first])),
        (20, submitted("alpha", 1, seqs([0, 1]), 20)),
        (30, answered("alpha", 1, vec![0, 1], vec![])),
        (40, failed(vec![0], false)),
        (41, routed(vec![second])),
        (50, submitted("beta", 2, seqs([0]), 50)),
        (60, answered("beta", 2, vec![0], vec![])),
        (70, receipts("beta", 2, vec![0], 65)),
    ] {
        bench.append(&stream, at(time), vec![event]);
    }
    bench.project();
    let cost = |seq| {
        let message = bench.models.delivery.message(&tenant(), MessageId { sending: id, seq });
        message.unwrap().unwrap().cost_milliwon
    };
    assert_eq!([cost(0), cost(1)], [54_000, 21_000]);
    let query = StatisticsQuery { group_by: vec![Dimension::Relay], ..StatisticsQuery::default() };
    let rows = bench.models.delivery.statistics(&query).unwrap();
    let of = |name: &str| {
        let row = rows.iter().find(|row| row.relay == Some(relay(name))).unwrap();
        row.counts.cost_milliwon
    };
    assert_eq!((of("alpha"), of("beta")), (42_000, 33_000));
    let sending = bench.models.delivery.sending(&tenant(), id).unwrap().unwrap();
    assert_eq!(sending.counts.cost_milliwon, 75_000);
}
