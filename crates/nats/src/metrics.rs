//! Metrics of the queue. Labels are relays, classes and closed words.

use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use metrics::{counter, gauge};

/// What became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parcels {
    Published,
    Pulled,
    Acknowledged,
    GivenBack,
    NotUnderstood,
}

/// One more.
pub(crate) fn parcels(relay: &RelayId, class: MessageClass, what: Parcels) {
    let what = match what {
        Parcels::Published => "published",
        Parcels::Pulled => "pulled",
        Parcels::Acknowledged => "acknowledged",
        Parcels::GivenBack => "given_back",
        Parcels::NotUnderstood => "not_understood",
    };
    counter!("kite_queue_parcels_total", "relay" => relay.to_string(), "class" => class.word(), "what" => what)
        .increment(1);
}

/// Whether a server is there.
pub(crate) fn reachable(is_there: bool) {
    gauge!("kite_queue_is_reachable").set(if is_there { 1.0 } else { 0.0 });
}
