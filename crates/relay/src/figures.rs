//! Metrics of the hand-over. Labels are relays, classes and closed words; never a person, text or number.

use chrono::{DateTime, Utc};
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use metrics::{Gauge, counter, gauge, histogram};

/// Messages about to be handed over.
pub(crate) fn submitted(relay: &RelayId, class: MessageClass, messages: usize) {
    counter!("kite_submitted_total", "relay" => relay.to_string(), "class" => class.word())
        .increment(messages as u64);
}

/// What became of the messages of a call.
pub(crate) fn responses(relay: &RelayId, class: MessageClass, result: &'static str, messages: usize) {
    if messages > 0 {
        let (relay, class) = (relay.to_string(), class.word());
        counter!("kite_responses_total", "relay" => relay, "class" => class, "result" => result)
            .increment(messages as u64);
    }
}

/// Messages waiting in a lane: the handle to set.
pub(crate) fn queue_depth(relay: &RelayId, class: MessageClass) -> Gauge {
    gauge!("kite_queue_depth", "relay" => relay.to_string(), "class" => class.word())
}

/// How long a call took.
pub(crate) fn call(relay: &RelayId, call: &'static str, began: DateTime<Utc>, ended: DateTime<Utc>) {
    let seconds = (ended - began).num_microseconds().unwrap_or(0).max(0) as f64 / 1e6;
    histogram!("kite_relay_call_seconds", "relay" => relay.to_string(), "call" => call).record(seconds);
}

/// A breaker changed its phase.
pub(crate) fn breaker(relay: &RelayId, to: BreakerPhase) {
    let to = match to {
        BreakerPhase::Passing => "passing",
        BreakerPhase::Tripped => "tripped",
        BreakerPhase::Probing => "probing",
    };
    counter!("kite_breaker_changes_total", "relay" => relay.to_string(), "to" => to).increment(1);
}

/// At which share of its agreed rate a relay is called; 1: as agreed. Less after it said "too many".
pub(crate) fn rate_share(relay: &RelayId, share: f64) {
    gauge!("kite_relay_rate_share", "relay" => relay.to_string()).set(share);
}
