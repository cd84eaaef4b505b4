//! How far the read side is behind; acceptance asks at every request.

use kite_commands::accept::{BacklogGauge, BacklogLevel};
use kite_event_store::EventStore;
use kite_projections::ReadModels;
use std::sync::Arc;

/// What acceptance asks.
pub(super) fn gauge(models: ReadModels, store: Arc<dyn EventStore>) -> BacklogGauge {
    Arc::new(move || {
        let slowest = models.positions().map(|(_, position)| position).min().unwrap_or(0);
        BacklogLevel { projector_lag_events: store.count_after(slowest) }
    })
}
