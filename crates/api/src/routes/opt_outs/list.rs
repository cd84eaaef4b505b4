//! `GET /v1/opt-outs`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::{OptOutView, export};
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::Answer;
use crate::state::ApiState;

/// Lists who refuses advertisements.
///
/// With `Accept: text/csv` all of them as a table, in the form that the import takes: `address`, `brand`, `source`,
/// `refused_at`.
#[utoipa::path(
    get, path = "/v1/opt-outs", tag = "opt-outs", operation_id = "list_opt_outs", params(Paging),
    responses((status = 200, description = "A page of refusals, or all of them.", content(
        (Page<OptOutView> = "application/json"), (String = "text/csv"),
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(paging): ApiQuery<Paging>,
    headers: HeaderMap,
) -> Answer<Response> {
    let (after, limit) = (paging.after()?, paging.size()?);
    state.fresh_address_book(&headers).await?;
    let wanted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if wanted.contains("text/csv") {
        return Ok(export::table(state.0, auth.tenant));
    }
    let listing =
        state.query(move |models| models.address_book.opt_outs(&auth.tenant, after.as_ref(), limit)).await?;
    Ok(Json(Page::<OptOutView>::of(listing, Into::into)).into_response())
}
