//! The trace that a call to a relay belongs to.
//!
//! A call for one sending is a part of the trace that the sending was accepted in. One that carries messages of several belongs to
//! none of them: it begins a trace of its own, and its span names the others. No tenant's trace leads to what another one sent.

use kite_commands::TraceParent;
use kite_commands::trace::{self, Current};
use kite_domain::ids::{AttemptReference, SendingId};
use kite_domain::slug::RelayId;
use std::future::Future;
use tracing::{Instrument, Span};

/// So many traces are named by a call at most.
const TRACES_MAX: usize = 64;

/// The sendings that a call is made for, and their traces.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    first: Option<SendingId>,
    has_others: bool,
    named: Vec<TraceParent>,
}

impl Traces {
    /// One more message, or many, of this sending.
    pub(crate) fn note(&mut self, sending: SendingId, traceparent: Option<TraceParent>) {
        self.has_others |= *self.first.get_or_insert(sending) != sending;
        let Some(traceparent) = traceparent.filter(|_| self.named.len() < TRACES_MAX) else { return };
        if self.named.iter().all(|known| known.trace_id() != traceparent.trace_id()) {
            self.named.push(traceparent);
        }
    }

    /// The one that the call is a part of.
    fn only(&self) -> Option<TraceParent> {
        match self.named[..] {
            [only] if !self.has_others => Some(only),
            _ => None,
        }
    }
}

/// A call that is about to be made.
pub(crate) struct TracedCall {
    span: Span,
    /// What the relay is told; none: nobody traces.
    traceparent: Option<TraceParent>,
}

impl TracedCall {
    /// Hands messages over.
    pub(crate) fn submit(
        relay: &RelayId,
        messages: usize,
        traces: &Traces,
        first: AttemptReference,
        at_ms: i64,
    ) -> Self {
        let span = tracing::info_span!(
            parent: None, "call", otel.name = "hand over", otel.kind = "client", %relay, messages
        );
        Self::of(span, traces, first, at_ms)
    }

    /// Asks what became of messages.
    pub(crate) fn status(
        relay: &RelayId,
        messages: usize,
        traces: &Traces,
        first: AttemptReference,
        at_ms: i64,
    ) -> Self {
        let span = tracing::info_span!(
            parent: None, "call", otel.name = "ask about", otel.kind = "client", %relay, messages
        );
        Self::of(span, traces, first, at_ms)
    }

    /// No message is in two calls at the same time, so these tell calls apart where no span does.
    fn of(span: Span, traces: &Traces, first: AttemptReference, at_ms: i64) -> Self {
        match traces.only() {
            Some(only) => trace::adopt(&span, only),
            None => traces.named.iter().for_each(|other| trace::link(&span, *other)),
        }
        let without_span = || {
            let (first, at) = (first.to_string(), at_ms.to_le_bytes());
            let seed = [first.as_bytes(), &at[..]];
            match traces.only() {
                Some(only) => Some(trace::go_on(only, &seed)),
                None if traces.named.is_empty() => None,
                None => Some(trace::begin(&seed)),
            }
        };
        let traceparent = trace::of_span(&span).or_else(without_span);
        Self { span, traceparent }
    }

    /// Makes the call.
    pub(crate) async fn make<F: Future>(self, call: F) -> F::Output {
        let call = call.instrument(self.span);
        match self.traceparent {
            Some(traceparent) => trace::within(Current { traceparent, request: None }, call).await,
            None => call.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::ids::MessageId;
    use uuid::Uuid;

    fn relay() -> RelayId {
        RelayId::parse("alpha").unwrap()
    }

    fn sending(number: u128) -> SendingId {
        SendingId(Uuid::from_u128(number))
    }

    fn first() -> AttemptReference {
        AttemptReference { message: MessageId { sending: sending(1), seq: 0 }, attempt: 1 }
    }

    /// What the relay would be told.
    async fn told(notes: &[(u128, Option<TraceParent>)], at_ms: i64) -> Option<TraceParent> {
        let mut traces = Traces::default();
        notes.iter().for_each(|(number, traceparent)| traces.note(sending(*number), *traceparent));
        let call = TracedCall::submit(&relay(), 1, &traces, first(), at_ms);
        call.make(async { trace::current_parent() }).await
    }

    #[tokio::test]
    async fn a_call_for_one_sending_goes_on_with_its_trace_and_each_call_is_another_place_in_it() {
        let one = trace::begin(&[b"one"]);
        let call = told(&[(1, Some(one)), (1, Some(one))], 1).await.unwrap();
        assert_eq!(call.trace_id(), one.trace_id());
        assert_ne!(call.span_id(), one.span_id());
        assert_ne!(told(&[(1, Some(one))], 2).await.unwrap().span_id(), call.span_id());
    }

    #[tokio::test]
    async fn a_call_for_several_sendings_is_in_the_trace_of_none() {
        let (one, other) = (trace::begin(&[b"one"]), trace::begin(&[b"other"]));
        for notes in [[(1, Some(one)), (2, Some(other))], [(1, Some(one)), (2, None)]] {
            let call = told(&notes, 1).await.unwrap();
            assert!(![one, other].iter().any(|trace| trace.trace_id() == call.trace_id()), "{call}");
        }
    }

    #[tokio::test]
    async fn where_nobody_traces_the_relay_is_told_nothing() {
        assert_eq!(told(&[(1, None), (2, None)], 1).await, None);
    }

    #[test]
    fn however_many_sendings_a_call_carries_it_names_so_many_traces() {
        let mut traces = Traces::default();
        for number in 0..1_000_u128 {
            traces.note(sending(number), Some(trace::begin(&[&number.to_le_bytes()])));
        }
        assert_eq!(traces.named.len(), TRACES_MAX);
    }
}
