//! Pages of a list, and the opaque cursors between them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

use crate::error::QueryError;

/// A page of a list. It may be short or even empty although there is more: only `next` says whether there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listing<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<Cursor>,
}

/// A place in a list. Opaque to the caller: its text is hexadecimal and has a meaning only for its list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Vec<u8>);

/// Longer ones are none of ours; in bytes.
const CURSOR_BYTES_MAX: usize = 512;

impl Cursor {
    pub(crate) fn new(place: impl Into<Vec<u8>>) -> Self {
        Self(place.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A place that is named by a text, in a list that no read model keeps.
    pub fn of_text(place: &str) -> Self {
        Self::new(place)
    }

    pub(crate) fn from_number(number: i64) -> Self {
        Self(number.to_be_bytes().to_vec())
    }

    pub(crate) fn number(&self) -> Result<i64, QueryError> {
        self.0.as_slice().try_into().map(i64::from_be_bytes).map_err(|_| QueryError::Cursor)
    }

    /// The text of a place that is named by one.
    ///
    /// # Errors
    /// [`QueryError::Cursor`] if it is not such a place.
    pub fn text(&self) -> Result<&str, QueryError> {
        std::str::from_utf8(&self.0).map_err(|_| QueryError::Cursor)
    }

    pub(crate) fn uuid(&self) -> Result<[u8; 16], QueryError> {
        self.0.as_slice().try_into().map_err(|_| QueryError::Cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for Cursor {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.is_empty() || text.len() > 2 * CURSOR_BYTES_MAX {
            return Err(QueryError::Cursor);
        }
        hex::decode(text).map(Self).map_err(|_| QueryError::Cursor)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Cuts rows that were read with one more than `limit` to a page.
pub(crate) fn page<T>(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> Cursor) -> Listing<T> {
    if items.len() <= limit {
        return Listing { items, next: None };
    }
    items.truncate(limit);
    let next = items.last().map(place);
    Listing { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(bytes in proptest::collection::vec(any::<u8>(), 1..60)) {
            let cursor = Cursor::new(bytes);
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        }

        #[test]
        fn nonsense_is_refused_without_a_panic(text in ".{0,40}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                let _ = (cursor.number(), cursor.uuid(), cursor.text());
            }
        }
    }

    #[test]
    fn a_page_knows_whether_there_is_more() {
        let place = |number: &i64| Cursor::from_number(*number);
        assert_eq!(page(vec![1, 2, 3], 3, place).next, None);
        let first = page(vec![1, 2, 3, 4], 3, place);
        assert_eq!((first.items, first.next.unwrap().number().unwrap()), (vec![1, 2, 3], 3));
    }
}
