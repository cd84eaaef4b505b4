//! The longest texts that are stored as they come. Limits of a single endpoint are with that endpoint.

use super::contacts::check_length;
use crate::problem::{Answer, Code, Problem};

/// Why something was done, in the caller's words.
pub(crate) const REASON_CHARACTERS_MAX: usize = 500;

/// A name for people.
pub(crate) const NAME_CHARACTERS_MAX: usize = 100;

/// A text as it came, under the name of its field.
pub(crate) struct Text<'t> {
    pub(crate) field: &'t str,
    pub(crate) text: &'t str,
    pub(crate) characters_max: usize,
}

/// Refuses a text that is longer than it may be. `what` begins the sentence that says so.
pub(crate) fn check(what: &str, text: &Text<'_>) -> Answer<()> {
    let mut errors = Vec::new();
    check_length(text.field, text.text, text.characters_max, &mut errors);
    match errors.pop() {
        None => Ok(()),
        Some(error) => {
            let detail = format!("{what}: `{}` has {}.", error.field, error.detail);
            Err(Problem::new(Code::Refused, detail).at(error))
        }
    }
}
