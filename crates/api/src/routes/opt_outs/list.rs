//! `GET /v1/opt-outs`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;

use super::OptOutView;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::Answer;
use crate::state::ApiState;

/// Lists who refuses advertisements.
#[utoipa::path(
    get, path = "/v1/opt-outs", tag = "opt-outs", operation_id = "list_opt_outs", params(Paging),
    responses((status = 200, description = "A page of addresses.", body = Page<OptOutView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(paging): ApiQuery<Paging>,
    headers: HeaderMap,
) -> Answer<Json<Page<OptOutView>>> {
    let (after, limit) = (paging.after()?, paging.size()?);
    state.fresh_address_book(&headers).await?;
    let listing =
        state.query(move |models| models.address_book.opt_outs(&auth.tenant, after.as_ref(), limit)).await?;
    Ok(Json(Page::of(listing, Into::into)))
}
