//! Reading a body, within its limit, its time and the budget.

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use futures::StreamExt;
use std::time::Duration;

use super::budget::HeldBody;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// The whole body, if it has no more than `bytes_max` bytes.
pub(crate) async fn read_body(
    state: &ApiState,
    request: Request<Body>,
    bytes_max: usize,
) -> Answer<HeldBody> {
    let announced = content_length(request.headers());
    if announced > bytes_max {
        return Err(too_large(bytes_max));
    }
    let timeout = Duration::from_millis(state.config.body_timeout_ms);
    tokio::time::timeout(timeout, collect(state, request.into_body(), announced, bytes_max))
        .await
        .unwrap_or_else(|_| {
            Err(Problem::new(
                Code::BodyTooSlow,
                format!("The body took longer than {} seconds.", timeout.as_secs()),
            ))
        })
}

async fn collect(state: &ApiState, body: Body, announced: usize, bytes_max: usize) -> Answer<HeldBody> {
    let mut collected = state.shared().body_budget.begin(announced)?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|_| Problem::new(Code::MalformedJson, "The connection broke within the body."))?;
        if collected.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        collected.extend(&chunk)?;
    }
    Ok(collected.finish())
}

fn content_length(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("The body may have at most {bytes_max} bytes."))
}

/// Whether the body says that it is of this media type, whatever its parameters.
pub(crate) fn media_type_is(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(expected)
}
