//! `GET /v1/messages`

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use kite_domain::address::Address;
use kite_domain::slug::{RelayId, TenantId};
use kite_projections::MessageSearch;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{CodeTexts, MessageView};
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::extract::{List, PageOrFile, Wanted};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::senders::canonical;
use crate::state::ApiState;
use crate::vocabulary::{ChannelWord, ClassWord, MessageStatusWord};

/// Which messages: those that match every filter that is set.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// To this number or e-mail address, even if they would only fail over to it.
    #[param(example = "010-1234-5678")]
    pub to: Option<String>,
    /// Where they stand.
    pub status: Option<MessageStatusWord>,
    /// Why they ended: a relay's code or one of Kite's own words.
    #[param(example = "3041")]
    pub reason: Option<String>,
    /// The relay of the newest attempt.
    #[param(pattern = "^[a-z0-9][a-z0-9-]{0,31}$")]
    pub relay: Option<String>,
    /// The channel of the newest attempt; without one, that of the message's type.
    pub channel: Option<ChannelWord>,
    /// The number or address of the sender, as the sending named it.
    #[param(example = "02-1234-5678")]
    pub sender: Option<String>,
    /// How urgent.
    pub class: Option<ClassWord>,
    /// Your own name for the sending.
    pub client_reference: Option<String>,
    /// Accepted at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Accepted before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Finds messages by any combination of filters, newest first.
///
/// A page may be short, even empty, although there is more: then it has examined as much as one page may, and `next`
/// says where to continue. With `client_reference` the newest sending comes first, and each from its last message on.
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all matches are a file of at most 1,000,000 rows and
/// half an hour; a longer file is broken off.
#[utoipa::path(
    get, path = "/v1/messages", tag = "messages", operation_id = "search_messages", params(PageOrFile<SearchQuery>),
    responses((status = 200, description = "A page of messages.", content(
        (Page<MessageView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    list: PageOrFile<SearchQuery>,
) -> Answer<Response> {
    answer(&state, Some(&auth.tenant), &auth.tenant, list).await
}

/// The messages of a tenant, as a page or a file. `asker` is the tenant for whom the file is written; none: an
/// operator.
pub(crate) async fn answer(
    state: &ApiState,
    asker: Option<&TenantId>,
    tenant: &TenantId,
    list: PageOrFile<SearchQuery>,
) -> Answer<Response> {
    let which = (tenant.clone(), list.query.into_search()?);
    list.form.answer(state, asker, which, page).await
}

async fn page(
    state: ApiState,
    (tenant, search): (TenantId, MessageSearch),
    wanted: Wanted<SearchQuery>,
) -> Answer<Page<MessageView>> {
    let messages = wanted
        .read(&state, move |models, after, limit| models.delivery.search(&tenant, &search, after, limit));
    let messages = messages.await?;
    let texts = CodeTexts::new(state.write_side.directory.snapshot());
    Ok(messages.map(|message| MessageView::of(message, &texts)))
}

impl List for SearchQuery {
    const NAME: &'static str = "messages";
}

impl SearchQuery {
    fn into_search(self) -> Answer<MessageSearch> {
        let invalid = |field: &str, code: &str, detail: String| {
            Problem::new(Code::InvalidParameter, format!("The parameter {field}: {detail}."))
                .at(FieldError::new(field, code, detail))
        };
        let to = self.to.as_deref().map(Address::parse).transpose();
        let to = to.map_err(|error| invalid("to", error.code(), error.to_string()))?;
        let relay = self.relay.as_deref().map(RelayId::parse).transpose();
        let relay = relay.map_err(|error| invalid("relay", "invalid_relay", error.to_string()))?;
        if let (Some(from), Some(until)) = (self.from, self.until)
            && until <= from
        {
            return Err(invalid("until", "window_empty", "it must be later than from".to_owned()));
        }
        Ok(MessageSearch {
            to: to.map(|address| address.as_str().to_owned()),
            status: self.status.map(Into::into),
            reason: self.reason,
            relay,
            channel: self.channel.map(Into::into),
            sender: self.sender.map(|sender| canonical(&sender).to_string()),
            class: self.class.map(Into::into),
            client_reference: self.client_reference,
            from: self.from,
            until: self.until,
        })
    }
}
