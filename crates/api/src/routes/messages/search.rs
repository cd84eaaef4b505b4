//! `GET /v1/messages`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use kite_domain::address::Address;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{CodeTexts, MessageView};
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// To whom.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// The recipient's number or e-mail address.
    #[param(example = "010-1234-5678")]
    pub to: String,
    /// The `next` of the page before; none: the first page.
    #[serde(default)]
    pub cursor: Option<String>,
    /// How many at most, 1 to 200.
    #[serde(default)]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
}

/// Finds all messages to a recipient, the newest first.
#[utoipa::path(
    get, path = "/v1/messages", tag = "messages", operation_id = "search_messages", params(SearchQuery),
    responses((status = 200, description = "A page of messages.", body = Page<MessageView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<SearchQuery>,
    headers: HeaderMap,
) -> Answer<Json<Page<MessageView>>> {
    let paging = Paging::of(query.cursor, query.limit);
    let (after, limit) = (paging.after()?, paging.size()?);
    let address = Address::parse(&query.to).map_err(|error| {
        Problem::new(Code::InvalidParameter, format!("The parameter to: {error}.")).at(FieldError::new(
            "to",
            error.code(),
            error.to_string(),
        ))
    })?;
    state.fresh_delivery(&headers).await?;
    let listing = state
        .query(move |models| models.delivery.search(&auth.tenant, address.as_str(), after.as_ref(), limit))
        .await?;
    let texts = CodeTexts::new(state.directory.snapshot());
    Ok(Json(Page::of(listing, |message| MessageView::of(message, &texts))))
}
