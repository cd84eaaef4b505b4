//! `GET /v1/messages/{message}`

use axum::Json;
use axum::extract::State;
use kite_domain::ids::MessageId;

use super::{CodeTexts, MessageView};
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::freshness::Model;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// Shows a message with its timeline: every attempt, relay, reason, code and time.
#[utoipa::path(
    get, path = "/v1/messages/{message}", tag = "messages", operation_id = "get_message",
    params(("message" = String, Path, description = "The message's id")),
    responses((status = 200, description = "The message.", body = MessageView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    message: ApiPath<String>,
) -> Answer<Json<MessageView>> {
    let id: MessageId = message.parse().map_err(|_| Problem::not_found("message"))?;
    let owner = auth.tenant.clone();
    let found = state
        .find_own(Model::Delivery, &auth.tenant, move |models| models.delivery.message(&owner, id))
        .await?;
    let message = found.ok_or_else(|| Problem::not_found("message"))?;
    let channel = message.attempts.last().map_or(message.message_type, |newest| newest.channel);
    let said = state.acceptance.said(&auth.tenant, id, channel).await?;
    let view = MessageView::of(message, &CodeTexts::new(state.write_side.directory.snapshot()));
    Ok(Json(view.saying(said)))
}
