//! The work queue inside the process: lanes per relay, refilled from the log after a restart.
//!
//! It promises more than the port requires, but only within this process: no message is leased twice, what is known
//! is not put twice, follow-ups of leased messages wait for the lease, tenants and classes take turns, nothing comes
//! before its time. That saves looks; the log decides who calls.
//!
//! A lane holds sets of messages, not messages, so a campaign of millions takes kilobytes. It is limited
//! nevertheless; what does not fit is left in the log and fed from there ([`crate::publisher`]).

mod class;
#[cfg(feature = "mutations")]
mod mutations;
mod relay;
mod sets;
#[cfg(test)]
mod tests;

use ::metrics::Gauge;
use async_trait::async_trait;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

use crate::metrics;
use crate::queue::{Hasten, Job, Put, QueueError, Taken, Want, WorkQueue};
use relay::RelayLanes;

/// Bounds and shares of the lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most jobs of one class that wait for one relay, and the most that are postponed beside those that are due.
    pub jobs_max: usize,
    /// For every hundred messages of more urgent classes that pass while a notice waits, this many notices pass, too.
    pub notices_per_hundred: u8,
    /// The same for advertisements.
    pub ads_per_hundred: u8,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { jobs_max: 100_000, notices_per_hundred: 20, ads_per_hundred: 10 }
    }
}

/// The queue of a process.
pub struct InProcessQueue {
    limits: QueueLimits,
    /// Whether the metrics of depths are of these lanes.
    is_measured: bool,
    relays: RwLock<HashMap<RelayId, Arc<Cell>>>,
}

struct Cell {
    lanes: Mutex<RelayLanes>,
    arrivals: watch::Sender<u64>,
    depths: Option<[Gauge; 3]>,
}

impl Cell {
    /// Changes the lanes and updates the metrics of their depths.
    fn with<T>(&self, act: impl FnOnce(&mut RelayLanes) -> T) -> T {
        let mut lanes = self.lanes.lock();
        let answer = act(&mut lanes);
        let depths = lanes.depths();
        drop(lanes);
        for (gauge, depth) in self.depths.iter().flatten().zip(depths) {
            gauge.set(depth as f64);
        }
        answer
    }

    fn wake(&self) {
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl InProcessQueue {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, is_measured: true, relays: RwLock::default() }
    }

    /// For what was taken out of another queue: the depths of the process are not those of these lanes.
    pub fn of_pulled(limits: QueueLimits) -> Self {
        Self { is_measured: false, ..Self::new(limits) }
    }

    /// Forgets everything, also what is leased.
    pub fn clear(&self) {
        for cell in self.relays.read().values() {
            cell.with(RelayLanes::clear);
        }
    }

    fn cell(&self, relay: &RelayId) -> Arc<Cell> {
        if let Some(cell) = self.relays.read().get(relay) {
            return cell.clone();
        }
        let mut relays = self.relays.write();
        let cell = relays.entry(relay.clone()).or_insert_with(|| {
            Arc::new(Cell {
                lanes: Mutex::new(RelayLanes::new(self.limits)),
                arrivals: watch::Sender::new(0),
                depths: self.is_measured.then(|| {
                    std::array::from_fn(|place| metrics::queue_depth(relay, MessageClass::ALL[place]))
                }),
            })
        });
        cell.clone()
    }
}

#[async_trait]
impl WorkQueue for InProcessQueue {
    async fn put(&self, job: Job) -> Result<Put, QueueError> {
        let cell = self.cell(&job.relay);
        let put = cell.with(|lanes| lanes.put(job));
        if put == Put::Queued {
            cell.wake();
        }
        Ok(put)
    }

    async fn take(&self, relay: &RelayId, want: Want) -> Result<Taken, QueueError> {
        Ok(self.cell(relay).with(|lanes| lanes.take(want)))
    }

    async fn settle(&self, relay: &RelayId, lease: u64, rest: Vec<Job>) -> Result<(), QueueError> {
        let cell = self.cell(relay);
        if cell.with(|lanes| lanes.settle(lease, rest)) {
            cell.wake();
        }
        Ok(())
    }

    fn abandon(&self, relay: &RelayId, lease: u64) {
        let cell = self.cell(relay);
        cell.with(|lanes| lanes.abandon(lease));
        cell.wake();
    }

    fn arrivals(&self, relay: &RelayId) -> watch::Receiver<u64> {
        self.cell(relay).arrivals.subscribe()
    }

    fn nudge(&self, relay: &RelayId) {
        self.cell(relay).wake();
    }

    fn hasten(&self, relay: &RelayId, what: Hasten) {
        let cell = self.cell(relay);
        if cell.with(|lanes| lanes.hasten(what)) {
            cell.wake();
        }
    }

    fn waiting(&self, relay: &RelayId) -> [usize; 3] {
        let known = self.relays.read().get(relay).cloned();
        known.map_or([0; 3], |cell| cell.lanes.lock().depths())
    }
}
