//! Cutting the bytes of an input into what a target needs.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// Separates the parts of an input: a character that no part needs.
const SEPARATOR: char = '\u{1F}';

/// The bytes as text; bytes that are not UTF-8 are replaced.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The first parts of a text; a part that is missing is empty. The last one takes all that is left.
pub(crate) fn parts<const COUNT: usize>(text: &str) -> [&str; COUNT] {
    let mut given = text.splitn(COUNT, SEPARATOR);
    std::array::from_fn(|_| given.next().unwrap_or_default())
}

/// The fields of a JSON object as they are written. Readers ignore unknown fields, whatever they contain: a number
/// beyond all limits, half a character. So nothing may be parsed that the caller does not ask for.
#[derive(Default)]
pub(crate) struct Fields<'a>(HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// None if it is no object.
    pub(crate) fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).map(Self).ok()
    }

    /// A field, if it is there and of this type.
    pub(crate) fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    /// The elements of a list; none if the field is no list.
    pub(crate) fn list(&self, name: &str) -> Vec<&'a RawValue> {
        self.0.get(name).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
    }
}

/// The character at an index that a refusal names.
#[track_caller]
pub(crate) fn character_at(text: &str, position: usize) -> char {
    text.chars().nth(position).unwrap_or_else(|| {
        panic!("index {position} is beyond the {} characters of {text:?}", text.chars().count())
    })
}
