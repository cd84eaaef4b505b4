//! `DELETE /v1/templates/{template}`

use axum::extract::State;

use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::Answer;
use crate::state::ApiState;

/// Deletes a template. Sendings that used it are not touched.
#[utoipa::path(
    delete, path = "/v1/templates/{template}", tag = "templates", operation_id = "delete_template",
    params(("template" = String, Path, description = "The template's id")),
    responses((status = 204, description = "The template is gone."))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    template: ApiPath<String>,
) -> Answer<Written<()>> {
    let known = super::find(&state, &auth.tenant, &template).await?;
    let done = state
        .write_side
        .manage
        .delete_template(&state.cause(&auth.actor), &auth.tenant, known.template)
        .await?;
    Ok(Written::done(done.position))
}
