//! `GET /v1/senders`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::SenderView;
use crate::auth::TenantAuth;
use crate::state::ApiState;

/// All sender identities of the tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct Senders {
    /// By address.
    pub items: Vec<SenderView>,
}

/// Lists all sender identities.
#[utoipa::path(
    get, path = "/v1/senders", tag = "senders", operation_id = "list_senders",
    responses((status = 200, description = "All of them.", body = Senders))
)]
pub async fn handler(state: State<ApiState>, auth: TenantAuth) -> Json<Senders> {
    let directory = state.directory.snapshot();
    let own = directory.senders.iter().filter(|((tenant, _), _)| *tenant == auth.tenant);
    let mut items: Vec<SenderView> = own.map(|(_, sender)| SenderView::from(&sender.registered)).collect();
    items.sort_unstable_by(|left, right| left.address.cmp(&right.address));
    Json(Senders { items })
}
