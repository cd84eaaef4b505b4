//! `GET /v1/templates`

use axum::Json;
use axum::extract::State;
use kite_domain::template::TemplateSaved;

use super::TemplateView;
use crate::answer::{Page, Paging};
use crate::auth::TenantAuth;
use crate::extract::ApiQuery;
use crate::problem::Answer;
use crate::state::ApiState;

/// Lists templates.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates", operation_id = "list_templates", params(Paging),
    responses((status = 200, description = "A page of templates.", body = Page<TemplateView>))
)]
pub async fn handler(
    state: State<ApiState>,
    auth: TenantAuth,
    ApiQuery(paging): ApiQuery<Paging>,
) -> Answer<Json<Page<TemplateView>>> {
    let (after, limit) = (paging.after()?, paging.size()?);
    let tenant = auth.tenant.clone();
    let listing =
        state.query(move |models| models.address_book.templates(&tenant, after.as_ref(), limit)).await?;
    Ok(Json(Page::of(listing, |template| {
        TemplateView::from(&TemplateSaved {
            tenant: auth.tenant.clone(),
            template: template.id,
            name: template.name,
            subject: template.subject,
            text: template.text,
        })
    })))
}
