//! `POST /v1/groups/{group}/members`
//!
//! Who is in a group is listed by `GET /v1/contacts?group=`.

use axum::extract::State;
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// Who joins and who leaves.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MembersBody {
    /// Contacts that join.
    #[schema(value_type = Vec<String>)]
    pub add: Vec<ContactId>,
    /// Contacts that leave.
    #[schema(value_type = Vec<String>)]
    pub remove: Vec<ContactId>,
}

/// What changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct MembersChanged {
    /// How many joined; those that were in the group before are not counted.
    pub added: usize,
    /// How many left; those that were not in the group are not counted.
    pub removed: usize,
}

/// Puts contacts into a group, or takes them out.
#[utoipa::path(
    post, path = "/v1/groups/{group}/members", tag = "groups", operation_id = "change_members",
    params(("group" = String, Path, description = "The group's id")), request_body = MembersBody,
    responses((status = 200, description = "They joined and left.", body = MembersChanged))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    group: ApiPath<String>,
    ApiJson(body): ApiJson<MembersBody>,
) -> Answer<Written<MembersChanged>> {
    let group = super::own_group(&state, &auth.tenant, &group).await?;
    check_known(&state, &auth.tenant, &body.add).await?;
    let changed = MembersChanged {
        added: count(&state, &auth.tenant, group.id, &body.add, |is_member| !is_member).await?,
        removed: count(&state, &auth.tenant, group.id, &body.remove, |is_member| is_member).await?,
    };
    let cause = state.cause(&auth.actor);
    let written =
        state.write_side.address_book.change_members(&cause, &auth.tenant, group.id, body.add, body.remove);
    let position = written.await?;
    state.note_contact_write(&auth.tenant, position);
    Ok(Written::changed(position, changed))
}

/// How many different contacts of these have the wanted membership now.
async fn count(
    state: &ApiState,
    tenant: &TenantId,
    group: GroupId,
    ids: &[ContactId],
    is_counted: impl Fn(bool) -> bool,
) -> Answer<usize> {
    let (tenant, ids) = (tenant.clone(), ids.to_vec());
    let members = state.query(move |models| models.address_book.membership(&tenant, group, &ids)).await?;
    Ok(members.into_values().filter(|is_member| is_counted(*is_member)).count())
}

async fn check_known(state: &ApiState, tenant: &TenantId, ids: &[ContactId]) -> Answer<()> {
    let (tenant, ids) = (tenant.clone(), ids.to_vec());
    let known = state.query(move |models| models.address_book.contacts_by_id(&tenant, &ids)).await?;
    let unknown: Vec<FieldError> = known
        .iter()
        .enumerate()
        .filter(|(_, contact)| contact.is_none())
        .map(|(place, _)| {
            FieldError::new(format!("add[{place}]"), "contact_not_found", "there is no such contact")
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let detail = format!("{} of the contacts do not exist; nothing was changed.", unknown.len());
    Err(Problem::new(Code::Refused, detail).with_errors(unknown))
}
