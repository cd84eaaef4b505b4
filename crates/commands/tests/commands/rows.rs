//! Rows travel forward: what was refused where a row was read or looked up stays refused, for that reason and no other.

use kite_commands::accept::{
    AcceptError, AcceptLimits, Accepted, NoCarrier, RecipientInput, RecipientRow, RefusedRow, RowField,
    RowRefusal, SendRequest, TooLong,
};
use kite_domain::address::{Address, EmailAddress};
use kite_domain::ids::ContactId;
use kite_domain::opt_out::RefusedBy;
use kite_domain::text::{MessageType, TextRefusal};
use uuid::Uuid;

use crate::house::*;

/// Every reason, with what a caller is told of it.
fn reasons() -> Vec<(RowRefusal, &'static str, &'static str, &'static str)> {
    use RowField::{Contact, Email, Reference, To};
    let (name, found) = ("name".into(), "a number");
    vec![
        (RowRefusal::NotAText { field: To, found }, "to", "wrong_type", "it is a number, not a text"),
        (
            RowRefusal::NotAText { field: Contact, found: "a list" },
            "contact",
            "wrong_type",
            "it is a list, not a text",
        ),
        (
            RowRefusal::Zero { field: Reference },
            "reference",
            "character_not_allowed",
            "the text holds U+0000, which cannot be stored",
        ),
        (
            RowRefusal::VariablesNotAnObject { found: "a list" },
            "variables",
            "wrong_type",
            "variables are an object, not a list",
        ),
        (
            RowRefusal::VariableNotAText { name, found },
            "variables",
            "wrong_type",
            "the value of name is a number, not a text",
        ),
        (
            RowRefusal::ZeroInVariable { name: "name".into() },
            "variables",
            "character_not_allowed",
            "name: the text holds U+0000, which cannot be stored",
        ),
        (
            RowRefusal::TooManyVariables { count: 101 },
            "variables",
            "too_many_variables",
            "101 variables; at most 100 are allowed",
        ),
        (RowRefusal::NotAContactId, "contact", "invalid_id", "it is not the id of a contact"),
        (RowRefusal::RecipientMissing, "to", "recipient_missing", "a recipient needs `to` or `contact`"),
        (
            RowRefusal::OnlyFailoverEmail,
            "to",
            "recipient_missing",
            "give the e-mail address in `to`; `email` is only where to fail over to",
        ),
        (
            RowRefusal::ToAndContact,
            "contact",
            "to_and_contact",
            "a recipient has either `to` or `contact`, not both",
        ),
        (RowRefusal::ContactNotFound, "contact", "contact_not_found", "there is no such contact"),
        (
            RowRefusal::ContactWithoutAddress,
            "contact",
            "contact_without_address",
            "the contact has no address for this type",
        ),
        (
            RowRefusal::Address(Address::parse("1012345679").unwrap_err()),
            "to",
            "lost_leading_zero",
            "the leading zero is missing; is 01012345679 meant?",
        ),
        (
            RowRefusal::FailoverEmail(EmailAddress::parse("nobody").unwrap_err()),
            "email",
            "at_sign_missing",
            "the e-mail address has no @",
        ),
        (
            RowRefusal::ReferenceTooLong(TooLong { characters: 201, characters_max: 200 }),
            "reference",
            "too_long",
            "201 characters; at most 200 are allowed",
        ),
        (
            RowRefusal::ValuesTooLarge,
            "variables",
            "values_too_large",
            "the values of one request may come to 134217728 bytes, each counted wherever it stands in a text",
        ),
        (
            RowRefusal::Text(TextRefusal::MissingVariable { name: "name".into() }),
            "variables",
            "missing_variable",
            "the variable name has no value",
        ),
        (RowRefusal::Text(TextRefusal::TextEmpty), "text", "text_empty", "the text is empty"),
        (
            RowRefusal::SenderMissing { message_type: MessageType::Email },
            "to",
            "sender_missing",
            "an email needs a sender (`from_email`)",
        ),
        (
            RowRefusal::SenderMissing { message_type: MessageType::Sms },
            "to",
            "sender_missing",
            "an sms needs a sender (`from`)",
        ),
        (
            RowRefusal::NoRelay(NoCarrier::NotOffered(MessageType::Mms)),
            "to",
            "no_relay",
            "no relay offers mms",
        ),
        (
            RowRefusal::LifetimeEndsInWindow { opens: noon() },
            "lifetime_seconds",
            "lifetime_ends_in_window",
            "the advertisement would be held until 2026-03-02 03:00:00 UTC and have expired by then",
        ),
        (
            RowRefusal::OptedOut { field: To, by: RefusedBy::Itself },
            "to",
            "opted_out",
            "the recipient refuses advertisements",
        ),
        (
            RowRefusal::OptedOut { field: Email, by: RefusedBy::SamePerson },
            "email",
            "opted_out",
            "the recipient refuses advertisements, by another address",
        ),
        (
            RowRefusal::RowTooLarge { bytes: 500_000 },
            "variables",
            "row_too_large",
            "the row would take 500000 bytes; at most 458752 are stored",
        ),
    ]
}

fn refused_rows(accepted: &Accepted) -> Vec<(u32, &RowRefusal)> {
    accepted.refused.iter().map(|row| (row.row, &row.reason)).collect()
}

#[test]
fn every_reason_has_its_field_its_word_and_its_words() {
    for (reason, field, code, detail) in reasons() {
        assert_eq!((reason.field().word(), reason.code(), &*reason.to_string()), (field, code, detail));
    }
}

