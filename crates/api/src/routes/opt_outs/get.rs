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

/// A refusal that keeps advertisements from an address, with the `address` that refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutsOfAddress {
    /// The address's own refusals come before those by another address of the same person; within an address,
    /// refusals of all brands come before those of single ones.
    #[serde(flatten)]
    pub first: OptOutView,
    /// The others that bind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<OptOutView>,
}

/// Shows every refusal that keeps advertisements from an address: its own, and those of the same person by another
/// address. 404 if there is none. Any spelling of the address finds it.
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
