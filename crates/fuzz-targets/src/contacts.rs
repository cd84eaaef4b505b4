//! A file of contacts.

use encoding_rs::EUC_KR;
use kite_api::fuzzing::{ContactRows, contact_rows};
use kite_api::problem::Answer;
use kite_domain::address::{EmailAddress, PhoneNumber};
use kite_domain::contact::ContactDetails;
use kite_domain::event::Event;
use kite_domain::ids::ContactId;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Imports a file. Every row is accounted for once, and what is imported is canonical.
pub fn contacts(bytes: &[u8]) {
    let rows = read(bytes);
    match &rows {
        Ok(rows) => accounted_for(rows),
        Err(problem) => assert_eq!(problem.code().kind().code, "invalid-csv"),
    }
    if let Some(other) = otherwise_encoded(bytes) {
        let same =
            |rows: Answer<ContactRows>| rows.ok().map(|rows| (rows.contacts, rows.merged, rows.refused));
        assert_eq!(same(read(&other)), same(rows), "the same text as Korean Excel writes it");
    }
}

fn read(bytes: &[u8]) -> Answer<ContactRows> {
    let mut count = 0;
    contact_rows(bytes, || {
        count += 1;
        ContactId(Uuid::from_u128(count))
    })
}

/// The same text in CP949, if that has all of its characters and cannot be taken for UTF-8.
fn otherwise_encoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (other, _, has_unmappable) = EUC_KR.encode(text);
    (!has_unmappable && std::str::from_utf8(&other).is_err()).then(|| other.into_owned())
}

fn accounted_for(rows: &ContactRows) {
    let ContactRows { contacts, good, merged, refused, errors } = rows;
    let (good, refused) = (*good as usize, *refused as usize);
    assert_eq!(good, contacts.len() + merged.len());
    // The header is row 1.
    let rows: BTreeSet<u32> = errors.iter().filter_map(|error| error.row).collect();
    assert_eq!(rows.len(), refused, "a refused row says why, and only a refused row does");
    let is_row = |row: &u32| (2..2 + (good + refused) as u32).contains(row);
    assert!(rows.iter().chain(merged).all(is_row) && merged.is_sorted_by(|left, right| left < right));
    assert!(errors.iter().all(|error| error.row.is_some() && !error.detail.is_empty()));
    let ids: BTreeSet<ContactId> = contacts.iter().map(|contact| contact.contact).collect();
    assert_eq!(ids.len(), contacts.len(), "an id is given once");
    contacts.iter().for_each(usable);
}

fn usable(contact: &ContactDetails) {
    assert!(contact.phone.is_some() || contact.email.is_some());
    if let Some(phone) = &contact.phone {
        assert_eq!(PhoneNumber::parse(phone).map(|number| number.to_string()).as_deref(), Ok(phone.as_str()));
    }
    if let Some(email) = &contact.email {
        assert_eq!(
            EmailAddress::parse(email).map(|address| address.to_string()).as_deref(),
            Ok(email.as_str())
        );
    }
    assert!(contact.name.chars().count() <= 200 && contact.tags.len() <= 50 && contact.fields.len() <= 100);
    let saved: Event = kite_domain::contact::ContactsSaved {
        tenant: kite_domain::slug::TenantId::from_trusted("acme"),
        group: None,
        personal: kite_domain::contact::ContactsPersonal { contacts: vec![contact.clone()] },
    }
    .into();
    let read = Event::from_json(saved.kind(), saved.schema_version(), &saved.to_json());
    assert_eq!(read.expect("what was written can be read"), saved);
}