#[tokio::test]
async fn a_row_that_was_refused_stays_refused_for_its_reason_and_costs_no_other() {
    let house = House::furnished().await;
    let mut rows = read_rows(recipients(2));
    let first = rows.len() as u32;
    let refused =
        (first..).zip(reasons()).map(|(row, (reason, ..))| RefusedRow { row, reason, to: "x".into() });
    let refused: Vec<RefusedRow> = refused.collect();
    rows.extend(refused.iter().cloned().map(RecipientRow::from));
    rows.extend(read_rows(vec![row(first + refused.len() as u32, "010-2000-0003")]));
    let request = SendRequest { recipients: rows, ..notice(Vec::new()) };
    assert_eq!(house.preview(&request).await.unwrap().refused, refused, "a preview says the same");
    let strict = SendRequest { strict: true, ..request.clone() };
    let Err(AcceptError::RowsRefused(rows)) = house.accept(strict).await else { panic!("accepted") };
    assert_eq!(rows, refused);
    let accepted = house.accept(request).await.unwrap();
    assert_eq!((accepted.messages, accepted.refused_count), (3, refused.len() as u32));
    assert_eq!(accepted.refused, refused);
}

#[tokio::test]
async fn a_row_is_refused_for_the_first_of_its_texts_that_is_wrong() {
    let limits = AcceptLimits::default();
    let long = "x".repeat(201);
    let all_wrong = || {
        let mut input = row(4, "12");
        input.email = Some("nobody".into());
        input.reference = Some(long.as_str().into());
        input.variables = (0..101).map(|number| (format!("v{number}").into(), String::new())).collect();
        input
    };
    let email_wrong = || RecipientInput { to: "010-2000-0001".into(), ..all_wrong() };
    let reference_wrong = || RecipientInput { email: None, ..email_wrong() };
    let variables_wrong = || RecipientInput { reference: None, ..reference_wrong() };
    let reasons = [
        (all_wrong(), RowRefusal::Address(Address::parse("12").unwrap_err())),
        (email_wrong(), RowRefusal::FailoverEmail(EmailAddress::parse("nobody").unwrap_err())),
        (reference_wrong(), RowRefusal::ReferenceTooLong(TooLong { characters: 201, characters_max: 200 })),
        (variables_wrong(), RowRefusal::TooManyVariables { count: 101 }),
    ];
    for (input, reason) in reasons {
        let to = input.to.clone();
        assert_eq!(input.read(&limits), RefusedRow { row: 4, reason, to }.into());
    }
    let of_contact = RecipientInput { contact: Some(ContactId(Uuid::max())), ..variables_wrong() };
    assert!(
        matches!(of_contact.read(&limits), RecipientRow::Good(_)),
        "the fields of a contact come on top of what a caller brings"
    );
}

#[tokio::test]
async fn the_reasons_that_rest_on_the_request_are_found_for_rows_that_are_good_by_themselves() {
    let house = House::furnished().await;
    let mut rows = vec![row(0, "010-2000-0001"), row(1, "kim@example.com"), row(2, "02-555-0199")];
    rows[0].variables.insert("name".into(), "Kim".to_owned());
    rows[1].variables.insert("name".into(), "Lee".to_owned());
    let mut request = notice(rows);
    request.text = Some("Dear #{name}".to_owned());
    request.from_email = None;
    let accepted = house.accept(request).await.unwrap();
    let missing = TextRefusal::MissingVariable { name: "name".into() };
    assert_eq!(
        refused_rows(&accepted),
        [
            (1, &RowRefusal::SenderMissing { message_type: MessageType::Email }),
            (2, &RowRefusal::Text(missing)),
        ]
    );
}

/// What refusals bind is one person, and one person gets one message of a request (law 9).
#[tokio::test]
async fn an_address_is_one_in_every_spelling_that_a_refusal_binds() {
    let house = House::furnished().await;
    let spellings =
        ["Kim@example.com", "kim@example.com", "KIM@Example.COM", "lee@한국.kr", "lee@xn--3e0b707e.kr"];
    let rows: Vec<_> = (0..).zip(spellings).map(|(number, to)| row(number, to)).collect();
    let mut request = notice(rows);
    let accepted = house.accept(request.clone()).await.unwrap();
    let dropped: Vec<_> = accepted.duplicates.iter().map(|one| (one.row, one.to.as_str())).collect();
    assert_eq!(accepted.messages, 2);
    assert_eq!(dropped, [(1, spellings[1]), (2, spellings[2]), (4, spellings[4])]);
    let lot = house.lot(accepted.sending, 0).await;
    let sent_to: Vec<_> = lot.recipients.iter().map(|one| one.to.as_str()).collect();
    assert_eq!(sent_to, ["Kim@example.com", "lee@한국.kr"], "the first, as it was given");
    request.allow_duplicates = true;
    assert_eq!(house.accept(request).await.unwrap().messages, 5);
}

#[tokio::test]
async fn a_row_that_was_refused_is_no_reason_to_drop_the_next_as_its_repeat() {
    let house = House::furnished().await;
    let mut rows = vec![row(0, "kim@example.com"), row(1, "Kim@example.com")];
    rows[0].email = Some("nobody".into());
    let accepted = house.accept(notice(rows)).await.unwrap();
    assert_eq!((accepted.messages, accepted.refused.len(), accepted.duplicates.len()), (1, 1, 0));
}
