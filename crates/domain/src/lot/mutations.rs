//! Wrong routines of [deliberate bugs](crate::mutation).

use super::respond::{AcceptedMessage, AnswerTo, Response, ResponseNote};
use crate::failure::FailureClass;

/// `DuplicateTakenAsAccepted`.
pub(super) fn duplicates_accepted(mut note: ResponseNote, response: &Response<'_>) -> ResponseNote {
    let is_duplicate = note.refused.extract_if(.., |one| {
        response.counts(one.seq)
            && response.is_in_doubt(one.seq)
            && one.class == FailureClass::Duplicate
            && note.answer_to == AnswerTo::Call
    });
    let accepted = is_duplicate.map(|one| AcceptedMessage { seq: one.seq, relay_reference: None });
    note.accepted.extend(accepted);
    note
}
