//! What surrounds every request: counting, timing, and an answer even if a handler panics.

use axum::RequestExt;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kite_commands::trace::{self, Current};
use kite_domain::slug::RelayId;
use std::any::Any;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::Instrument;

use crate::answer::POSITION;
use crate::auth::{WhoWrites, payer};
use crate::budget::{Payer, RelayAt};
use crate::clients::{Origin, Peer};
use crate::problem::{Code, Problem};
use crate::routes::receipts::RECEIPTS_PATH;
use crate::state::ApiState;
use crate::traced::{incoming, method_word, span_of};

/// Works on the request as a part of its trace.
pub(crate) async fn traced(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let id = state.write_side.journal.next_id();
    let span = span_of(&request, id);
    let incoming = incoming(request.headers());
    if let Some(parent) = incoming {
        trace::adopt(&span, parent);
    }
    let begun = || incoming.unwrap_or_else(|| trace::begin(&[id.as_bytes()]));
    let traceparent = trace::of_span(&span).unwrap_or_else(begun);
    let current = Current { traceparent, request: Some(id) };
    let response = trace::within(current, next.run(request)).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// Counts and times requests by route, never by address: an address may hold a phone number.
pub(crate) async fn measure(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = method_word(request.method());
    let begun = Instant::now();
    let response = next.run(request).await;
    let seconds = begun.elapsed().as_secs_f64();
    let status = response.status().as_str().to_owned();
    metrics::counter!("kite_http_requests_total", "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("kite_http_request_seconds", "method" => method, "route" => route).record(seconds);
    response
}

/// Attaches to the request where it comes from, and lets no address have more requests in progress than its share. A
/// genuine caller has as many again for itself, because others may have used up the address.
pub(crate) async fn admit(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let clients = &state.clients;
    let peer = request.extensions().get::<Arc<Peer>>().cloned().unwrap_or_else(|| clients.nowhere());
    let origin = clients.origin(peer, request.headers());
    let requests_max = clients.rules().requests_per_address_max;
    let mut permit = origin.client.begin(requests_max);
    if permit.is_none()
        && let Some(payer) = genuine(&state, &origin, &mut request).await
    {
        permit = state.budgets().begin_crowded(payer, requests_max);
    }
    let Some(_permit) = permit else {
        metrics::counter!("kite_http_requests_refused_total", "reason" => "address").increment(1);
        return Problem::new(Code::TooManyAtOnce, "Too many requests of this address are under way.")
            .into_response();
    };
    request.extensions_mut().insert(origin);
    remembering(&state, request, next).await
}

/// Remembers where a write ended, so that the same caller finds it at its next read.
async fn remembering(state: &ApiState, mut request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let who = WhoWrites::default();
    request.extensions_mut().insert(who.clone());
    let response = next.run(request).await;
    let position = response.headers().get(POSITION).and_then(|value| value.to_str().ok()?.parse().ok());
    if let (Some(writer), Some(position)) = (who.get(), position) {
        state.note_write_of(writer.clone(), position);
    }
    response
}

/// Who it is: by a genuine key, or by receipts of a relay from a place from which genuine ones came before.
async fn genuine(state: &ApiState, origin: &Origin, request: &mut Request) -> Option<Payer> {
    if let Some(payer) = payer(request.headers(), state, origin).await {
        return Some(payer);
    }
    let route = request.extensions().get::<MatchedPath>()?;
    if route.as_str() != RECEIPTS_PATH {
        return None;
    }
    let parameters = request.extract_parts::<RawPathParams>().await.ok()?;
    let (_, relay) = parameters.iter().find(|(name, _)| *name == "relay")?;
    let place = RelayAt { relay: RelayId::parse(relay).ok()?, address: origin.client.address() };
    state.budgets().is_genuine(&place, state.write_side.journal.now()).then_some(Payer::Relay(place))
}

/// Headers that keep browsers from guessing.
pub(crate) async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(
        "content-security-policy",
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    response
}

/// The problem for a handler that panicked.
pub(crate) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(message = message.unwrap_or("no message"), "a handler panicked");
    Problem::new(Code::Internal, "A defect ended the request.").into_response()
}

/// The problem for an address that does not exist.
pub(crate) async fn no_such_endpoint() -> Problem {
    Problem::new(Code::NoSuchEndpoint, "The address is none of this API.")
}

/// The problem for a method that the address does not know. The header `allow` is added by the router.
pub(crate) async fn method_not_allowed(_headers: HeaderMap) -> Problem {
    Problem::new(Code::MethodNotAllowed, "The address does not know this method.")
}
