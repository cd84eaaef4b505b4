//! `GET /v1/sendings`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use kite_domain::slug::TenantId;
use kite_projections::SendingFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::SendingView;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::export::{Batch, FileFormat, FormatWord, export, refuse_limit};
use crate::extract::ApiQuery;
use crate::problem::Answer;
use crate::state::ApiState;
use crate::vocabulary::{ClassWord, SendingStateWord};

/// Which sendings.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SendingsQuery {
    /// Where they stand.
    pub state: Option<SendingStateWord>,
    /// How urgent.
    pub class: Option<ClassWord>,
    /// Accepted at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Accepted before this time.
    pub until: Option<DateTime<Utc>>,
    /// Your own name for it.
    pub client_reference: Option<String>,
    /// The `next` of the page before; none: the first page.
    pub cursor: Option<String>,
    /// How many at most on a page, 1 to 200. Not with a file, which holds all of them.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
    /// All of them from the cursor on as a file: `csv` or `ndjson`. The header `accept` does the same.
    pub format: Option<FormatWord>,
}

/// Lists sendings, the newest first.
///
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all of them as a file of at most 1,000,000 rows and half an
/// hour; a file that would be longer is broken off.
#[utoipa::path(
    get, path = "/v1/sendings", tag = "sendings", operation_id = "list_sendings", params(SendingsQuery),
    responses((status = 200, description = "A page of sendings.", content(
        (Page<SendingView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<SendingsQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let format = FileFormat::of(query.format, &headers);
    let filter = SendingFilter {
        state: query.state.map(Into::into),
        class: query.class.map(Into::into),
        from: query.from,
        until: query.until,
        client_reference: query.client_reference,
    };
    let Some(format) = format else {
        let page = page(&state, auth.tenant, filter, Paging::of(query.cursor, query.limit)).await?;
        return Ok(Json(page).into_response());
    };
    refuse_limit(query.limit)?;
    let (source, tenant) = (state.0.clone(), auth.tenant.clone());
    let pages = Box::new(move |cursor: Option<String>| {
        let (state, tenant, filter) = (source.clone(), tenant.clone(), filter.clone());
        async move {
            let page = page(&state, tenant, filter, Paging::of_file(cursor)).await?;
            Ok(Batch { items: page.items, next: page.next })
        }
        .boxed()
    });
    export::<SendingView>(&state, Some(&auth.tenant), format, query.cursor, pages).await
}

async fn page(
    state: &ApiState,
    tenant: TenantId,
    filter: SendingFilter,
    paging: Paging,
) -> Answer<Page<SendingView>> {
    let (after, limit) = (paging.after()?, paging.size()?);
    let listing = state
        .query(move |models| models.delivery.sendings(Some(&tenant), &filter, after.as_ref(), limit))
        .await?;
    Ok(Page::of(listing, Into::into))
}
