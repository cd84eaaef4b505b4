//! `GET /v1/groups`

use axum::Json;
use axum::extract::State;

use super::GroupView;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::Answer;
use crate::state::ApiState;

/// Lists groups.
#[utoipa::path(
    get, path = "/v1/groups", tag = "groups", operation_id = "list_groups", params(Paging),
    responses((status = 200, description = "A page of groups.", body = Page<GroupView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(paging): ApiQuery<Paging>,
) -> Answer<Json<Page<GroupView>>> {
    let (after, limit) = (paging.after()?, paging.size()?);
    let listing =
        state.query(move |models| models.address_book.groups(&auth.tenant, after.as_ref(), limit)).await?;
    Ok(Json(Page::of(listing, Into::into)))
}
