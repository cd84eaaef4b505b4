//! Changes of a relay's behaviour while it runs.

use std::time::Duration;

use anyhow::Context;

use crate::relay::Relay;
use crate::scenario::{Behaviour, Outage, OutageMode};

/// Merges a patch into a relay's behaviour.
pub(crate) fn merge_behaviour(relay: &Relay, patch: &serde_json::Value) -> anyhow::Result<()> {
    anyhow::ensure!(patch.is_object(), "a patch is a JSON object");
    let mut merged = serde_json::to_value(&relay.decider().behaviour)?;
    merge(&mut merged, patch);
    let behaviour: Behaviour = serde_json::from_value(merged).context("not a behaviour")?;
    relay.set_behaviour(behaviour)
}

/// RFC 7396.
fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    let serde_json::Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = serde_json::json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().map(|object| object.remove(key));
        } else {
            merge(&mut target[key], change);
        }
    }
}

/// Adds an outage from now on, or with a zero duration ends all of them.
pub(crate) fn set_outage(relay: &Relay, duration: Duration, mode: OutageMode) -> anyhow::Result<()> {
    let mut behaviour = relay.decider().behaviour.clone();
    if duration.is_zero() {
        behaviour.outages.clear();
    } else {
        let start_ms = relay.clock.elapsed_ms();
        let end_ms = start_ms + duration.as_millis() as u64;
        behaviour.outages.insert(0, Outage { start_ms, end_ms, mode });
    }
    relay.set_behaviour(behaviour)
}
