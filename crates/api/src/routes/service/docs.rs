//! `GET /docs` and `GET /openapi.json`

use axum::http::header;
use axum::response::{Html, IntoResponse, Redirect};
use std::sync::LazyLock;

use crate::docs_page;
use crate::openapi::openapi_json;

static OPENAPI: LazyLock<String> = LazyLock::new(openapi_json);
static PAGE: LazyLock<String> = LazyLock::new(docs_page::page);

/// Redirects people who open the bare address to the documentation.
pub async fn home() -> Redirect {
    Redirect::temporary("/docs")
}

/// Shows the documentation of the API.
#[utoipa::path(
    get, path = "/docs", tag = "service", operation_id = "get_docs", security(()),
    responses((status = 200, description = "A page for people.", content_type = "text/html", body = String))
)]
pub async fn page() -> Html<&'static str> {
    Html(PAGE.as_str())
}

/// Shows the API as an OpenAPI 3.1 document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", operation_id = "get_openapi", security(()),
    responses((status = 200, description = "The document.", content_type = "application/json", body = Object))
)]
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI.as_str())
}
