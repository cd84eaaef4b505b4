//! `GET /v1/sendings/{sending}/messages`

use axum::extract::State;
use axum::response::Response;
use kite_domain::ids::SendingId;
use kite_domain::slug::{RelayId, TenantId};
use kite_projections::MessageFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::get::find;
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::extract::{ApiPath, List, PageOrFile, Wanted};
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
}

impl List for MessagesQuery {
    const NAME: &'static str = "sending-messages";
}

impl MessagesQuery {
    fn filter(self) -> Answer<MessageFilter> {
        let relay = self.relay.as_deref().map(RelayId::parse).transpose();
        let relay = relay.map_err(|error| {
            Problem::new(Code::InvalidParameter, format!("The parameter relay: {error}."))
        })?;
        Ok(MessageFilter { status: self.status.map(Into::into), relay, failed_over: self.failed_over })
    }
}

/// Lists the messages of a sending, each with its attempts.
///
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all of them as a file of at most half an hour.
#[utoipa::path(
    get, path = "/v1/sendings/{sending}/messages", tag = "sendings", operation_id = "list_sending_messages",
    params(("sending" = String, Path, description = "The sending's id"), PageOrFile<MessagesQuery>),
    responses((status = 200, description = "A page of messages.", content(
        (Page<MessageView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    sending: ApiPath<String>,
    list: PageOrFile<MessagesQuery>,
) -> Answer<Response> {
    let filter = list.query.filter()?;
    let id = find(&state, &auth.tenant, &sending).await?.id;
    list.form.answer(&state, Some(&auth.tenant), (auth.tenant.clone(), id, filter), page).await
}

async fn page(
    state: ApiState,
    (tenant, sending, filter): (TenantId, SendingId, MessageFilter),
    wanted: Wanted<MessagesQuery>,
) -> Answer<Page<MessageView>> {
    let messages = wanted.read(&state, move |models, after, limit| {
        models.delivery.messages(&tenant, sending, &filter, after, limit)
    });
    let messages = messages.await?;
    let texts = CodeTexts::new(state.write_side.directory.snapshot());
    Ok(messages.map(|message| MessageView::of(message, &texts)))
}
