//! `GET /v1/sendings`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use kite_projections::SendingFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::SendingView;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::Answer;
use crate::state::ApiState;
use crate::words::{ClassWord, SendingStateWord};

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
    /// How many at most, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
}

/// Lists sendings, the newest first.
#[utoipa::path(
    get, path = "/v1/sendings", tag = "sendings", operation_id = "list_sendings", params(SendingsQuery),
    responses((status = 200, description = "A page of sendings.", body = Page<SendingView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<SendingsQuery>,
    headers: HeaderMap,
) -> Answer<Json<Page<SendingView>>> {
    let paging = Paging::of(query.cursor, query.limit);
    let (after, limit) = (paging.after()?, paging.size()?);
    let filter = SendingFilter {
        state: query.state.map(Into::into),
        class: query.class.map(Into::into),
        from: query.from,
        until: query.until,
        client_reference: query.client_reference,
    };
    state.fresh_delivery(&headers).await?;
    let tenant = auth.tenant;
    let listing = state
        .query(move |models| models.delivery.sendings(Some(&tenant), &filter, after.as_ref(), limit))
        .await?;
    Ok(Json(Page::of(listing, Into::into)))
}
