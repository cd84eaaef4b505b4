//! `GET /v1/contacts`

use axum::Json;
use axum::extract::State;
use kite_projections::ContactFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use super::ContactView;
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::extract::{List, PageOf};
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
}

impl List for ContactsQuery {
    const NAME: &'static str = "contacts";
    /// What they are exported in.
    const PIECE: usize = 1_000;
}

impl ContactsQuery {
    fn filter(self) -> Answer<ContactFilter> {
        let group = self.group.map(|id| id.parse()).transpose();
        let group = group.map_err(|error: kite_domain::ids::IdError| {
            Problem::new(Code::InvalidParameter, format!("The parameter group: {error}."))
        })?;
        Ok(ContactFilter { text: self.text, tag: self.tag.map(Into::into), group })
    }
}

/// Lists contacts.
#[utoipa::path(
    get, path = "/v1/contacts", tag = "contacts", operation_id = "list_contacts", params(PageOf<ContactsQuery>),
    responses((status = 200, description = "A page of contacts.", body = Page<ContactView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    list: PageOf<ContactsQuery>,
) -> Answer<Json<Page<ContactView>>> {
    let filter = list.query.filter()?;
    let contacts = list.page.read(&state, move |models, after, limit| {
        models.address_book.contacts(&auth.tenant, &filter, after, limit)
    });
    Ok(Json(contacts.await?.map(Into::into)))
}
