//! Groups of contacts.

pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod members;
pub mod rename;

use chrono::{DateTime, Utc};
use kite_domain::ids::GroupId;
use kite_domain::slug::TenantId;
use kite_projections::Group;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::freshness::Model;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::contacts::check_length;
use crate::state::ApiState;

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupView {
    /// Its id: 32 hexadecimal digits.
    #[schema(value_type = String, example = "0197c0de000070008000000000000002")]
    pub id: GroupId,
    /// Its name.
    #[schema(example = "서울 회원")]
    pub name: String,
    /// How many contacts are in it.
    pub members: u64,
    /// Since when it is there.
    pub created_at: DateTime<Utc>,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self { id: group.id, name: group.name, members: group.members, created_at: group.created_at }
    }
}

/// A group as a caller writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// Its name, one of a kind within the tenant.
    #[schema(example = "서울 회원")]
    pub name: String,
}

const NAME_CHARACTERS_MAX: usize = 100;

impl GroupBody {
    /// The name, if nobody else has it.
    async fn check(self, state: &ApiState, tenant: &TenantId, own: Option<GroupId>) -> Answer<String> {
        let name = self.name.trim().to_owned();
        let mut errors = Vec::new();
        check_length("name", &name, NAME_CHARACTERS_MAX, &mut errors);
        if name.is_empty() {
            errors.push(FieldError::new("name", "empty", "a group needs a name"));
        }
        if let Some(first) = errors.first() {
            return Err(Problem::new(Code::Refused, format!("The group cannot be saved: {}.", first.detail))
                .with_errors(errors));
        }
        let (owner, wanted) = (tenant.clone(), name.clone());
        let other = state.query(move |models| models.address_book.group_by_name(&owner, &wanted)).await?;
        match other {
            Some(group) if Some(group.id) != own => Err(Problem::new(
                Code::NotPossibleNow,
                format!("There is a group {name:?} already: {}.", group.id),
            )),
            _ => Ok(name),
        }
    }
}

/// The tenant's group of this id, once the tenant's own writes are seen, or the problem that there is none.
pub(super) async fn own_group(state: &ApiState, tenant: &TenantId, id: &str) -> Answer<Group> {
    let id: GroupId = id.parse().map_err(|_| Problem::not_found("group"))?;
    state.own_contact_writes(tenant).await?;
    find(state, tenant, id).await
}

async fn find(state: &ApiState, tenant: &TenantId, id: GroupId) -> Answer<Group> {
    let owner = tenant.clone();
    let found = state
        .find_own(Model::AddressBook, tenant, move |models| models.address_book.group(&owner, id))
        .await?;
    found.ok_or_else(|| Problem::not_found("group"))
}
