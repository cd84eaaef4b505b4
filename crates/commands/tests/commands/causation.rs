//! Every event names the one that it follows from, so that a result can be followed back to the request.

use kite_domain::ids::{AttemptReference, MessageId};
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
