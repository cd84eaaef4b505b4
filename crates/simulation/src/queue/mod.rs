//! The work queue of several processes: what [`kite_relay::queue`] promises, and no more.
//!
//! Behind it are the lanes of a single process, which order the jobs. What they promise beyond the port is taken
//! back:
//!
//! - A job that was given out has an acknowledgement deadline. Its process reports "in progress" while it runs and
//!   reaches the queue. A process that stands still, is cut off or has died reports nothing, and its jobs are given
//!   out again: to others while it still works, if it wakes up.
//! - By faults that are armed: a job is lost after it was accepted, comes late or twice; the reports of one that is given out
//!   are not heard, so that others get it while its process still works; a put or a settlement
//!   happens without an answer; the rest of a lease comes back as a whole or not at all.
//! - A job with the same cause is accepted once within a window, though the first may be lost by then.
//! - Others learn about a job at once, or when they look.

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use chrono::TimeDelta;
use futures::FutureExt;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_relay::queue::{Hasten, Job, JobKind, Lease, Put, QueueError, Taken, Want, WantedLanes};
use kite_relay::{InProcessQueue, QueueLimits, WorkQueue};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use uuid::Uuid;

use crate::executor::{NodeIndex, Sim};
use crate::faults::{Armed, PutFault, QueueFault, SettleFault, TakeFault};
use crate::reach::Situation;

/// What was given out and is not acknowledged is given out again after this long.
const ACKNOWLEDGED_WITHIN_MS: i64 = 10_000;
/// How often a process says that it still works on what it has.
const IN_PROGRESS_EVERY_MS: u64 = 3_000;
/// For so long a repeat is dropped.
const REPEATS_DROPPED_MS: i64 = 120_000;
/// How late a job comes at most that is late.
const LATE_MS: u64 = 8_000;

/// What identifies a repeat. One event has several jobs for the same relay and attempt, so these are not enough.
type JobName = (Uuid, RelayId, u16, JobKind, i64, Option<u32>);

/// The broker: it outlives all processes.
pub(crate) struct Broker {
    sim: Arc<Sim>,
    lanes: Arc<InProcessQueue>,
    state: Mutex<State>,
    put_faults: Armed<PutFault>,
    take_faults: Armed<TakeFault>,
    settle_faults: Armed<SettleFault>,
}

#[derive(Default)]
struct State {
    out: BTreeMap<u64, Out>,
    leases_made: u64,
    /// Jobs that are given out beside what the lanes know.
    twins: BTreeMap<RelayId, VecDeque<Lease>>,
    /// When each was put.
    put: BTreeMap<JobName, i64>,
    arrivals: BTreeMap<(RelayId, NodeIndex), watch::Sender<u64>>,
}

/// What somebody works on.
struct Out {
    relay: RelayId,
    jobs: Vec<Job>,
    /// The lease of the lanes; none: they do not know of it.
    of_lanes: Option<u64>,
    until_ms: i64,
    /// Whether the queue hears that it is worked on.
    is_heard: bool,
    stands: Stands,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Its time is not over.
    Held,
    /// Its time is over: others may have it.
    Lapsed,
    /// Others have it.
    GivenAgain,
}

impl Broker {
    pub(crate) fn new(sim: Arc<Sim>, limits: QueueLimits) -> Self {
        Self {
            sim,
            lanes: Arc::new(InProcessQueue::new(limits)),
            state: Mutex::default(),
            put_faults: Armed::default(),
            take_faults: Armed::default(),
            settle_faults: Armed::default(),
        }
    }

    /// What waits in it, as it is.
    pub(crate) fn lanes(&self) -> &Arc<InProcessQueue> {
        &self.lanes
    }

    pub(crate) fn arm(&self, skip: u32, fault: QueueFault) {
        match fault {
            QueueFault::Put(fault) => self.put_faults.arm(skip, fault),
            QueueFault::Take(fault) => self.take_faults.arm(skip, fault),
            QueueFault::Settle(fault) => self.settle_faults.arm(skip, fault),
        }
    }

    /// Faults stop.
    pub(crate) fn heal(&self) {
        self.put_faults.disarm();
        self.take_faults.disarm();
        self.settle_faults.disarm();
    }

