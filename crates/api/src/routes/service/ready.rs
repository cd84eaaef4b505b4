//! `GET /readyz`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::SeesInside;
use crate::state::{ApiState, ReadinessCheck};

/// Whether requests may be sent here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// All checks hold.
    pub is_ready: bool,
    /// For an operator all of them; for everybody else the failing ones, without details.
    pub checks: Vec<ReadinessCheckView>,
}

/// One thing that must hold before requests are sent here.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReadinessCheck)]
pub struct ReadinessCheckView {
    /// What is looked at.
    #[schema(example = "log")]
    pub name: String,
    /// Whether it holds.
    pub is_ready: bool,
    /// What was seen; only for an operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Tells whether the process can work: the log takes appends, no read model is too far behind, no projector stands
/// still while there is something to read, and there is room on the disk. The check `parked` counts, by read model,
/// the events that could not be applied and were set aside; they are an alarm, but the process stays ready.
///
/// No key is needed, so that a probe can ask: the status says whether the process is ready, and the body names the
/// failing checks. With an operator's key, or at the listener for administration, it shows the details of every
/// check.
#[utoipa::path(
    get, path = "/readyz", tag = "service", operation_id = "get_ready", security((), ("admin_key" = [])),
    responses(
        (status = 200, description = "It can.", body = Ready),
        (status = 503, description = "It cannot; the checks say why.", body = Ready)
    )
)]
pub async fn handler(state: State<ApiState>, SeesInside(sees_inside): SeesInside) -> Response {
    let mut checks = state.readiness.checks().await;
    checks.extend(lags(&state));
    let is_ready = checks.iter().all(|check| check.is_ready);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let shown = checks.into_iter().filter(|check| sees_inside || !check.is_ready);
    let checks = shown.map(|check| ReadinessCheckView {
        name: check.name,
        is_ready: check.is_ready,
        detail: sees_inside.then_some(check.detail),
    });
    (status, Json(Ready { is_ready, checks: checks.collect() })).into_response()
}

fn lags(state: &ApiState) -> Vec<ReadinessCheck> {
    let store = state.write_side.journal.store();
    let most = state.config.ready_lag_events_max;
    let check = |(name, position): (&str, u64)| {
        let lag = store.count_after(position);
        ReadinessCheck {
            name: format!("read-model:{}", name.replace('_', "-")),
            is_ready: lag <= most,
            detail: format!("{lag} events behind, at most {most} allowed"),
        }
    };
    state.read_models.positions().map(check).collect()
}
