//! Everything that the log holds of one message.

use kite_commands::JournalError;
use kite_commands::journal::Told;
use kite_domain::event::EventKind;
use kite_domain::ids::MessageId;

use super::EventView;
use super::concerns::{concerns, excerpt};
use super::view::is_visible;
use crate::auth::Caller;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// The events of the message's sending and of its lot that concern it, in the order of the log.
pub(crate) async fn events_of(state: &ApiState, caller: &Caller, id: MessageId) -> Answer<Vec<EventView>> {
    let sending = read(state, &id.sending.stream()).await?;
    let lot = read(state, &id.lot().stream()).await?;
    let mut told: Vec<Told> = sending
        .into_iter()
        .chain(lot)
        .filter(|told| is_visible(caller, &told.recorded) && concerns(&told.event, id))
        .collect();
    let is_there = told.iter().any(|told| told.recorded.stream.starts_with("lot-"));
    let is_sealed = told.iter().any(|told| told.recorded.kind == EventKind::SendingAccepted);
    if !(is_there && is_sealed) {
        return Err(Problem::not_found("message"));
    }
    told.sort_unstable_by_key(|told| told.recorded.position);
    Ok(told.into_iter().map(|told| narrowed(told, id)).collect())
}

async fn read(state: &ApiState, stream: &str) -> Result<Vec<Told>, JournalError> {
    state.write_side.journal.read_stream(stream, 0).await
}

fn narrowed(told: Told, id: MessageId) -> EventView {
    let (event, is_excerpt) = excerpt(told.event, id);
    let mut recorded = told.recorded;
    if is_excerpt {
        recorded.data = event.to_json().into();
    }
    EventView { is_excerpt, ..EventView::of(recorded) }
}
