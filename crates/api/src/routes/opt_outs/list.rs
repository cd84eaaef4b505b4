//! `GET /v1/opt-outs`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use kite_domain::slug::TenantId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::OptOutView;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::export::{Batch, FileFormat, FormatWord, export, refuse_limit};
use crate::extract::ApiQuery;
use crate::problem::Answer;
use crate::state::ApiState;

/// Which refusals.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OptOutsQuery {
    /// The `next` of the page before; none: the first page.
    pub cursor: Option<String>,
    /// How many at most on a page, 1 to 200. Not with a file, which holds all of them.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
    /// All of them from the cursor on as a file: `csv` or `ndjson`. The header `accept` does the same.
    pub format: Option<FormatWord>,
}

/// Lists who refuses advertisements.
///
/// With `format=csv` (or `Accept: text/csv`) all of them as a table in the form that the import takes: `address`, `brand`,
/// `source`, `refused_at`. With `format=ndjson` as one JSON object a line. A file has at most 1,000,000 rows and takes half an
/// hour at most; one that would be longer is broken off.
#[utoipa::path(
    get, path = "/v1/opt-outs", tag = "opt-outs", operation_id = "list_opt_outs", params(OptOutsQuery),
    responses((status = 200, description = "A page of refusals, or all of them.", content(
        (Page<OptOutView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<OptOutsQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let format = FileFormat::of(query.format, &headers);
    let paging = Paging::of(query.cursor, query.limit);
    let Some(format) = format else {
        return Ok(Json(page(&state, auth.tenant, paging).await?).into_response());
    };
    refuse_limit(paging.limit)?;
    let (source, tenant) = (state.0.clone(), auth.tenant.clone());
    let pages = Box::new(move |cursor: Option<String>| {
        let (state, tenant) = (source.clone(), tenant.clone());
        async move {
            let page = page(&state, tenant, Paging::of_file(cursor)).await?;
            Ok(Batch { items: page.items, next: page.next })
        }
        .boxed()
    });
    export::<OptOutView>(&state, Some(&auth.tenant), format, paging.cursor, pages).await
}

async fn page(state: &ApiState, tenant: TenantId, paging: Paging) -> Answer<Page<OptOutView>> {
    let (after, limit) = (paging.after()?, paging.size()?);
    let listing =
        state.query(move |models| models.address_book.opt_outs(&tenant, after.as_ref(), limit)).await?;
    Ok(Page::of(listing, Into::into))
}
