//! Changing and looking into a running simulator. For tests and operators; not part of the carrier protocol.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{json, problem};
use crate::forge::ForgeRequest;
use crate::scenario::OutageMode;
use crate::shared::Shared;

/// Most entries on a page.
const PAGE_MAX: usize = 10_000;

fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "unknown_relay", "no such relay")
}

/// `GET /admin/scenario`: the scenario as it was started.
pub(super) async fn scenario(State(shared): State<Arc<Shared>>) -> Response {
    json(StatusCode::OK, &shared.scenario)
}

/// `POST /admin/reset`: empty ledgers, the scenario's behaviour, outage windows count from now.
pub(super) async fn reset(State(shared): State<Arc<Shared>>) -> Response {
    shared.reset();
    StatusCode::NO_CONTENT.into_response()
}

/// A page of one relay's ledger.
#[derive(Deserialize)]
pub(super) struct LedgerPage {
    relay: String,
    #[serde(default)]
    after: usize,
    #[serde(default = "page_max")]
    limit: usize,
    /// Only references or recipients that begin with this.
    #[serde(default)]
    prefix: String,
}

fn page_max() -> usize {
    PAGE_MAX
}

/// `GET /admin/ledger?relay=&after=&limit=&prefix=`: `{"entries":[…],"next":n|null}`
pub(super) async fn ledger(State(shared): State<Arc<Shared>>, Query(page): Query<LedgerPage>) -> Response {
    let Some(relay) = shared.relay(&page.relay) else { return not_found() };
    let limit = page.limit.clamp(1, PAGE_MAX);
    let mut entries = relay.page(page.after, limit);
    let next = page.after.saturating_add(limit);
    let next = (next < relay.ledger_len()).then_some(next);
    entries.retain(|entry| {
        entry.reference.starts_with(&page.prefix) || entry.recipient.starts_with(&page.prefix)
    });
    json(StatusCode::OK, &serde_json::json!({ "entries": entries, "next": next }))
}

#[derive(Serialize)]
struct Arrival {
    reference: String,
    recipient: String,
    arrived_at_us: u64,
}

/// `GET /admin/arrivals?relay=&after=&limit=&prefix=`: `{"arrivals":[…],"next":n|null}`
pub(super) async fn arrivals(State(shared): State<Arc<Shared>>, Query(page): Query<LedgerPage>) -> Response {
    let Some(relay) = shared.relay(&page.relay) else { return not_found() };
    let limit = page.limit.clamp(1, PAGE_MAX);
    let next = page.after.saturating_add(limit);
    let next = (next < relay.ledger_len()).then_some(next);
    let wanted = |prefix: &str, text: &str| text.starts_with(prefix);
    let arrivals: Vec<Arrival> = relay
        .page(page.after, limit)
        .into_iter()
        .filter(|entry| wanted(&page.prefix, &entry.reference) || wanted(&page.prefix, &entry.recipient))
        .map(|entry| Arrival {
            reference: entry.reference,
            recipient: entry.recipient,
            arrived_at_us: entry.arrived_at_us,
        })
        .collect();
    json(StatusCode::OK, &serde_json::json!({ "arrivals": arrivals, "next": next }))
}

/// `GET /admin/ledger/summary`
pub(super) async fn summary(State(shared): State<Arc<Shared>>) -> Response {
    json(StatusCode::OK, &shared.summary())
}

/// `GET /admin/relays/{id}/behaviour`
pub(super) async fn show_behaviour(State(shared): State<Arc<Shared>>, Path(relay): Path<String>) -> Response {
    match shared.relay(&relay) {
        Some(relay) => json(StatusCode::OK, &relay.decider().behaviour),
        None => not_found(),
    }
}

/// `PUT /admin/relays/{id}/behaviour`: RFC 7396 merge patch; answers with the whole behaviour.
pub(super) async fn behaviour(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    Json(patch): Json<serde_json::Value>,
) -> Response {
    let Some(relay) = shared.relay(&relay) else { return not_found() };
    match crate::behaviour_change::merge_behaviour(&relay, &patch) {
        Ok(()) => json(StatusCode::OK, &relay.decider().behaviour),
        Err(error) => problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_behaviour", &format!("{error:#}")),
    }
}

#[derive(Deserialize)]
pub(super) struct OutageRequest {
    seconds: f64,
    #[serde(default)]
    mode: OutageMode,
}

/// `POST /admin/relays/{id}/outage`: out of service from now for some seconds; 0 ends every outage.
pub(super) async fn outage(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    Json(request): Json<OutageRequest>,
) -> Response {
    let Some(relay) = shared.relay(&relay) else { return not_found() };
    if !(0.0..=86_400.0).contains(&request.seconds) {
        return problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_outage",
            "seconds must lie between 0 and 86400",
        );
    }
    match crate::behaviour_change::set_outage(&relay, Duration::from_secs_f64(request.seconds), request.mode)
    {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_outage", &format!("{error:#}")),
    }
}

/// `POST /admin/relays/{id}/forge`: sends one push that is wrong on purpose; `{"callback_status":n}`
pub(super) async fn forge(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    Json(request): Json<ForgeRequest>,
) -> Response {
    let Some(relay) = shared.relay(&relay) else { return not_found() };
    match crate::forge::forge(&shared, &relay, request).await {
        Ok(status) => json(StatusCode::OK, &serde_json::json!({ "callback_status": status })),
        Err(error) => problem(StatusCode::CONFLICT, "not_forged", &format!("{error:#}")),
    }
}

#[derive(Deserialize)]
pub(super) struct FlushRequest {
    #[serde(default = "ten_seconds")]
    timeout_ms: u64,
}

fn ten_seconds() -> u64 {
    10_000
}

/// `POST /admin/receipts/flush`: everything scheduled happens now; `{"pending":n}` when all is out or time is up.
pub(super) async fn flush(State(shared): State<Arc<Shared>>, Json(request): Json<FlushRequest>) -> Response {
    let pending = shared.flush(Duration::from_millis(request.timeout_ms)).await;
    json(StatusCode::OK, &serde_json::json!({ "pending": pending }))
}
