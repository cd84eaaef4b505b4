//! Metrics of the hand-over. Labels are relays, classes and closed words; never a person, text or number.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use metrics::{Gauge, counter, gauge, histogram};

/// The phases of a breaker by their words.
const PHASES: [(BreakerPhase, &str); 3] = [
    (BreakerPhase::Passing, "passing"),
    (BreakerPhase::Tripped, "tripped"),
    (BreakerPhase::Probing, "probing"),
];

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

/// A relay refused a message with a code that nobody has given a class.
pub(crate) fn unclassified(relay: &RelayId) {
    counter!("kite_relay_unclassified_codes_total", "relay" => relay.to_string()).increment(1);
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

/// A relay was not called, because the time of the call was over.
pub(crate) fn late_call(relay: &RelayId) {
    counter!("kite_late_calls_total", "relay" => relay.to_string()).increment(1);
}

/// A breaker changed its phase.
pub(crate) fn breaker(relay: &RelayId, to: BreakerPhase) {
    let to = PHASES.into_iter().find(|(one, _)| *one == to).map_or("", |(_, word)| word);
    counter!("kite_breaker_changes_total", "relay" => relay.to_string(), "to" => to).increment(1);
}

/// At which share of its agreed rate a relay is called; 1: as agreed. Less after it said "too many".
pub(crate) fn rate_share(relay: &RelayId, share: f64) {
    gauge!("kite_relay_rate_share", "relay" => relay.to_string()).set(share);
}

/// The state of a relay: whether workers serve it, and its breaker.
pub(crate) fn relay_state(relay: &RelayId, is_attended: bool, phase: BreakerPhase) {
    let relay = relay.to_string();
    gauge!("kite_relay_attended", "relay" => relay.clone()).set(f64::from(u8::from(is_attended)));
    for (one, word) in PHASES {
        gauge!("kite_relay_breaker", "relay" => relay.clone(), "phase" => word)
            .set(f64::from(u8::from(one == phase)));
    }
}

/// When a relay last answered a call, and last did not, in seconds since 1970; left out: never since the process began.
pub(crate) fn last_calls(
    relay: &RelayId,
    answered_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
) {
    for (at, result) in [(answered_at, "answered"), (failed_at, "failed")] {
        let Some(at) = at else { continue };
        gauge!("kite_relay_last_call_timestamp_seconds", "relay" => relay.to_string(), "result" => result)
            .set(at.timestamp_millis() as f64 / 1e3);
    }
}

/// How long the certificates of a field of its definition are still valid; below zero: expired. None: there are none
/// any more, so the metric ends.
pub(crate) fn certificate(relay: &RelayId, field: &'static str, left: Option<TimeDelta>) {
    gauge!("kite_relay_certificate_ends_in_seconds", "relay" => relay.to_string(), "field" => field)
        .set(left.map_or(f64::INFINITY, |left| left.num_seconds() as f64));
}

/// Nobody works for a relay, which is an alarm.
pub(crate) fn unattended(relay: &RelayId) {
    counter!("kite_relay_unattended_total", "relay" => relay.to_string()).increment(1);
}

/// A worker panicked.
pub(crate) fn panicked(worker: &str) {
    counter!("kite_worker_panics_total", "worker" => worker.to_owned()).increment(1);
}
