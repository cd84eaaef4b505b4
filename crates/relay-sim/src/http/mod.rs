//! The HTTP front: all relays and the admin endpoints on one listener.
//!
//! Connections are served by hyper directly and not by `axum::serve`, because a carrier that loses an answer must be
//! able to close the connection without one: a handler says so with [`dropped`].

mod admin;
mod messages;
mod receipts;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post, put};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::relay::Relay;
use crate::shared::Shared;

/// Largest request body.
const BODY_BYTES_MAX: usize = 16 << 20;

/// All routes.
fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/relays/{relay}/v1/messages/batch", post(messages::batch))
        .route("/relays/{relay}/v1/messages/status", post(messages::status))
        .route("/relays/{relay}/v1/receipts/pull", post(receipts::pull))
        .route("/relays/{relay}/v1/receipts/acknowledge", post(receipts::acknowledge))
        .route("/admin/scenario", get(admin::scenario))
        .route("/admin/reset", post(admin::reset))
        .route("/admin/ledger", get(admin::ledger))
        .route("/admin/ledger/summary", get(admin::summary))
        .route("/admin/arrivals", get(admin::arrivals))
        .route("/admin/relays/{relay}/behaviour", put(admin::behaviour).get(admin::show_behaviour))
        .route("/admin/relays/{relay}/outage", post(admin::outage))
        .route("/admin/relays/{relay}/forge", post(admin::forge))
        .route("/admin/receipts/flush", post(admin::flush))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

/// Accepts connections until cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
) {
    let router = routes(shared);
    loop {
        tokio::select! {
            () = cancelled.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tasks.spawn(serve_connection(stream, router.clone(), cancelled.clone()));
                }
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, cancelled: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let response: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
            let response = response.unwrap_or_else(|never| match never {});
            if response.extensions().get::<Dropped>().is_some() {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
            }
            Ok(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = cancelled.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

/// Mark of a response that closes the connection instead of being sent.
#[derive(Clone, Copy)]
struct Dropped;

/// Closes the connection without an answer.
fn dropped() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Dropped);
    response
}

/// An answer with a JSON body that is already written.
fn json_bytes(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_bytes(status, serde_json::to_vec(value).expect("plain values serialise into memory"))
}

/// `{"error":…,"message":…}`.
fn problem(status: StatusCode, error: &str, message: &str) -> Response {
    json(status, &serde_json::json!({ "error": error, "message": message }))
}

/// 429 or 503 with Retry-After in whole seconds (at least 1) and the exact pause in the body.
fn come_back(status: StatusCode, error: &str, message: &str, retry_after_ms: u64) -> Response {
    let body = serde_json::json!({ "error": error, "message": message, "retry_after_ms": retry_after_ms });
    let mut response = json(status, &body);
    let seconds = retry_after_ms.div_ceil(1_000).max(1);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn unavailable(retry_after_ms: u64) -> Response {
    come_back(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "out of service", retry_after_ms)
}

fn authorised(relay: &Relay, headers: &axum::http::HeaderMap) -> bool {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")) == Some(relay.scenario.api_key.as_str())
}

/// The relay of a call that may continue: known, in service, with the right key.
async fn admit(
    shared: &Shared,
    relay: &str,
    headers: &axum::http::HeaderMap,
) -> Result<Arc<Relay>, Response> {
    use crate::scenario::OutageMode;
    let Some(relay) = shared.http_relay(relay) else {
        return Err(problem(StatusCode::NOT_FOUND, "unknown_relay", "no such relay"));
    };
    if let Some(outage) = relay.outage() {
        let left_ms = outage.end_ms.saturating_sub(relay.clock.elapsed_ms());
        return Err(match outage.mode {
            OutageMode::Refuse => unavailable(left_ms.min(5_000)),
            OutageMode::Reset => dropped(),
            OutageMode::Hang => {
                shared.wait(std::time::Duration::from_millis(left_ms)).await;
                dropped()
            }
        });
    }
    if !authorised(&relay, headers) {
        return Err(problem(StatusCode::UNAUTHORIZED, "unauthorized", "the bearer key is missing or wrong"));
    }
    Ok(relay)
}

/// A call that may continue, and what it asks for.
async fn read_call<'b, T: Deserialize<'b>>(
    shared: &Shared,
    relay: &str,
    headers: &axum::http::HeaderMap,
    body: &'b [u8],
) -> Result<(Arc<Relay>, T), Response> {
    let relay = admit(shared, relay, headers).await?;
    let request = serde_json::from_slice(body);
    let malformed =
        |error: serde_json::Error| problem(StatusCode::BAD_REQUEST, "malformed", &error.to_string());
    Ok((relay, request.map_err(malformed)?))
}
