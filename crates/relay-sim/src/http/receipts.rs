//! Receipts by pull.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::{admit, json_bytes, problem};
use crate::relay::receipts::write_receipts;
use crate::sim::Shared;

#[derive(Deserialize)]
struct Pull {
    limit: usize,
}

#[derive(Deserialize)]
struct Acknowledgement {
    lease: String,
}

/// `POST /v1/receipts/pull`
pub(super) async fn pull(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let relay = match admit(&shared, &relay, &headers).await {
        Ok(relay) => relay,
        Err(answer) => return answer,
    };
    let pull: Pull = match serde_json::from_slice(&body) {
        Ok(pull) => pull,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "malformed", &error.to_string()),
    };
    let limit = pull.limit.min(relay.decider().behaviour.receipts.batch_max);
    let (lease, receipts) = relay.pull(limit);
    let mut answer = format!("{{\"lease\":\"{lease}\",\"receipts\":").into_bytes();
    write_receipts(&receipts, &mut answer);
    answer.push(b'}');
    receipts.iter().filter_map(|receipt| receipt.gate.as_ref()).for_each(|gate| gate.leave());
    json_bytes(StatusCode::OK, answer)
}

/// `POST /v1/receipts/acknowledge`
pub(super) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let relay = match admit(&shared, &relay, &headers).await {
        Ok(relay) => relay,
        Err(answer) => return answer,
    };
    match serde_json::from_slice::<Acknowledgement>(&body) {
        Ok(acknowledgement) => {
            relay.acknowledge(&acknowledgement.lease);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, "malformed", &error.to_string()),
    }
}
