//! `PUT /v1/templates/{template}`

use axum::extract::State;

use super::{TemplateBody, TemplateView};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::{ApiJson, ApiPath};
use crate::problem::Answer;
use crate::state::ApiState;

/// Replaces a template. Sendings keep the text that they were accepted with.
#[utoipa::path(
    put, path = "/v1/templates/{template}", tag = "templates", operation_id = "update_template",
    params(("template" = String, Path, description = "The template's id")), request_body = TemplateBody,
    responses((status = 200, description = "The template is replaced.", body = TemplateView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    template: ApiPath<String>,
    ApiJson(body): ApiJson<TemplateBody>,
) -> Answer<Written<TemplateView>> {
    let known = super::find(&state, &auth.tenant, &template).await?;
    let saved = body.check(&auth.tenant, known.template)?;
    let view = TemplateView::from(&saved);
    let done = state.write_side.manage.save_template(&state.cause(&auth.actor), saved).await?;
    Ok(Written::changed(done.position, view))
}
