//! `GET /v1/opt-outs/{address}`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::{OptOutView, checked};
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::{Answer, Problem};
use crate::state::{ApiState, Model};

/// What an address refuses.
#[derive(Debug, Serialize, ToSchema)]
pub struct OptOutsOfAddress {
    /// That of all brands, where there is one; else that of the first brand.
    #[serde(flatten)]
    pub first: OptOutView,
    /// Those of single brands, beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<OptOutView>,
}

/// Shows whether an address refuses advertisements: 404 if it does not. Any spelling of the address finds it.
#[utoipa::path(
    get, path = "/v1/opt-outs/{address}", tag = "opt-outs", operation_id = "get_opt_out",
    params(("address" = String, Path, description = "The number or address")),
    responses((status = 200, description = "It does.", body = OptOutsOfAddress))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    address: ApiPath<String>,
    headers: HeaderMap,
) -> Answer<Json<OptOutsOfAddress>> {
    let address = checked(&address)?;
    state.fresh_address_book(&headers).await?;
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
