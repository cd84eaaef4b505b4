//! `GET /v1/sendings/{sending}/messages`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use kite_domain::ids::SendingId;
use kite_domain::slug::{RelayId, TenantId};
use kite_projections::MessageFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::get::find;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::export::{Batch, FileFormat, FormatWord, export, refuse_limit};
use crate::extract::{ApiPath, ApiQuery};
use crate::problem::{Answer, Code, Problem};
use crate::routes::messages::{CodeTexts, MessageView};
use crate::state::ApiState;
use crate::vocabulary::MessageStatusWord;

/// Which messages.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MessagesQuery {
    /// Where they stand.
    pub status: Option<MessageStatusWord>,
    /// The relay of the newest attempt.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub relay: Option<String>,
    /// Whether they took more than one attempt.
    pub failed_over: Option<bool>,
    /// The `next` of the page before; none: the first page.
    pub cursor: Option<String>,
    /// How many at most on a page, 1 to 200. Not with a file, which holds all of them.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
    /// All of them from the cursor on as a file: `csv` or `ndjson`. The header `accept` does the same.
    pub format: Option<FormatWord>,
}

/// Lists the messages of a sending, each with its attempts.
///
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all of them as a file of at most half an hour.
#[utoipa::path(
    get, path = "/v1/sendings/{sending}/messages", tag = "sendings", operation_id = "list_sending_messages",
    params(("sending" = String, Path, description = "The sending's id"), MessagesQuery),
    responses((status = 200, description = "A page of messages.", content(
        (Page<MessageView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    sending: ApiPath<String>,
    ApiQuery(query): ApiQuery<MessagesQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let format = FileFormat::of(query.format, &headers);
    let relay = query.relay.as_deref().map(RelayId::parse).transpose();
    let relay = relay
        .map_err(|error| Problem::new(Code::InvalidParameter, format!("The parameter relay: {error}.")))?;
    let filter =
        MessageFilter { status: query.status.map(Into::into), relay, failed_over: query.failed_over };
    let id = find(&state, &auth.tenant, &sending).await?.id;
    let Some(format) = format else {
        let paging = Paging::of(query.cursor, query.limit);
        return Ok(Json(page(&state, auth.tenant, id, filter, paging).await?).into_response());
    };
    refuse_limit(query.limit)?;
    let (source, tenant) = (state.0.clone(), auth.tenant.clone());
    let pages = Box::new(move |cursor: Option<String>| {
        let (state, tenant, filter) = (source.clone(), tenant.clone(), filter.clone());
        async move {
            let page = page(&state, tenant, id, filter, Paging::of_file(cursor)).await?;
            Ok(Batch { items: page.items, next: page.next })
        }
        .boxed()
    });
    export::<MessageView>(&state, Some(&auth.tenant), format, query.cursor, pages).await
}

async fn page(
    state: &ApiState,
    tenant: TenantId,
    sending: SendingId,
    filter: MessageFilter,
    paging: Paging,
) -> Answer<Page<MessageView>> {
    let (after, limit) = (paging.after()?, paging.size()?);
    let listing = state
        .query(move |models| models.delivery.messages(&tenant, sending, &filter, after.as_ref(), limit))
        .await?;
    let texts = CodeTexts::new(state.write_side.directory.snapshot());
    Ok(Page::of(listing, |message| MessageView::of(message, &texts)))
}
