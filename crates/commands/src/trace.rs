//! Traces: what belongs together, over processes and houses (W3C Trace Context).
//!
//! A request brings a `traceparent`, or a trace begins with it. The metadata of what it writes keeps it, whatever follows from a
//! sending goes on with it, and the relays are handed it. That is so whether anything is exported or not: then a trace is only
//! ids. Where spans are exported, they are made parts of the same trace here ([`adopt`]), and what is kept and handed on names
//! them ([`of_span`]).
//!
//! What a task works on is kept beside the task ([`within`]), not handed from function to function: nothing decides by it.
//! Deliberately absent: exporting, sampling, a subscriber. They are the process's.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use sha2::{Digest, Sha256};
use std::future::Future;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

pub use kite_event_store::TraceParent;

/// What a task works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Where in which trace.
    pub traceparent: TraceParent,
    /// The id of the request; none: it is not a request's work.
    pub request: Option<Uuid>,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Does the work as a part of that trace.
pub fn within<F: Future>(current: Current, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(current, work)
}

/// What the task at hand works on, if anybody has said so.
pub fn current() -> Option<Current> {
    CURRENT.try_with(|current| *current).ok()
}

/// Where the task at hand is in its trace.
pub fn current_parent() -> Option<TraceParent> {
    current().map(|current| current.traceparent)
}

/// A trace that begins here; the same for the same seed. It is not sampled: nothing is exported of it.
pub fn begin(seed: &[&[u8]]) -> TraceParent {
    let hash = hash(b"kite trace 1\n", seed);
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&hash[..16]);
    span.copy_from_slice(&hash[16..24]);
    // An id is never all zeros, and of these bits nobody expects that they are random.
    (trace[0], span[0]) = (trace[0] | 1, span[0] | 1);
    TraceParent::new(trace, span, 0).expect("neither is all zeros")
}

/// Another place in the same trace, for what is no span; the same for the same seed.
pub fn go_on(parent: TraceParent, seed: &[&[u8]]) -> TraceParent {
    let hash = hash(&parent.to_bytes(), seed);
    let mut span = [0; 8];
    span.copy_from_slice(&hash[..8]);
    span[0] |= 1;
    parent.with_span(span).unwrap_or(parent)
}

fn hash(what: &[u8], seed: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(what);
    for part in seed {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Makes a span that was just created a part of the trace. A `tracestate` is not taken over: it is free text, of callers that
/// nobody knows yet.
pub fn adopt(span: &Span, parent: TraceParent) {
    if span.is_disabled() {
        return;
    }
    let context = Context::new().with_remote_span_context(span_context(parent));
    // Where nothing is exported there is nothing to adopt it into.
    let _ = span.set_parent(context);
}

/// Notes that a span has to do with another trace, too.
pub fn link(span: &Span, other: TraceParent) {
    if !span.is_disabled() {
        span.add_link(span_context(other));
    }
}

/// Where in its trace a span is; none: it is not exported. From then on it cannot be adopted any more.
pub fn of_span(span: &Span) -> Option<TraceParent> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    TraceParent::new(trace, span, context.trace_flags().to_u8())
}

fn span_context(parent: TraceParent) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes(parent.trace_id()), SpanId::from_bytes(parent.span_id()));
    SpanContext::new(trace, span, TraceFlags::new(parent.flags()), true, TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_knows_what_it_works_on_and_no_other_does() {
        let one = Current { traceparent: begin(&[b"one"]), request: Some(Uuid::from_u128(1)) };
        let other = Current { traceparent: begin(&[b"other"]), request: None };
        let look = async {
            tokio::task::yield_now().await;
            current()
        };
        let (first, second) = tokio::join!(within(one, look), within(other, async { current() }));
        assert_eq!((first, second, current()), (Some(one), Some(other), None));
    }

    #[test]
    fn what_begins_or_goes_on_is_the_same_for_the_same_seed_alone() {
        let trace = begin(&[b"a", b"bc"]);
        assert_eq!(trace, begin(&[b"a", b"bc"]));
        assert_ne!(trace.trace_id(), begin(&[b"ab", b"c"]).trace_id());
        assert!(!trace.is_sampled());
        let next = go_on(trace, &[b"call"]);
        assert_eq!(next.trace_id(), trace.trace_id());
        assert_ne!(next.span_id(), trace.span_id());
        assert_ne!(next, go_on(trace, &[b"another call"]));
    }

    #[test]
    fn without_an_exporter_a_span_is_nowhere() {
        let span = tracing::info_span!("nowhere");
        adopt(&span, begin(&[]));
        link(&span, begin(&[]));
        assert_eq!(of_span(&span), None);
    }
}
