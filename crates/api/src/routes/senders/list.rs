//! `GET /v1/senders`

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::SenderView;
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::state::ApiState;
use crate::vocabulary::SenderStatusWord;

/// Which sender identities.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SendersQuery {
    /// Where they stand; none: all.
    pub status: Option<SenderStatusWord>,
}

/// Sender identities of the tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct Senders {
    /// By address.
    pub items: Vec<SenderView>,
}

/// Lists sender identities, including those that were refused or withdrawn.
#[utoipa::path(
    get, path = "/v1/senders", tag = "senders", operation_id = "list_senders", params(SendersQuery),
    responses((status = 200, description = "All of them.", body = Senders))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<SendersQuery>,
) -> Json<Senders> {
    let now = state.write_side.journal.now();
    let directory = state.write_side.directory.snapshot();
    let own = directory.senders.iter().filter(|(_, tenant, _)| **tenant == auth.tenant);
    let own = own.map(|(_, _, identity)| SenderView::at(now, identity));
    let items = own.filter(|sender| query.status.is_none_or(|status| sender.status == status)).collect();
    Json(Senders { items })
}
