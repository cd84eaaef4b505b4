//! `GET /v1/admin/tenants/{tenant}/messages`

use axum::extract::State;
use axum::response::Response;

use super::sendings::tenant_of;
use crate::answer::Page;
use crate::auth::AdminAuth;
use crate::extract::{ApiPath, PageOrFile};
use crate::problem::Answer;
use crate::routes::messages::MessageView;
use crate::routes::messages::search::{SearchQuery, answer};
use crate::state::ApiState;

/// Finds messages of a tenant by any combination of filters, newest first.
///
/// The same search as the tenant's own, with the same pages and files.
#[utoipa::path(
    get, path = "/v1/admin/tenants/{tenant}/messages", tag = "admin", operation_id = "admin_search_messages",
    params(("tenant" = String, Path, description = "The tenant's id"), PageOrFile<SearchQuery>),
    responses((status = 200, description = "A page of messages.", content(
        (Page<MessageView> = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")
    )))
)]
pub async fn search(
    state: State<ApiState>,
    _auth: AdminAuth,
    tenant: ApiPath<String>,
    list: PageOrFile<SearchQuery>,
) -> Answer<Response> {
    let tenant = tenant_of(&tenant)?;
    state.known_tenant(&tenant).await?;
    answer(&state, None, &tenant, list).await
}
