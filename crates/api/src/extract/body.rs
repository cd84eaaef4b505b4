//! Reading a body, within its limit, its time and the budget that it is counted against.

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use futures::StreamExt;
use kite_domain::slug::RelayId;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::budget::{GrowingBody, HeldBody, Payer, RelayAt, pushed_out};
use crate::clients::Origin;
use crate::problem::{Answer, Code, Problem};
use crate::state::ApiState;

/// The whole body, if it has no more than `bytes_max` bytes. Its budget is known already.
pub(crate) async fn read_body(
    state: &ApiState,
    request: Request<Body>,
    bytes_max: usize,
) -> Answer<HeldBody> {
    let payer = request.extensions().get::<Payer>().cloned();
    let origin = origin(state, &request);
    read(state, request, &origin, payer, bytes_max).await
}

/// The whole body of a call that a relay must have signed. Only the whole body can show that.
pub(crate) async fn read_unverified(
    state: &ApiState,
    request: Request<Body>,
    origin: &Origin,
    relay: &RelayId,
    bytes_max: usize,
) -> Answer<HeldBody> {
    let place = RelayAt { relay: relay.clone(), address: origin.client.address() };
    let is_genuine = state.budgets().is_genuine(&place, state.write_side.journal.now());
    read(state, request, origin, is_genuine.then_some(Payer::Relay(place)), bytes_max).await
}

/// Where a request comes from.
pub(crate) fn origin(state: &ApiState, request: &Request<Body>) -> Origin {
    let origin = request.extensions().get::<Origin>().cloned();
    origin.unwrap_or_else(|| state.clients.origin(state.clients.nowhere(), request.headers()))
}

/// While a body is awaited, the connection may be closed in favour of another: at once, if nothing genuine ever came
/// over it.
async fn read(
    state: &ApiState,
    request: Request<Body>,
    origin: &Origin,
    payer: Option<Payer>,
    bytes_max: usize,
) -> Answer<HeldBody> {
    refuse_encoding(request.headers())?;
    if content_length(request.headers()) > bytes_max {
        return Err(too_large(bytes_max));
    }
    let _waiting = origin.peer.wait(payer.is_some());
    let body = match payer {
        Some(payer) => state.budgets().begin(payer),
        None => state.budgets().begin_unverified(origin.client.address()),
    };
    collect(state, request, body, bytes_max).await
}

async fn collect(
    state: &ApiState,
    request: Request<Body>,
    mut collected: GrowingBody,
    bytes_max: usize,
) -> Answer<HeldBody> {
    let whole = Duration::from_millis(state.config.body_timeout_ms);
    let stall = Duration::from_millis(state.config.body_stall_timeout_ms);
    let end = Instant::now() + whole;
    let mut chunks = request.into_body().into_data_stream();
    loop {
        let next = timeout_at(end.min(Instant::now() + stall), chunks.next());
        let next = tokio::select! {
            biased;
            next = next => next,
            () = collected.pushed_out() => return Err(refused("pushed-out", pushed_out())),
        };
        match next {
            Err(_) => return Err(refused("slow", too_slow(whole, stall))),
            Ok(None) => return Ok(collected.finish()),
            Ok(Some(Err(_))) => {
                return Err(Problem::new(Code::MalformedJson, "The connection broke within the body."));
            }
            Ok(Some(Ok(chunk))) => {
                if collected.len() + chunk.len() > bytes_max {
                    return Err(too_large(bytes_max));
                }
                collected.extend(chunk).map_err(|problem| refused("no-room", problem))?;
            }
        }
    }
}

fn refused(reason: &'static str, problem: Problem) -> Problem {
    metrics::counter!("kite_http_bodies_refused_total", "reason" => reason).increment(1);
    problem
}

fn content_length(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Encodings that compress a body (RFC 9110, 8.4.1, and the registry of codings).
const PACKED: [&str; 7] = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];

/// A body is read as it comes: it is never decompressed, because a few bytes could become more than there is room
/// for. Some clients put something else into that header, such as a character set, or nothing: their bodies are as
/// they should be.
fn refuse_encoding(headers: &HeaderMap) -> Answer<()> {
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let encoding = String::from_utf8_lossy(value.as_bytes());
        let is_packed = |coding: &str| PACKED.iter().any(|one| coding.trim().eq_ignore_ascii_case(one));
        if encoding.split(',').any(is_packed) {
            let encoding: String = encoding.chars().filter(|one| matches!(one, ' '..='~')).take(40).collect();
            let detail = format!(
                "The body is encoded (Content-Encoding: {encoding}). Send it as it is, without that header."
            );
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
    }
    Ok(())
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("The body may have at most {bytes_max} bytes."))
}

fn too_slow(whole: Duration, stall: Duration) -> Problem {
    let (whole, stall) = (whole.as_secs_f64(), stall.as_secs_f64());
    let detail = format!("The body took longer than {whole} seconds, or stood still for {stall}.");
    Problem::new(Code::BodyTooSlow, detail)
}

/// Whether the body says that it is of this media type, whatever its parameters.
pub(crate) fn media_type_is(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(expected)
}
