//! `GET /v1/sendings/{sending}`

use axum::Json;
use axum::extract::State;
use kite_domain::ids::SendingId;
use kite_domain::slug::TenantId;
use kite_projections::KnownSending;

use super::SendingView;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::freshness::Model;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// Shows a sending with how its messages stand.
#[utoipa::path(
    get, path = "/v1/sendings/{sending}", tag = "sendings", operation_id = "get_sending",
    params(("sending" = String, Path, description = "The sending's id")),
    responses((status = 200, description = "The sending.", body = SendingView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    sending: ApiPath<String>,
) -> Answer<Json<SendingView>> {
    Ok(Json(find(&state, &auth.tenant, &sending).await?.into()))
}

/// The tenant's sending of this id, or the problem that there is none.
pub(super) async fn find(state: &ApiState, tenant: &TenantId, id: &str) -> Answer<KnownSending> {
    let id: SendingId = id.parse().map_err(|_| Problem::not_found("sending"))?;
    let owner = tenant.clone();
    let found =
        state.find_own(Model::Delivery, tenant, move |models| models.delivery.sending(&owner, id)).await?;
    found.ok_or_else(|| Problem::not_found("sending"))
}
