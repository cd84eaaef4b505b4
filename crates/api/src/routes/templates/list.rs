//! `GET /v1/templates`

use axum::Json;
use axum::extract::State;
use kite_domain::template::TemplateSaved;
use kite_projections::Template;
use serde::Deserialize;
use utoipa::IntoParams;

use super::TemplateView;
use crate::answer::Page;
use crate::auth::TenantAuth;
use crate::extract::{List, PageOf};
use crate::problem::Answer;
use crate::state::ApiState;

/// All of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TemplatesQuery {}

impl List for TemplatesQuery {
    const NAME: &'static str = "templates";
}

/// Lists templates.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates", operation_id = "list_templates", params(PageOf<TemplatesQuery>),
    responses((status = 200, description = "A page of templates.", body = Page<TemplateView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    list: PageOf<TemplatesQuery>,
) -> Answer<Json<Page<TemplateView>>> {
    let tenant = auth.tenant.clone();
    let templates = list
        .page
        .read(&state, move |models, after, limit| models.address_book.templates(&tenant, after, limit));
    let view = |template: Template| {
        TemplateView::from(&TemplateSaved {
            tenant: auth.tenant.clone(),
            template: template.id,
            name: template.name,
            subject: template.subject,
            text: template.text,
        })
    };
    Ok(Json(templates.await?.map(view)))
}
