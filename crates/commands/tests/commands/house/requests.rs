//! Requests to send.

use kite_commands::accept::{AcceptLimits, AdInput, RecipientInput, RecipientRow, SendRequest};
use kite_domain::sending::MessageClass;
use kite_domain::text::RequestedType;
use std::collections::BTreeMap;

use super::{EMAIL, PHONE};

pub(crate) fn row(number: u32, to: &str) -> RecipientInput {
    RecipientInput {
        row: number,
        to: to.into(),
        email: None,
        contact: None,
        reference: None,
        variables: BTreeMap::new(),
    }
}

/// So many different mobile numbers.
pub(crate) fn recipients(count: u32) -> Vec<RecipientInput> {
    (0..count)
        .map(|number| row(number, &format!("010-2{:03}-{:04}", number / 10_000, number % 10_000)))
        .collect()
}

/// The rows as they are in a request.
pub(crate) fn read_rows(rows: Vec<RecipientInput>) -> Vec<RecipientRow> {
    let limits = AcceptLimits::default();
    rows.into_iter().map(|row| row.read(&limits)).collect()
}

pub(crate) fn notice(recipients: Vec<RecipientInput>) -> SendRequest {
    SendRequest {
        class: MessageClass::Notice,
        message_type: RequestedType::Auto,
        max_type: None,
        from_phone: Some(PHONE.to_owned()),
        from_email: Some(EMAIL.to_owned()),
        subject: None,
        text: Some("Your parcel is here.".to_owned()),
        template: None,
        variables: BTreeMap::new(),
        recipients: read_rows(recipients),
        scheduled_at: None,
        lifetime_s: None,
        failover: None,
        ad: None,
        strict: false,
        allow_duplicates: false,
        client_reference: None,
        custom: None,
    }
}

/// An advertisement by text message.
pub(crate) fn ad(recipients: Vec<RecipientInput>) -> SendRequest {
    SendRequest {
        class: MessageClass::Ad,
        from_email: None,
        text: Some("Spring sale".to_owned()),
        ad: Some(AdInput { mark_automatically: true, ..AdInput::default() }),
        ..notice(recipients)
    }
}
