//! `GET /v1/contacts`

use axum::Json;
use axum::extract::State;
use kite_projections::ContactFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ContactView;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// Which contacts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ContactsQuery {
    /// Part of a name, number or e-mail address.
    pub text: Option<String>,
    /// A tag that they have.
    pub tag: Option<String>,
    /// The group that they are in.
    #[param(pattern = "^[0-9a-f]{32}$")]
    pub group: Option<String>,
    /// The `next` of the page before; none: the first page.
    pub cursor: Option<String>,
    /// How many at most, 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<usize>,
}

/// Lists contacts.
#[utoipa::path(
    get, path = "/v1/contacts", tag = "contacts", operation_id = "list_contacts", params(ContactsQuery),
    responses((status = 200, description = "A page of contacts.", body = Page<ContactView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(query): ApiQuery<ContactsQuery>,
) -> Answer<Json<Page<ContactView>>> {
    let paging = Paging::of(query.cursor, query.limit);
    let (after, limit) = (paging.after()?, paging.size()?);
    let group =
        query.group.map(|id| id.parse()).transpose().map_err(|error: kite_domain::ids::IdError| {
            Problem::new(Code::InvalidParameter, format!("The parameter group: {error}."))
        })?;
    let filter = ContactFilter { text: query.text, tag: query.tag.map(Into::into), group };
    let tenant = auth.tenant;
    let listing = state
        .query(move |models| models.address_book.contacts(&tenant, &filter, after.as_ref(), limit))
        .await?;
    Ok(Json(Page::of(listing, Into::into)))
}
