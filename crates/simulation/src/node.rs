//! One of the processes of a simulation: the part of it that exists whether it lives or not.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::Clock;
use kite_commands::clock::ManualClock;
use kite_commands::lease::{Acquired, HeldBy, InProcessLeases, LeaseError, Leases, Renewed, TERM};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::executor::Sim;
use crate::faults::{Armed, LeaseFault};
use crate::platform::Ground;
use crate::queue::NodeQueue;
use crate::reach::Situation;
use crate::store::FaultyStore;
use crate::world::Slot;

/// A clock that is off by so much.
pub(crate) struct NodeClock {
    clock: Arc<ManualClock>,
    off_ms: AtomicI64,
}

impl NodeClock {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self { clock, off_ms: AtomicI64::new(0) }
    }

    pub(crate) fn is_off_by(&self, off_ms: i64) {
        self.off_ms.store(off_ms, Ordering::Relaxed);
    }
}

impl Clock for NodeClock {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::milliseconds(self.off_ms.load(Ordering::Relaxed))
    }
}

/// The leases of all processes, and what may happen to them.
pub(crate) struct KeptLeases {
    leases: InProcessLeases,
    faults: Armed<LeaseFault>,
    /// Those that were lost, and have not been told of.
    lost: Mutex<Vec<SmolStr>>,
}

impl KeptLeases {
    pub(crate) fn new(sim: &Sim) -> Self {
        let leases = InProcessLeases::new(sim.clock.clone(), TERM);
        Self { leases, faults: Armed::default(), lost: Mutex::default() }
    }

    pub(crate) fn arm(&self, skip: u32, fault: LeaseFault) {
        self.faults.arm(skip, fault);
    }

    /// Faults stop.
    pub(crate) fn heal(&self) {
        self.faults.disarm();
    }

    /// Which were lost since this was asked.
    pub(crate) fn take_lost(&self) -> Vec<SmolStr> {
        std::mem::take(&mut *self.lost.lock())
    }
}

/// The leases as one process sees them: it may be cut off, and an answer may be lost.
pub(crate) struct SimLeases {
    sim: Arc<Sim>,
    kept: Arc<KeptLeases>,
    is_cut_off: AtomicBool,
}

/// How long a late renewal is on its way, and its answer: together longer than a lease lasts, sometimes.
const LATE_MS_MAX: u64 = 6_000;

/// Of how many questions in a hundred the answer is lost.
const LOST_PER_CENT: u64 = 2;

impl SimLeases {
    pub(crate) fn new(sim: Arc<Sim>, kept: Arc<KeptLeases>) -> Self {
        Self { sim, kept, is_cut_off: AtomicBool::new(false) }
    }

    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    fn reach(&self) -> Result<(), LeaseError> {
        match self.is_cut_off.load(Ordering::Relaxed) {
            true => Err(LeaseError::unavailable("cut off")),
            false => Ok(()),
        }
    }

    async fn ask<T>(&self, answer: impl Future<Output = Result<T, LeaseError>>) -> Result<T, LeaseError> {
        self.sim.some_yields().await;
        self.reach()?;
        let answer = answer.await;
        self.sim.some_yields().await;
        self.reach()?;
        match self.sim.per_cent(LOST_PER_CENT) {
            true => Err(LeaseError::unavailable("the answer was lost")),
            false => answer,
        }
    }
}

#[async_trait]
impl Leases for SimLeases {
    async fn acquire(&self, lease: &str, holder: &str, after: TimeDelta) -> Result<Acquired, LeaseError> {
        self.ask(self.kept.leases.acquire(lease, holder, after)).await
    }

    async fn renew(&self, lease: &str, holder: &str, epoch: u64) -> Result<Renewed, LeaseError> {
        let Some(fault) = self.kept.faults.strike() else {
            return self.ask(self.kept.leases.renew(lease, holder, epoch)).await;
        };
        match fault {
            LeaseFault::Late => {
                self.sim.reach(Situation::LeaseRenewedLate);
                self.sim.sleep_ms(self.sim.below(LATE_MS_MAX)).await;
                let renewed = self.ask(self.kept.leases.renew(lease, holder, epoch)).await;
                self.sim.sleep_ms(self.sim.below(LATE_MS_MAX)).await;
                renewed
            }
            LeaseFault::Lost => {
                let renewed = self.ask(self.kept.leases.renew(lease, holder, epoch)).await;
                // As if it had been given back: whoever asks next gets it.
                self.kept.leases.release(lease, holder, epoch).await?;
                self.kept.lost.lock().push(lease.into());
                self.sim.reach(Situation::LeaseLost);
                renewed
            }
        }
    }

    async fn release(&self, lease: &str, holder: &str, epoch: u64) -> Result<(), LeaseError> {
        self.ask(self.kept.leases.release(lease, holder, epoch)).await
    }

    async fn held(&self, prefix: &str) -> Result<Vec<HeldBy>, LeaseError> {
        self.ask(self.kept.leases.held(prefix)).await
    }
}

/// How one of several processes reaches what they share beside the log.
pub(crate) struct Links {
    pub(crate) leases: Arc<SimLeases>,
    pub(crate) queue: Arc<NodeQueue>,
}

/// See the module.
pub(crate) struct Node {
    /// Where requests find it, while it lives.
    pub(crate) slot: Slot,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) ground: Ground,
    pub(crate) links: Option<Links>,
    /// How often it was started.
    pub(crate) lives: u32,
    /// When what was done to it is over.
    pub(crate) stands_still_until_ms: Option<i64>,
    pub(crate) is_cut_off_until_ms: Option<i64>,
    pub(crate) is_down_until_ms: Option<i64>,
    /// When the newer program is started in its place.
    pub(crate) is_behind_until_ms: Option<i64>,
}

impl Node {
    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.store.cut_off(is_cut_off);
        if let Some(links) = &self.links {
            links.leases.cut_off(is_cut_off);
            links.queue.cut_off(is_cut_off);
        }
    }

    /// There is no process from now on, or there is one again.
    pub(crate) fn is_dead(&self, is_dead: bool) {
        if let Some(links) = &self.links {
            links.queue.is_dead(is_dead);
        }
    }

    /// When the next of what was done to it is over.
    pub(crate) fn next_moment(&self) -> Option<i64> {
        let moments = [
            self.stands_still_until_ms,
            self.is_cut_off_until_ms,
            self.is_down_until_ms,
            self.is_behind_until_ms,
        ];
        moments.into_iter().flatten().min()
    }
}
