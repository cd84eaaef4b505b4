//! What relays charge, by when their prices are due.

use kite_domain::event::Event;
use kite_domain::failure::FailureClass;
use kite_domain::ids::{LotId, MessageId};
use kite_domain::lot::{MessagesRouted, ReceiptSet, ReceiptsRecorded};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BillingMoment;
use kite_domain::sending::MessageClass;

use super::delivery::{answered, receipts, submitted};
use super::{Bench, at, relay, route, seqs, tenant};
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
    let mut bench = Bench::new();
    let id = bench.accept(1, 7, MessageClass::Notice);
    let stream = LotId { sending: id, number: 0 }.stream();
    let mut set = route("alpha", 1, seqs(0..7));
    set.bills = bills;
    bench.append(&stream, at(10), vec![MessagesRouted { routes: vec![set], splits: vec![] }.into()]);
    bench.append(&stream, at(20), vec![submitted("alpha", 1, seqs(0..7), 20)]);
    bench.append(&stream, at(30), vec![answered("alpha", 1, (1..7).collect(), vec![0])]);
    bench.append(&stream, at(80), vec![receipts("alpha", 1, vec![1, 2], 80)]);
    bench.append(&stream, at(90), vec![failed(vec![3], true)]);
    bench.append(&stream, at(91), vec![failed(vec![4], false)]);
    bench.project();
    bench
}

fn costs(bench: &Bench) -> [i64; 7] {
    let sending = super::sending_id(1);
    std::array::from_fn(|seq| {
        let id = MessageId { sending, seq: seq as u32 };
        bench.models.delivery.message(&tenant(), id).unwrap().unwrap().cost_milliwon
    })
}

fn cost_of_all(bench: &Bench) -> [i64; 3] {
    let query = StatisticsQuery { group_by: vec![Dimension::Relay], ..StatisticsQuery::default() };
    let rows = bench.models.delivery.statistics(&query).unwrap();
    let sending = bench.models.delivery.sending(&tenant(), super::sending_id(1)).unwrap().unwrap();
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
