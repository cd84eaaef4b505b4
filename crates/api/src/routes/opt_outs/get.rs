//! `GET /v1/opt-outs/{address}`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;

use super::{OptOutView, canonical};
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::{Answer, Problem};
use crate::state::{ApiState, Model};

/// Shows whether an address refuses advertisements: 404 if it does not.
#[utoipa::path(
    get, path = "/v1/opt-outs/{address}", tag = "opt-outs", operation_id = "get_opt_out",
    params(("address" = String, Path, description = "The number or address")),
    responses((status = 200, description = "It does.", body = OptOutView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    address: ApiPath<String>,
    headers: HeaderMap,
) -> Answer<Json<OptOutView>> {
    let address = canonical(&address)?;
    state.fresh_address_book(&headers).await?;
    let owner = auth.tenant.clone();
    let found = state
        .find_own(Model::AddressBook, &auth.tenant, move |models| {
            models.address_book.opt_out(&owner, &address)
        })
        .await?;
    found.map(|opt_out| Json(opt_out.into())).ok_or_else(|| Problem::not_found("opt-out"))
}