    fn wake(&self, relay: &RelayId, node: NodeIndex) {
        for ((of, whose), arrivals) in &self.state.lock().arrivals {
            if of == relay && (*whose == node || self.sim.per_cent(50)) {
                arrivals.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }

    /// Whether this is the first of its name for a while.
    fn is_first(&self, job: &Job) -> bool {
        let Some(name) = name_of(job) else { return true };
        let known = self.state.lock().put.get(&name).copied();
        known.is_none_or(|put_ms| put_ms + REPEATS_DROPPED_MS < self.sim.now_ms())
    }

    async fn put(&self, job: Job) -> Result<Put, QueueError> {
        if !self.is_first(&job) {
            return Ok(Put::Queued);
        }
        let name = name_of(&job);
        let put = self.lanes.put(job).await?;
        if let (Some(name), Put::Queued | Put::Known) = (name, put) {
            self.state.lock().put.insert(name, self.sim.now_ms());
        }
        Ok(put)
    }

    async fn put_with(&self, fault: PutFault, job: Job) -> Result<Put, QueueError> {
        match fault {
            PutFault::Lost => {
                self.sim.reach(Situation::JobLost);
                if let Some(name) = name_of(&job) {
                    self.state.lock().put.insert(name, self.sim.now_ms());
                }
                Ok(Put::Queued)
            }
            PutFault::InUnanswered => {
                self.sim.reach(Situation::PutUnanswered);
                self.put(job).await?;
                Err(unanswered())
            }
            PutFault::NotInUnanswered => Err(unanswered()),
            PutFault::Late => {
                let late = TimeDelta::milliseconds(self.sim.below(LATE_MS) as i64);
                let not_before_ms = job.not_before_ms.max((self.sim.now() + late).timestamp_millis());
                self.put(Job { not_before_ms, ..job }).await
            }
        }
    }

    /// What was not acknowledged in time may be had again.
    async fn lapse(&self) {
        let now_ms = self.sim.now_ms();
        let mut over = Vec::new();
        for out in self.state.lock().out.values_mut() {
            if out.stands == Stands::Held && out.until_ms <= now_ms {
                out.stands = Stands::Lapsed;
                over.extend(out.of_lanes.take().map(|lease| (out.relay.clone(), lease, out.jobs.clone())));
            }
        }
        for (relay, lease, jobs) in over {
            // The lanes are in memory: they always answer, and at once.
            let _ = self.lanes.settle(&relay, lease, jobs).await;
        }
    }

    /// Gives a lease of its own number, which is to be acknowledged in time: in none if the queue does not hear of it.
    fn give(&self, relay: &RelayId, lease: Lease, of_lanes: Option<u64>, is_heard: bool) -> Lease {
        let mut state = self.state.lock();
        for out in state.out.values_mut().filter(|out| out.relay == *relay && out.stands == Stands::Lapsed) {
            if out.jobs.iter().any(|job| lease.jobs.iter().any(|other| are_of_one(job, other))) {
                out.stands = Stands::GivenAgain;
            }
        }
        state.leases_made += 1;
        let id = state.leases_made;
        let out = Out {
            relay: relay.clone(),
            jobs: lease.jobs.clone(),
            of_lanes,
            until_ms: self.sim.now_ms() + if is_heard { ACKNOWLEDGED_WITHIN_MS } else { 0 },
            is_heard,
            stands: Stands::Held,
        };
        state.out.insert(id, out);
        Lease { id, ..lease }
    }

    /// A job that is there twice: one that the lanes know nothing of.
    fn twin(&self, relay: &RelayId, wanted: WantedLanes) -> Option<Lease> {
        let mut state = self.state.lock();
        let twins = state.twins.get_mut(relay)?;
        let is_wanted = |lease: &Lease| wanted == WantedLanes::All || lease.class == MessageClass::Otp;
        let place = twins.iter().position(is_wanted)?;
        twins.remove(place)
    }

    async fn take(&self, relay: &RelayId, want: Want) -> Result<Taken, QueueError> {
        self.lapse().await;
        if let Some(twin) = self.twin(relay, want.lanes) {
            return Ok(Taken::Lease(self.give(relay, twin, None, true)));
        }
        // Whoever asks may have another time than the queue.
        let want = Want { now: self.sim.now(), ..want };
        let lease = match self.lanes.take(relay, want).await? {
            Taken::Lease(lease) => lease,
            nothing @ Taken::Nothing(_) => return Ok(nothing),
        };
        let fault = self.take_faults.strike();
        if fault == Some(TakeFault::Twice) {
            self.sim.reach(Situation::JobTwice);
            self.state.lock().twins.entry(relay.clone()).or_default().push_back(lease.clone());
        }
        let of_lanes = Some(lease.id);
        let is_heard = fault != Some(TakeFault::Unheard);
        let given = self.give(relay, lease, of_lanes, is_heard);
        if !is_heard {
            self.lapse().await;
            self.state.lock().arrivals.iter().filter(|((of, _), _)| of == relay).for_each(|(_, arrivals)| {
                arrivals.send_modify(|count| *count = count.wrapping_add(1));
            });
        }
        Ok(Taken::Lease(given))
    }

    /// Whoever has it works on it. False: it is not out any more.
    fn is_in_progress(&self, lease: u64) -> bool {
        let now_ms = self.sim.now_ms();
        let mut state = self.state.lock();
        let Some(out) = state.out.get_mut(&lease).filter(|out| out.stands == Stands::Held) else {
            return false;
        };
        // One that comes too late changes nothing.
        if out.is_heard && out.until_ms > now_ms {
            out.until_ms = now_ms + ACKNOWLEDGED_WITHIN_MS;
        }
        true
    }

    async fn settle(&self, relay: &RelayId, lease: u64, rest: Vec<Job>) -> Result<(), QueueError> {
        let Some(out) = self.state.lock().out.remove(&lease) else { return Ok(()) };
        if out.stands == Stands::GivenAgain {
            self.sim.reach(Situation::JobGivenAgain);
        }
        if let Some(of_lanes) = out.of_lanes {
            return self.lanes.settle(relay, of_lanes, rest).await;
        }
        for job in rest {
            let job = Job { cause: None, ..job };
            self.lanes.put(job).await?;
        }
        Ok(())
    }

    async fn settle_with(
        &self,
        fault: SettleFault,
        relay: &RelayId,
        lease: u64,
        rest: Vec<Job>,
    ) -> Result<(), QueueError> {
        match fault {
            SettleFault::DoneUnanswered => {
                self.settle(relay, lease, rest).await?;
                Err(unanswered())
            }
            SettleFault::NotDoneUnanswered => Err(unanswered()),
            SettleFault::RestLost => {
                if !rest.is_empty() {
                    self.sim.reach(Situation::JobLost);
                }
                self.settle(relay, lease, Vec::new()).await
            }
            SettleFault::RestWhole => {
                let jobs = self.state.lock().out.get(&lease).map(|out| out.jobs.clone()).unwrap_or_default();
                let whole = jobs.into_iter().filter_map(|job| {
                    let left = rest.iter().find(|left| are_of_one(left, &job))?;
                    Some(Job { not_before_ms: left.not_before_ms, waits: left.waits, ..job })
                });
                self.settle(relay, lease, whole.collect()).await
            }
        }
    }

    /// It is to be looked at soon, as it is or as what nobody has answered.
    fn abandon(&self, relay: &RelayId, lease: u64) {
        let Some(out) = self.state.lock().out.remove(&lease) else { return };
        let Some(of_lanes) = out.of_lanes else { return };
        if self.sim.per_cent(50) {
            self.lanes.abandon(relay, of_lanes);
        } else {
            let _ = self.lanes.settle(relay, of_lanes, out.jobs).now_or_never();
        }
    }
}

fn name_of(job: &Job) -> Option<JobName> {
    let first = job.messages.iter().next();
    Some((job.cause?, job.relay.clone(), job.attempt, job.kind, job.not_before_ms, first))
}

/// Whether they are about the same messages, or some of them.
fn are_of_one(job: &Job, other: &Job) -> bool {
    (job.lot, job.attempt) == (other.lot, other.attempt)
        && job.messages.iter().any(|seq| other.messages.contains(seq))
}

fn unanswered() -> QueueError {
    QueueError::new("no answer")
}

/// The queue as one process sees it.
pub(crate) struct NodeQueue {
    sim: Arc<Sim>,
    broker: Arc<Broker>,
    node: NodeIndex,
    is_cut_off: Arc<AtomicBool>,
    /// The leases that this process works on.
    kept: Arc<Mutex<BTreeSet<u64>>>,
    /// There is no process: what dies says nothing.
    is_dead: AtomicBool,
}

impl NodeQueue {
    pub(crate) fn new(sim: Arc<Sim>, broker: Arc<Broker>, node: NodeIndex) -> Self {
        let (is_cut_off, kept) = (Arc::default(), Arc::default());
        Self { sim, broker, node, is_cut_off, kept, is_dead: AtomicBool::new(false) }
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    pub(crate) fn is_dead(&self, is_dead: bool) {
        self.is_dead.store(is_dead, Ordering::Relaxed);
    }

    fn is_out_of_reach(&self) -> bool {
        self.is_cut_off.load(Ordering::Relaxed) || self.is_dead.load(Ordering::Relaxed)
    }

    fn reach(&self) -> Result<(), QueueError> {
        if self.is_out_of_reach() { Err(QueueError::new("cut off")) } else { Ok(()) }
    }

    /// Asks the broker. What was done and whose answer does not come is done all the same.
    async fn ask<T>(&self, answer: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
        self.sim.some_yields().await;
        self.reach()?;
        let answer = answer.await;
        self.sim.some_yields().await;
        self.reach()?;
        answer
    }

    /// Says that this process works on a lease, for as long as it does.
    fn keep(&self, lease: u64) {
        self.kept.lock().insert(lease);
        let (sim, broker) = (self.sim.clone(), self.broker.clone());
        let (is_cut_off, kept) = (self.is_cut_off.clone(), self.kept.clone());
        self.sim.spawn(self.node, "in-progress", async move {
            loop {
                sim.sleep_ms(IN_PROGRESS_EVERY_MS).await;
                let is_kept = kept.lock().contains(&lease);
                if !is_kept || !is_cut_off.load(Ordering::Relaxed) && !broker.is_in_progress(lease) {
                    return;
                }
            }
        });
    }
}

#[async_trait]
impl WorkQueue for NodeQueue {
    async fn put(&self, job: Job) -> Result<Put, QueueError> {
        let relay = job.relay.clone();
        let put = self
            .ask(async {
                match self.broker.put_faults.strike() {
                    None => self.broker.put(job).await,
                    Some(fault) => self.broker.put_with(fault, job).await,
                }
            })
            .await;
        if matches!(put, Ok(Put::Queued)) {
            self.broker.wake(&relay, self.node);
        }
        put
    }

    async fn take(&self, relay: &RelayId, want: Want) -> Result<Taken, QueueError> {
        let taken = self.ask(self.broker.take(relay, want)).await?;
        if let Taken::Lease(lease) = &taken {
            self.keep(lease.id);
        }
        Ok(taken)
    }

    async fn settle(&self, relay: &RelayId, lease: u64, rest: Vec<Job>) -> Result<(), QueueError> {
        let has_rest = !rest.is_empty();
        self.ask(async {
            match self.broker.settle_faults.strike() {
                None => self.broker.settle(relay, lease, rest).await,
                Some(fault) => self.broker.settle_with(fault, relay, lease, rest).await,
            }
        })
        .await?;
        if has_rest {
            self.broker.wake(relay, self.node);
        }
        Ok(())
    }

    fn abandon(&self, relay: &RelayId, lease: u64) {
        self.kept.lock().remove(&lease);
        if !self.is_out_of_reach() {
            self.broker.abandon(relay, lease);
            self.broker.wake(relay, self.node);
        }
    }

    fn arrivals(&self, relay: &RelayId) -> watch::Receiver<u64> {
        let mut state = self.broker.state.lock();
        state.arrivals.entry((relay.clone(), self.node)).or_default().subscribe()
    }

    fn nudge(&self, relay: &RelayId) {
        if let Some(arrivals) = self.broker.state.lock().arrivals.get(&(relay.clone(), self.node)) {
            arrivals.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// A wish, which is not always heard.
    fn hasten(&self, relay: &RelayId, what: Hasten) {
        if !self.is_out_of_reach() && self.sim.per_cent(70) {
            self.broker.lanes.hasten(relay, what);
            self.broker.wake(relay, self.node);
        }
    }

    fn waiting(&self, relay: &RelayId) -> [usize; 3] {
        self.broker.lanes.waiting(relay)
    }
}
