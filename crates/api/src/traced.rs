//! The trace of a request: taken in as W3C Trace Context says, or begun here, and the span of the request in it.
//!
//! What a caller says of its trace is never a reason to refuse anything: what cannot be read is ignored. The span names the route
//! and never the address, which may hold a phone number, and nothing of keys.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method};
use kite_commands::trace::{self, TraceParent};
use kite_domain::slug::TenantId;
use std::future::Future;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use uuid::Uuid;

const TRACEPARENT: &str = "traceparent";

/// The span of a request.
pub(crate) fn span_of(request: &Request, id: Uuid) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let method = method_word(request.method());
    tracing::info_span!(
        parent: None,
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        request.id = %id,
        tenant = Empty,
    )
}

/// Whose request it is, once that is known.
pub(crate) fn note_tenant(tenant: &TenantId) {
    Span::current().record("tenant", tenant.as_str());
}

/// The work of the request at hand, wherever it is done.
pub(crate) fn goes_along<F: Future + Send + 'static>(
    work: F,
) -> impl Future<Output = F::Output> + Send + 'static {
    let (current, span) = (trace::current(), Span::current());
    async move {
        match current {
            Some(current) => trace::within(current, work.instrument(span)).await,
            None => work.await,
        }
    }
}

/// A closed set of words, because a caller may send any method.
pub(crate) fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The one `traceparent`. Of several nobody knows which is meant.
pub(crate) fn incoming(headers: &HeaderMap) -> Option<TraceParent> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    TraceParent::parse(only.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let header =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        HeaderMap::from_iter(all.iter().map(header))
    }

    #[test]
    fn one_header_counts_and_of_several_none() {
        assert_eq!(incoming(&headers(&[(TRACEPARENT, GOOD)])), TraceParent::parse(GOOD));
        for wrong in [&[][..], &[(TRACEPARENT, "00-no")], &[(TRACEPARENT, "é")]] {
            assert_eq!(incoming(&headers(wrong)), None);
        }
        let mut twice = headers(&[(TRACEPARENT, GOOD)]);
        twice.append(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(incoming(&twice), None);
    }
}
