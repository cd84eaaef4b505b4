//! Receipts by pull.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::{json_bytes, read_call};
use crate::relay::receipts::write_receipts;
use crate::shared::Shared;

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
) -> Result<Response, Response> {
    let (relay, pull): (_, Pull) = read_call(&shared, &relay, &headers, &body).await?;
    let limit = pull.limit.min(relay.decider().behaviour.receipts.batch_max);
    let (lease, receipts) = relay.pull(limit);
    let mut answer = format!("{{\"lease\":\"{lease}\",\"receipts\":").into_bytes();
    write_receipts(&receipts, &mut answer);
    answer.push(b'}');
    receipts.iter().filter_map(|receipt| receipt.gate.as_ref()).for_each(|gate| gate.leave());
    Ok(json_bytes(StatusCode::OK, answer))
}

/// `POST /v1/receipts/acknowledge`
pub(super) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path(relay): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Response> {
    let (relay, acknowledgement): (_, Acknowledgement) = read_call(&shared, &relay, &headers, &body).await?;
    relay.acknowledge(&acknowledgement.lease);
    Ok(StatusCode::NO_CONTENT.into_response())
}
