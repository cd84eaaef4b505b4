//! `GET /v1/opt-outs/{address}`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{OptOutView, checked};
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::freshness::Model;
use crate::problem::{Answer, Problem};
use crate::state::ApiState;

/// What keeps advertisements from an address. Each refusal has the `address` by which it came.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutsOfAddress {
    /// The address's own before those that came by another address of the same person; of one address, that of all brands
    /// before those of single ones.
    #[serde(flatten)]
    pub first: OptOutView,
    /// The others that bind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<OptOutView>,
}

/// Shows everything that keeps advertisements from an address: what it refused itself, and what the same person refused by
/// another address. 404 if nothing does. Any spelling of the address finds it.
#[utoipa::path(
    get, path = "/v1/opt-outs/{address}", tag = "opt-outs", operation_id = "get_opt_out",
    params(("address" = String, Path, description = "The number or address")),
    responses((status = 200, description = "What binds it.", body = OptOutsOfAddress))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    address: ApiPath<String>,
) -> Answer<Json<OptOutsOfAddress>> {
    let address = checked(&address)?;
    let owner = auth.tenant.clone();
    let found = state
        .find_own(Model::AddressBook, &auth.tenant, move |models| {
            let mut found = models.address_book.opt_outs_of(&owner, &address)?.into_iter();
            Ok(found.next().map(|first| (first, found.collect::<Vec<_>>())))
        })
        .await?;
    let (first, further) = found.ok_or_else(|| Problem::not_found("opt-out"))?;
    let further = further.into_iter().map(Into::into).collect();
    Ok(Json(OptOutsOfAddress { first: first.into(), further }))
}
