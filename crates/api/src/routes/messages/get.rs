//! `GET /v1/messages/{message}`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use kite_domain::ids::MessageId;

use super::MessageView;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
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
    headers: HeaderMap,
) -> Answer<Json<MessageView>> {
    let id: MessageId = message.parse().map_err(|_| Problem::not_found("message"))?;
    state.fresh_delivery(&headers).await?;
    let found = state.query(move |models| models.delivery.message(&auth.tenant, id)).await?;
    found.map(|message| Json(message.into())).ok_or_else(|| Problem::not_found("message"))
}
