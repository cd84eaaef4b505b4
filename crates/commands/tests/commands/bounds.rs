//! What is stored of a sending is bounded, whatever a caller brings.

use kite_commands::accept::{ACCEPTANCE_EVENT_BYTES_MAX, AcceptError, Accepted, RecipientInput, SendRequest};
use kite_domain::event::Event;
use kite_domain::text::RequestedType;
use serde_json::json;

use crate::house::*;

/// The field and code that a request is refused for.
async fn refusal(house: &House, request: SendRequest) -> (&'static str, &'static str) {
    match house.accept(request).await {
        Err(AcceptError::Refused(refusal)) => (refusal.field, refusal.code),
        other => panic!("{other:?}"),
    }
}

fn refused(accepted: &Accepted) -> Vec<(u32, &str, &str)> {
    accepted.refused.iter().map(|row| (row.row, row.reason.field().word(), row.reason.code())).collect()
}

/// So many e-mail addresses, with values that are as long as they may be.
fn readers(count: u32, filler: &str) -> Vec<RecipientInput> {
    let reader = |number| {
        let mut reader = row(number, &format!("someone-{number}@example.org"));
        reader.reference = Some("가".repeat(200).into());
        reader.variables.insert("story".into(), filler.repeat(99_999 / filler.len()));
        reader
    };
    (0..count).map(reader).collect()
}

/// To these, with a text that is as long as it may be.
fn mail(readers: Vec<RecipientInput>) -> SendRequest {
    let mut request = notice(readers);
    request.message_type = RequestedType::Email;
    request.subject = Some("\"".repeat(500));
    request.text = Some("#{story}#{mark}".to_owned());
    request.variables.insert("mark".into(), "!".to_owned());
    request
}

#[tokio::test]
async fn a_callers_own_data_is_short() {
    let house = House::furnished().await;
    let request = notice(recipients(1));
    let long = SendRequest { client_reference: Some("x".repeat(201)), ..request.clone() };
    assert_eq!(refusal(&house, long).await, ("client_reference", "too_long"));
    let large = SendRequest { custom: Some(json!({"note": "x".repeat(4_096)})), ..request.clone() };
    assert_eq!(refusal(&house, large).await, ("custom", "too_large"));
    let fits = SendRequest {
        client_reference: Some("가".repeat(200)),
        custom: Some(json!("x".repeat(4_094))),
        ..request
    };
    assert_eq!(house.accept(fits).await.unwrap().messages, 1);
}

#[tokio::test]
async fn a_long_reference_costs_its_row_and_no_other() {
    let house = House::furnished().await;
    let mut rows = recipients(3);
    rows[0].reference = Some("가".repeat(200).into());
    rows[1].reference = Some("가".repeat(201).into());
    let accepted = house.accept(notice(rows)).await.unwrap();
    assert_eq!((accepted.messages, refused(&accepted)), (2, vec![(1, "reference", "too_long")]));
}

#[tokio::test]
async fn shared_variables_that_nobody_asks_for_are_not_stored_and_the_others_are_bounded() {
    let house = House::furnished().await;
    let mut request = notice(recipients(1));
    request.text = Some("#{name}".to_owned());
    request.variables.insert("name".into(), "Kim".to_owned());
    request.variables.insert("unused".into(), "x".repeat(2_000_000));
    house.accept(request.clone()).await.unwrap();
    let Some(Event::SendingAccepted(sealed)) = house.events("sending-accepted").await.pop() else { panic!() };
    assert_eq!(sealed.personal.variables.keys().collect::<Vec<_>>(), ["name"]);
    request.variables.insert("name".into(), "x".repeat(300_000));
    let mut named = recipients(1);
    named[0].variables.insert("name".into(), "Lee".to_owned());
    request.recipients = read_rows(named);
    assert_eq!(refusal(&house, request.clone()).await, ("variables", "too_large"));
    request.text = Some("#{name}".repeat(100) + &"x".repeat(350_000));
    assert_eq!(refusal(&house, request).await, ("text", "too_large"));
}

#[tokio::test]
async fn a_row_that_is_too_large_for_any_lot_costs_no_other() {
    let house = House::furnished().await;
    let mut readers = readers(3, "x");
    readers[1].variables.insert("story".into(), "\u{1}".repeat(99_999));
    let accepted = house.accept(mail(readers)).await.unwrap();
    assert_eq!((accepted.messages, refused(&accepted)), (2, vec![(1, "variables", "row_too_large")]));
}

#[tokio::test]
async fn no_event_of_an_acceptance_is_larger_than_its_bound() {
    let house = House::furnished().await;
    for filler in ["x", "\"", "\\", "\r\n", "\t", "가", "\u{1112}\u{1161}\u{11AB}"] {
        let mut request = mail(readers(12, filler));
        request.variables.insert("mark".into(), "\"".to_owned());
        request.client_reference = Some("\u{1}".repeat(200));
        request.custom = Some(json!("x".repeat(4_094)));
        assert_eq!(house.accept(request).await.unwrap().messages, 12, "{filler:?}");
    }
    // Many small rows, of as many kinds as there are, so that the sets of a lot are as long as they can be.
    let mut rows = recipients(2_000);
    for (place, recipient) in rows.iter_mut().enumerate() {
        let characters = if place % 2 == 0 { 90 } else { 400 };
        recipient.variables.insert("story".into(), "x".repeat(characters));
    }
    let request = SendRequest { text: Some("#{story}".to_owned()), ..notice(rows) };
    house.accept(request).await.unwrap();
    let sizes: Vec<(&str, usize)> = house
        .log()
        .await
        .iter()
        .map(|told| (told.event.kind(), told.event.to_json().len()))
        .filter(|(kind, _)| ["lot-accepted", "sending-accepted"].contains(kind))
        .collect();
    assert!(sizes.len() > 30, "{}", sizes.len());
    assert!(sizes.iter().all(|(_, bytes)| *bytes <= ACCEPTANCE_EVENT_BYTES_MAX), "{sizes:?}");
    assert!(sizes.iter().any(|(_, bytes)| *bytes > ACCEPTANCE_EVENT_BYTES_MAX / 2), "{sizes:?}");
}
