//! `GET /v1/opt-outs`

use axum::extract::State;
use axum::response::Response;
use kite_domain::slug::TenantId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::OptOutView;
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::extract::{List, PageOrFile, Wanted};
use crate::problem::Answer;
use crate::state::ApiState;

/// All of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OptOutsQuery {}

impl List for OptOutsQuery {
    const NAME: &'static str = "opt-outs";
}

/// Lists who refuses advertisements.
///
/// With `format=csv` (or `Accept: text/csv`) all of them as a table in the form that the import takes: `address`,
/// `brand`, `source`, `refused_at`. With `format=ndjson` as one JSON object per line. A file has at most 1,000,000
/// rows and takes half an hour at most; a longer one is broken off.
#[utoipa::path(
    get, path = "/v1/opt-outs", tag = "opt-outs", operation_id = "list_opt_outs", params(PageOrFile<OptOutsQuery>),
    responses((status = 200, description = "A page of refusals, or all of them.", content(
        (Page<OptOutView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    list: PageOrFile<OptOutsQuery>,
) -> Answer<Response> {
    list.form.answer(&state, Some(&auth.tenant), auth.tenant.clone(), page).await
}

async fn page(state: ApiState, tenant: TenantId, wanted: Wanted<OptOutsQuery>) -> Answer<Page<OptOutView>> {
    let opt_outs =
        wanted.read(&state, move |models, after, limit| models.address_book.opt_outs(&tenant, after, limit));
    Ok(opt_outs.await?.map(Into::into))
}
