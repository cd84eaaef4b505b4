//! Ids, slugs and cursors: what addresses, queries and events name things by.

use kite_domain::ids::{AttemptReference, ContactId, GroupId, LotId, MessageId, SendingId, TemplateId};
use kite_domain::slug::{RelayId, SLUG_LENGTH_MAX, TenantId};
use kite_domain::text::MessageType;
use kite_projections::Cursor;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::input;

/// The longest reference of an attempt, in characters: 32 hexadecimal digits, and two numbers with their hyphens.
const REFERENCE_LENGTH_MAX: usize = 32 + 11 + 6;

/// Reads the text as each of them; an id that was read is the same when it is written and read again.
pub fn ids(bytes: &[u8]) {
    let text = &*input::text(bytes);
    reads_back::<SendingId>(text);
    reads_back::<ContactId>(text);
    reads_back::<GroupId>(text);
    reads_back::<TemplateId>(text);
    reads_back::<MessageType>(text);
    reads_back::<Cursor>(text);
    if let Some(message) = reads_back::<MessageId>(text) {
        let lot = message.lot();
        assert_eq!(LotId::from_stream(&lot.stream()), Some(lot));
    }
    if let Some(reference) = reads_back::<AttemptReference>(text) {
        assert!(reference.to_string().len() <= REFERENCE_LENGTH_MAX, "{reference}");
    }
    reads_back::<LotId>(text);
    if let Some(lot) = LotId::from_stream(text) {
        assert_eq!(LotId::from_stream(&lot.stream()), Some(lot));
        // A lot and its first message name each other, as far as there are sequence numbers.
        let first = MessageId { sending: lot.sending, seq: lot.first_seq() };
        assert!(first.lot() <= lot, "{lot:?}");
    }
    for slug in [
        reads_back::<TenantId>(text).map(|id| id.to_string()),
        reads_back::<RelayId>(text).map(|id| id.to_string()),
    ] {
        assert!(slug.is_none_or(|slug| slug == text && slug.len() <= SLUG_LENGTH_MAX));
    }
}

fn reads_back<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(id) => {
            let written = id.to_string();
            let again = written.parse::<T>().unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(again, id);
            Some(id)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}
