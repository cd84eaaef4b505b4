//! `GET /metrics`

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::counters::metrics_text;
use crate::state::ApiState;

/// Shows all metrics in the Prometheus text format. No label holds personal data.
///
/// `kite_counted_…` are the counters of sendings and statistics, over all tenants and times, by relay, channel and class.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "get_metrics", security(()),
    responses((status = 200, description = "The metrics.", content_type = "text/plain", body = String))
)]
pub async fn handler(state: State<ApiState>) -> impl IntoResponse {
    let mut text = (state.metrics_text)();
    // Where they cannot be read now, the others are still worth having.
    if let Ok(totals) = state.query(|models| models.delivery.relay_totals()).await {
        text.push_str(&metrics_text(&totals));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
