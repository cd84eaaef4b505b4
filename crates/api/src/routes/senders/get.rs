//! `GET /v1/senders/{address}`

use axum::Json;
use axum::extract::State;

use super::{SenderView, canonical};
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::Answer;
use crate::state::ApiState;

/// Shows a sender identity: its status, its approval, and its waiting request.
#[utoipa::path(
    get, path = "/v1/senders/{address}", tag = "senders", operation_id = "get_sender",
    params(("address" = String, Path, description = "The number or address")),
    responses((status = 200, description = "The sender.", body = SenderView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    address: ApiPath<String>,
) -> Answer<Json<SenderView>> {
    let (address, now) = (canonical(&address), state.write_side.journal.now());
    let view = state.find("sender", |directory| {
        let identity = directory.senders.identity(&auth.tenant, &address)?;
        Some(SenderView::at(now, identity))
    });
    Ok(Json(view.await?))
}
