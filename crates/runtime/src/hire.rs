//! The loop that starts and stops relay workers.

use futures::future::select;
use kite_commands::directory::Directory;
use kite_relay::{Relays, Urgency};
use std::pin::pin;

use crate::drive::{Duty, employ};
use crate::host::{Host, Place};

/// Starts and stops relay workers as the directory changes, until the process stops.
pub(crate) async fn hire<H: Host>(host: H, mut relays: Relays, directory: Directory) {
    let stop = host.stop(Place::Front);
    let mut changes = directory.changes();
    while !stop.is_cancelled() {
        changes.mark_unchanged();
        let under_way = host.begin();
        let hired = relays.reconcile().await;
        drop(under_way);
        for one in hired {
            tracing::info!(worker = one.worker.name(), "hired");
            let place = match one.urgency {
                Urgency::Urgent => Place::Front,
                Urgency::Ordinary => Place::Background,
            };
            let dismissed = Some(one.dismissed);
            employ(&host, Duty { worker: one.worker, wake: one.wake, dismissed, place });
        }
        let changed = async {
            // The directory outlives this loop.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        select(pin!(changed), pin!(stop.cancelled())).await;
    }
}
