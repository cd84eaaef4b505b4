//! `GET /v1/messages/{message}/events`

use axum::Json;
use axum::extract::State;
use kite_domain::ids::MessageId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::extract::ApiPath;
use crate::problem::{Answer, Problem};
use crate::routes::audit::EventView;
use crate::routes::audit::message::events_of;
use crate::state::ApiState;

/// Events.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageEvents {
    /// In the order of the log.
    pub items: Vec<EventView>,
}

/// Shows all events of a message: those of its sending, and those of its lot that concern it.
#[utoipa::path(
    get, path = "/v1/messages/{message}/events", tag = "messages", operation_id = "list_message_events",
    params(("message" = String, Path, description = "The message's id")),
    responses((status = 200, description = "The events.", body = MessageEvents))
)]
pub async fn handler(
    state: State<ApiState>,
    caller: Caller,
    message: ApiPath<String>,
) -> Answer<Json<MessageEvents>> {
    let id: MessageId = message.parse().map_err(|_| Problem::not_found("message"))?;
    Ok(Json(MessageEvents { items: events_of(&state, &caller, id).await? }))
}
