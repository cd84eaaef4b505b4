//! `GET /v1/sendings`

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use kite_domain::slug::TenantId;
use kite_projections::SendingFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::SendingView;
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::extract::{List, PageOrFile, Wanted};
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
}

impl List for SendingsQuery {
    const NAME: &'static str = "sendings";
}

impl SendingsQuery {
    fn filter(self) -> SendingFilter {
        SendingFilter {
            state: self.state.map(Into::into),
            class: self.class.map(Into::into),
            from: self.from,
            until: self.until,
            client_reference: self.client_reference,
        }
    }
}

/// Lists sendings, newest first.
///
/// With `format=csv` (or `Accept: text/csv`) or `format=ndjson` all of them as a file of at most 1,000,000 rows and
/// half an hour; a longer file is broken off.
#[utoipa::path(
    get, path = "/v1/sendings", tag = "sendings", operation_id = "list_sendings", params(PageOrFile<SendingsQuery>),
    responses((status = 200, description = "A page of sendings.", content(
        (Page<SendingView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    list: PageOrFile<SendingsQuery>,
) -> Answer<Response> {
    let which = (auth.tenant.clone(), list.query.filter());
    list.form.answer(&state, Some(&auth.tenant), which, page).await
}

async fn page(
    state: ApiState,
    (tenant, filter): (TenantId, SendingFilter),
    wanted: Wanted<SendingsQuery>,
) -> Answer<Page<SendingView>> {
    let sendings = wanted.read(&state, move |models, after, limit| {
        models.delivery.sendings(Some(&tenant), &filter, after, limit)
    });
    Ok(sendings.await?.map(Into::into))
}
