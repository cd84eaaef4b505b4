//! `GET /v1/groups`

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::GroupView;
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::extract::{List, PageOf};
use crate::problem::Answer;
use crate::state::ApiState;

/// All of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct GroupsQuery {}

impl List for GroupsQuery {
    const NAME: &'static str = "groups";
}

/// Lists groups.
#[utoipa::path(
    get, path = "/v1/groups", tag = "groups", operation_id = "list_groups", params(PageOf<GroupsQuery>),
    responses((status = 200, description = "A page of groups.", body = Page<GroupView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    list: PageOf<GroupsQuery>,
) -> Answer<Json<Page<GroupView>>> {
    let groups = list
        .page
        .read(&state, move |models, after, limit| models.address_book.groups(&auth.tenant, after, limit));
    Ok(Json(groups.await?.map(Into::into)))
}
