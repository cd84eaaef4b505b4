//! `GET /v1/templates/{template}`

use axum::Json;
use axum::extract::State;

use super::TemplateView;
use crate::auth::TenantAuth;
use crate::extract::ApiPath;
use crate::problem::Answer;
use crate::state::ApiState;

/// Shows a template.
#[utoipa::path(
    get, path = "/v1/templates/{template}", tag = "templates", operation_id = "get_template",
    params(("template" = String, Path, description = "The template's id")),
    responses((status = 200, description = "The template.", body = TemplateView))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    template: ApiPath<String>,
) -> Answer<Json<TemplateView>> {
    super::find(&state, &auth.tenant, &template).await.map(|template| Json(TemplateView::from(&template)))
}
