//! Wrong routines of [deliberate bugs](kite_domain::mutation).

use kite_domain::seq_set::SeqSet;

use super::sets::union;
use crate::queue::Put;

/// `DropOnFullQueue`: they are remembered as queued.
pub(super) fn dropped(queued: &mut SeqSet, messages: &SeqSet) -> Put {
    *queued = union(queued, messages);
    Put::Queued
}
