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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

    pub(crate) fn recorder() -> PrometheusRecorder {
        PrometheusBuilder::new().build_recorder()
    }

    /// These are shown, with these numbers.
    pub(crate) fn shows(recorder: &PrometheusRecorder, lines: &[&str]) {
        let text = recorder.handle().render();
        for line in lines {
            assert!(text.lines().any(|shown| shown == *line), "{line}\n{text}");
        }
    }

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap()
    }

    fn alpha() -> RelayId {
        RelayId::from_trusted("alpha")
    }

    #[test]
    fn a_call_is_measured_in_seconds_and_never_below_zero() {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || {
            call(&alpha(), "submit", at(1_000), at(3_500));
            call(&alpha(), "pull", at(1_000), at(500));
        });
        let lines = [
            r#"kite_relay_call_seconds_sum{relay="alpha",call="submit"} 2.5"#,
            r#"kite_relay_call_seconds_sum{relay="alpha",call="pull"} 0"#,
        ];
        shows(&recorder, &lines);
    }

    #[test]
    fn the_phase_of_a_breaker_is_the_one_that_is_one() {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || {
            breaker(&alpha(), BreakerPhase::Tripped);
            relay_state(&alpha(), true, BreakerPhase::Tripped);
            relay_state(&RelayId::from_trusted("beta"), false, BreakerPhase::Passing);
        });
        let lines = [
            r#"kite_breaker_changes_total{relay="alpha",to="tripped"} 1"#,
            r#"kite_relay_attended{relay="alpha"} 1"#,
            r#"kite_relay_attended{relay="beta"} 0"#,
            r#"kite_relay_breaker{relay="alpha",phase="passing"} 0"#,
            r#"kite_relay_breaker{relay="alpha",phase="tripped"} 1"#,
            r#"kite_relay_breaker{relay="alpha",phase="probing"} 0"#,
            r#"kite_relay_breaker{relay="beta",phase="passing"} 1"#,
        ];
        shows(&recorder, &lines);
    }

    #[test]
    fn the_last_calls_are_told_in_seconds_since_1970_and_only_those_that_were_made() {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || last_calls(&alpha(), Some(at(500)), None));
        let answered =
            r#"kite_relay_last_call_timestamp_seconds{relay="alpha",result="answered"} 1800000000.5"#;
        shows(&recorder, &[answered]);
        assert!(!recorder.handle().render().contains("failed"));
    }
}
