//! What a lot takes in memory.

use super::*;
use crate::lot::{LotPersonal, TypeGroup};
use crate::text::MessageType;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A lot whose messages have been routed, with this value for a variable of each.
fn lot(messages: u32, value: Option<&str>) -> Lot {
    let variables: BTreeMap<SmolStr, String> =
        value.map(|value| ("name".into(), value.to_owned())).into_iter().collect();
    let recipient = |seq| Recipient {
        to: format!("0100000{seq:04}").into(),
        email: None,
        contact: None,
        reference: None,
        variables: variables.clone(),
    };
    let mut lot = Lot::new(&LotAccepted {
        sending: SendingId(Uuid::nil()),
        tenant: TenantId::parse("acme").unwrap(),
        class: MessageClass::Notice,
        number: 0,
        groups: vec![TypeGroup {
            message_type: MessageType::Sms,
            parts: 1,
            reach: None,
            messages: (0..messages).collect(),
        }],
        personal: LotPersonal { recipients: (0..messages).map(recipient).collect() },
    });
    lot.routed(&RouteSet {
        relay: RelayId::parse("alpha").unwrap(),
        channel: MessageType::Sms,
        attempt: 1,
        messages: (0..messages).collect(),
        fallbacks: Vec::new(),
        price_milliwon: 0,
        bills: crate::relay::BillingMoment::Delivered,
        reason: String::new(),
    });
    lot
}

#[test]
fn a_message_with_one_attempt_has_room_for_one() {
    assert!(lot(3, None).messages().all(|(_, message)| message.attempts.capacity() == 1));
}

#[test]
fn a_lot_weighs_its_messages_and_what_they_bring() {
    let plain = lot(1_000, None).memory_bytes();
    assert!((100_000..300_000).contains(&plain), "{plain}");
    let of_length = |messages, length| lot(messages, Some(&"x".repeat(length))).memory_bytes();
    assert!(of_length(1_000, 400) > plain + 400_000);
    assert!(of_length(1, 400_000) > 400_000);
}

#[test]
fn who_only_follows_a_lot_needs_no_recipients() {
    let whole = lot(2, Some("Kim"));
    let followed = whole.clone().without_recipients();
    assert!(followed.memory_bytes() < whole.memory_bytes() / 2);
    assert_eq!((followed.len(), followed.pending()), (2, whole.pending()));
}
