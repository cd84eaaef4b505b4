//! `POST /v1/templates`

use axum::extract::State;
use kite_domain::ids::TemplateId;

use super::{TemplateBody, TemplateView};
use crate::answer::Written;
use crate::auth::TenantAuth;
use crate::extract::ApiJson;
use crate::problem::Answer;
use crate::state::ApiState;

/// Stores a template.
#[utoipa::path(
    post, path = "/v1/templates", tag = "templates", operation_id = "create_template", request_body = TemplateBody,
    responses((status = 201, description = "The template is stored.", body = TemplateView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiJson(body): ApiJson<TemplateBody>,
) -> Answer<Written<TemplateView>> {
    let saved = body.check(&auth.tenant, TemplateId(state.write_side.journal.next_id()))?;
    let view = TemplateView::from(&saved);
    let done = state.write_side.manage.save_template(&state.cause(&auth.actor), saved).await?;
    Ok(Written::created(done.position, format!("/v1/templates/{}", view.id), view))
}
