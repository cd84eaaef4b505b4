//! Cutting the bytes of an input into what a target needs.

use std::borrow::Cow;

/// Separates the parts of an input: a character that no part needs.
const SEPARATOR: char = '\u{1F}';

/// The bytes as text; what is no UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The first parts of a text; a part that is missing is empty. The last one takes all that is left.
pub(crate) fn parts<const COUNT: usize>(text: &str) -> [&str; COUNT] {
    let mut given = text.splitn(COUNT, SEPARATOR);
    std::array::from_fn(|_| given.next().unwrap_or_default())
}

/// The character at an index that a refusal names.
#[track_caller]
pub(crate) fn character_at(text: &str, position: usize) -> char {
    text.chars().nth(position).unwrap_or_else(|| {
        panic!("index {position} is beyond the {} characters of {text:?}", text.chars().count())
    })
}
