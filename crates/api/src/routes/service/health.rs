//! `GET /healthz`

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `alive`.
    #[schema(example = "alive")]
    pub status: &'static str,
}

/// Tells that the process is alive. `/readyz` tells whether it can work.
#[utoipa::path(
    get, path = "/healthz", tag = "service", operation_id = "get_health", security(()),
    responses((status = 200, description = "The process is alive.", body = Health))
)]
pub async fn handler() -> Json<Health> {
    Json(Health { status: "alive" })
}
