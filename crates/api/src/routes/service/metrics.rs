//! `GET /metrics`

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::state::ApiState;

/// Shows all metrics in the Prometheus text format. No label holds personal data.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "get_metrics", security(()),
    responses((status = 200, description = "The metrics.", content_type = "text/plain", body = String))
)]
pub async fn handler(state: State<ApiState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (state.metrics_text)())
}
