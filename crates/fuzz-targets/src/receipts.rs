//! Receipts that a relay pushes: headers, signature, body.
//!
//! An input is the id, the timestamp, the signature and the body of a call; `sign` stands for the genuine signature.

use axum::http::{HeaderMap, HeaderValue};
use kite_api::fuzzing;
use kite_domain::event::Event;
use kite_domain::not_understood::{RAW_BYTES_MAX, SaidHow};
use kite_domain::receipt::ReceiptsParked;
use kite_domain::slug::RelayId;
use standardwebhooks::Webhook;

use crate::house::{RECEIPT_SECRET, now};
use crate::input::{self, Fields};

/// Ids are remembered, so they have a bound.
const ID_BYTES_MAX: usize = 255;
/// How far a timestamp may be from now, in seconds.
const TOLERANCE_S: u64 = 300;
/// What a field of a receipt may take in the log, in bytes.
const FIELD_BYTES_MAX: usize = 1_024;

/// Verifies and reads a call: only a genuine one passes, and every receipt is taken, or given back as it came.
pub fn receipts(bytes: &[u8]) {
    let given = input::text(bytes);
    let [id, timestamp, signature, body] = input::parts(&given);
    genuine(id, timestamp, signature, body.as_bytes());
    understood(body.as_bytes());
}

fn genuine(id: &str, timestamp: &str, signature: &str, body: &[u8]) {
    let expected = timestamp.parse().ok().and_then(|timestamp| {
        let webhook = Webhook::new(RECEIPT_SECRET).expect("the secret is base64");
        webhook.sign(id, timestamp, body).ok()
    });
    let signature = match (&expected, signature) {
        (Some(expected), "sign") => expected,
        (_, given) => given,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
    {
        let Ok(value) = HeaderValue::from_str(value) else { return };
        headers.insert(name, value);
    }
    let _ = fuzzing::idempotency(&HeaderMap::from_iter([(
        axum::http::HeaderName::from_static("idempotency-key"),
        headers["webhook-id"].clone(),
    )]));
    let is_signed =
        expected.as_ref().is_some_and(|expected| signature.split(' ').any(|given| given == *expected));
    let is_recent =
        timestamp.parse().is_ok_and(|given: i64| now().timestamp().abs_diff(given) <= TOLERANCE_S);
    let has_id =
        !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match fuzzing::genuine_call(RECEIPT_SECRET, &headers, body, now()) {
        Ok(known) => {
            assert!(is_signed && is_recent);
            assert_eq!(known, id);
        }
        Err(problem) => {
            assert_eq!(problem.code().kind().code, "signature-invalid");
            assert!(!(is_signed && is_recent && has_id), "a genuine call was refused: {problem:?}");
        }
    }
}

fn understood(body: &[u8]) {
    let Ok((receipts, misread)) = fuzzing::pushed_receipts(body) else { return };
    let sent = input::text(body);
    let sent = Fields::read(&sent).expect("what was read is an object").list("receipts");
    assert_eq!(receipts.len() + misread.len(), sent.len());
    let alpha = RelayId::from_trusted("alpha");
    for one in misread {
        let row = one.row.expect("a receipt that is not understood has a place") as usize;
        assert_eq!(one.raw, sent[row].get(), "it is kept as it came");
        let kept = one.kept(&alpha, SaidHow::Pushed);
        let raw = &kept.personal.raw;
        assert!(
            raw.len() <= RAW_BYTES_MAX && !raw.contains('\0') && sent[row].get().starts_with(raw.as_str())
        );
    }
    let mut rest = sent.iter().map(|item| Fields::read(item.get()).unwrap_or_default());
    for receipt in &receipts {
        let is_it = |item: Fields<'_>| {
            // Not every database can store a zero.
            let stored = |reference: String| reference.replace('\0', "\u{fffd}") == receipt.reference;
            item.get::<String>("reference").is_some_and(stored) && item.get("status") == Some(receipt.status)
        };
        assert!(rest.any(is_it), "{receipt:?} was not sent, or stood elsewhere");
    }
    for receipt in &receipts {
        let fields = [Some(&receipt.reference), receipt.relay_reference.as_ref(), Some(&receipt.code)];
        for field in fields.into_iter().flatten() {
            assert!(field.len() <= FIELD_BYTES_MAX, "{} bytes would go into the log", field.len());
        }
    }
    // What fits no message is kept as it came.
    let parked: Event = ReceiptsParked { relay: RelayId::from_trusted("alpha"), receipts }.into();
    let written = parked.to_json();
    let read =
        Event::from_json(parked.kind(), parked.schema_version(), &written).expect("written and read again");
    assert_eq!(read.to_json(), written);
}
