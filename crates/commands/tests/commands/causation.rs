//! Every event names the one that it follows from, so that a result can be followed back to the request.

use chrono::Duration;
use kite_commands::accept::{Earlier, Idempotency};
use kite_commands::{TraceParent, Worker, trace};
use kite_domain::ids::{AttemptReference, MessageId, SendingId};
use kite_domain::receipt::{RawReceipt, ReceiptStatus};
use std::collections::HashMap;

use crate::house::*;

#[tokio::test]
async fn a_receipt_is_followed_back_to_the_acceptance() {
    let house = House::furnished().await;
    let (sending, sets) = house.handed_over(3).await;
    let (carrier, messages) = &sets[0];
    house.respond(sending, 0, carrier.as_str(), 1, accepted(messages)).await;
    let receipt = RawReceipt {
        reference: AttemptReference {
            message: MessageId { sending, seq: messages.as_slice()[0] },
            attempt: 1,
        }
        .to_string()
        .into(),
        relay_reference: None,
        status: ReceiptStatus::Delivered,
        code: "4000".into(),
        at: noon(),
    };
    house.receipts.record(carrier, vec![receipt]).await.unwrap();

    let log = house.log().await;
    let by_id: HashMap<_, _> = log.iter().map(|told| (told.recorded.id, &told.recorded)).collect();
    let mut event =
        log.iter().map(|told| &told.recorded).find(|one| one.kind == "receipts-recorded").unwrap();
    let mut kinds = vec![event.kind.as_str()];
    while let Some(before) = event.metadata.causation {
        event = by_id[&before];
        kinds.push(event.kind.as_str());
    }
    kinds.dedup();
    assert_eq!(
        kinds,
        ["receipts-recorded", "relay-responded", "messages-submitted", "messages-routed", "lot-accepted"]
    );
    let seal = log.iter().find(|told| told.recorded.kind == "sending-accepted").unwrap();
    assert_eq!(by_id[&seal.recorded.metadata.causation.unwrap()].kind, "lot-accepted");
}

/// The traces in the log of the events of a sending.
async fn traces(house: &House, sending: SendingId) -> Vec<(String, Option<TraceParent>)> {
    let log = house.log().await.into_iter().map(|told| told.recorded);
    let of_sending = log.filter(|one| one.metadata.correlation == sending.0);
    of_sending.map(|one| (one.kind.to_string(), one.metadata.traceparent)).collect()
}

#[tokio::test]
async fn whatever_follows_for_a_sending_stays_in_the_trace_that_it_was_accepted_in() {
    let house = House::furnished().await;
    let trace = trace::begin(&[b"the customer's"]);
    let cause = cause().in_trace(Some(trace));
    let idempotency = Idempotency { key: "one".to_owned(), body_hash: "body".to_owned() };
    let (tenant, request) = (acme(), notice(recipients(3)));
    let earlier = house.acceptance.earlier(&cause, &tenant, request.class, idempotency).await.unwrap();
    let Earlier::Nothing(key) = earlier else { panic!("nothing was accepted under it") };
    let sending = house.acceptance.accept(&cause, &tenant, request, key).await.unwrap().sending;
    let other = house.accept(notice(recipients(3))).await.unwrap().sending;

    // Whoever goes on with it has only the log to know it from.
    let house = house.restarted().await;
    work_off(&mut house.router()).await;
    let sets = house.lot(sending, 0).await.pending();
    assert_eq!(house.hand_over(sending, 0).await, 3);
    let house = house.restarted().await;
    for set in sets {
        house.respond(sending, 0, set.relay.as_str(), 1, accepted(&set.messages)).await;
    }
    house.advance(Duration::hours(30));
    let mut timekeeper = house.timekeeper();
    for _ in 0..3 {
        timekeeper.step().await.unwrap();
    }

    let traces_of_it = traces(&house, sending).await;
    let kinds: Vec<&str> = traces_of_it.iter().map(|(kind, _)| kind.as_str()).collect();
    for kind in
        ["sending-claimed", "lot-accepted", "sending-accepted", "messages-routed", "sending-completed"]
    {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert!(traces_of_it.iter().all(|(_, told)| *told == Some(trace)), "{traces_of_it:?}");
    let others = traces(&house, other).await;
    assert!(others.len() > 2 && others.iter().all(|(_, told)| told.is_none()), "{others:?}");
}
