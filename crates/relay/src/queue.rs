//! The port of the work queue, from which a relay's workers take their work.
//!
//! A job says "look at these messages of this lot", never what is in them. The worker that takes it looks at the lot
//! and does what is still to be done. So the port promises no more than a broker with pull consumers:
//!
//! - *At least once, mostly.* A job comes to some worker, in any process. It may come twice, to two workers at the
//!   same time, late, in another order, or get lost silently. A job that comes again is a reason to look at the lot,
//!   nothing more.
//! - *A lease gives no exclusive right.* Others may have the same messages. The last look at the lot and the version
//!   that the intent expects decide who calls; a stale or doubled job costs a look.
//! - *Settled last.* Until a lease is settled its jobs are given out again after a while. So it is settled when the
//!   answers are in the log, and a worker that dies leaves nothing behind that nobody looks at.
//! - *What shows no progress is put again*, from the log: by the publisher as it reads on, by the sweeper for every
//!   open lot, by a worker that finds a job older than its lot.
//! - Times, hints and numbers are requests. The log says when a message may go.
//!
//! The queue inside the process ([`crate::lanes`]) promises more than that: no message is leased twice, what is known
//! is not put twice, nothing comes before its time. In this crate only speed may depend on it.
//!
//! On NATS JetStream (crate `kite-nats`) the lanes keep ordering the jobs, and a pump keeps the stream shallow, so that a
//! password is not behind a campaign. What a process pulls goes into lanes of its own, from which its workers lease. It is
//! acknowledged when all of it is settled, and until then the process reports "in progress", so a long call does not bring
//! its jobs to another. A put at a process that publishes nothing and does not work for the relay is forgotten.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::event_store::SharedError;
use kite_commands::worker::Failure;
use kite_domain::ids::LotId;
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use std::collections::HashMap;
use tokio::sync::watch;
use uuid::Uuid;

/// What is to be done, as far as the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// Hand over what is routed.
    Submit,
    /// Ask about what is unknown, or hand it over again under the same reference.
    Inquire,
    /// The intent is in the log without an answer: the process that called did not live to record it.
    Unanswered,
}

/// Whether a job may be looked at before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Waits {
    /// Not before its time.
    #[default]
    ForItsTime,
    /// The relay takes nothing at the moment: not before its time, or until the relay is back.
    ForTheRelay,
    /// The relay is back: it is looked at before its time.
    NoLonger,
}

/// What is looked at before its time when a relay, or another one, is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hasten {
    /// What was postponed because the relay took nothing: it has workers again, or hand-overs may go elsewhere now.
    /// The relay has not answered anything, so a question keeps the time that the log says.
    PutOff,
    /// Questions about lost answers: the relay answers again.
    Questions,
    /// Everything that waits for the relay: it takes as much as it can.
    Everything,
}

/// Work for one relay: messages of one lot and attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The lot.
    pub lot: LotId,
    /// Whose messages; tenants are served in turn.
    pub tenant: TenantId,
    /// Which lane.
    pub class: MessageClass,
    /// Which relay.
    pub relay: RelayId,
    /// Which attempt, the same for all messages.
    pub attempt: u16,
    /// What is to be done.
    pub kind: JobKind,
    /// Which messages.
    pub messages: SeqSet,
    /// Not before, in milliseconds since 1970; 0: at once.
    pub not_before_ms: i64,
    /// Whether that may be sooner.
    pub waits: Waits,
    /// The event that it follows from; a broker drops repeats with the same one.
    pub cause: Option<Uuid>,
}

impl Job {
    /// Another job for the same lot and attempt. If one of them says that the relay is back, that applies to both.
    fn add(&mut self, other: Self) {
        self.messages = self.messages.iter().chain(&other.messages).collect();
        if other.waits == Waits::NoLonger {
            self.waits = Waits::NoLonger;
        }
    }
}

/// What became of a job that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in the queue, most likely.
    Queued,
    /// The queue knows all of it already. One that does not know says [`Put::Queued`].
    Known,
    /// The lane is full. Nothing was put; put it again later (the lot still knows of it).
    Full,
}

/// Which work a worker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The most messages that are worked on. A queue that gives whole jobs may give more ([`Lease::cut`]).
    pub messages_max: u32,
    /// From which lanes.
    pub lanes: WantedLanes,
    /// The time: what is due.
    pub now: DateTime<Utc>,
}

/// Which classes a worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedLanes {
    /// Every class, the most urgent first, with the reserved shares.
    All,
    /// Only one-time passwords: for the worker that is reserved for them.
    OtpOnly,
}

/// Work that was taken and is not settled yet, as a reason to look. All of it is of one class and one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Names it to [`WorkQueue::settle`].
    pub id: u64,
    /// The class of all jobs.
    pub class: MessageClass,
    /// The kind of all jobs.
    pub kind: JobKind,
    /// Each lot and attempt at most once.
    pub jobs: Vec<Job>,
}

impl Lease {
    /// Of these jobs, however often the queue has given them.
    pub fn new(id: u64, class: MessageClass, kind: JobKind, jobs: Vec<Job>) -> Self {
        let mut places: HashMap<(LotId, u16), usize> = HashMap::with_capacity(jobs.len());
        let mut once: Vec<Job> = Vec::with_capacity(jobs.len());
        for job in jobs {
            match places.get(&(job.lot, job.attempt)) {
                Some(place) => once[*place].add(job),
                None => {
                    places.insert((job.lot, job.attempt), once.len());
                    once.push(job);
                }
            }
        }
        Self { id, class, kind, jobs: once }
    }

    /// Leaves at most so many messages, and returns the jobs of the others.
    pub fn cut(&mut self, messages_max: u32) -> Vec<Job> {
        let mut left = messages_max.max(1) as usize;
        let mut surplus = Vec::new();
        self.jobs.retain_mut(|job| {
            let count = job.messages.len().min(left);
            left -= count;
            if count < job.messages.len() {
                let (stays, goes) = job.messages.as_slice().split_at(count);
                let (stays, goes) = (stays.iter().copied().collect(), goes.iter().copied().collect());
                surplus.push(Job { messages: goes, ..job.clone() });
                job.messages = stays;
            }
            count > 0
        });
        surplus
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.jobs.iter().map(|job| job.messages.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.jobs.iter().all(|job| job.messages.is_empty())
    }
}

/// What a take gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Work.
    Lease(Lease),
    /// None now; the next is due then, if any is waiting.
    Nothing(Option<DateTime<Utc>>),
}

/// The queue cannot be reached. Nothing is lost: everything is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the work queue cannot be reached")]
pub struct QueueError(#[source] SharedError);

impl QueueError {
    /// For this reason.
    pub fn new(reason: impl Into<Failure>) -> Self {
        Self(SharedError::new(reason))
    }
}

/// Work of all relays. See the module for what it promises.
#[async_trait]
pub trait WorkQueue: Send + Sync + 'static {
    /// Puts a job. A queue drops a job that it knows already, if it can tell.
    async fn put(&self, job: Job) -> Result<Put, QueueError>;

    /// Takes work for a relay: others may be working on it, too, or may have done it.
    async fn take(&self, relay: &RelayId, want: Want) -> Result<Taken, QueueError>;

    /// Ends a lease, after everything that follows from it is in the log. `rest` is what is left of its jobs, perhaps
    /// of another kind. The queue brings it again, as it is or in whole jobs, or leaves it to the log. A lease that
    /// others have by now ends for them when they settle it.
    async fn settle(&self, relay: &RelayId, lease: u64, rest: Vec<Job>) -> Result<(), QueueError>;

    /// The holder of a lease died in the middle: a request to look at it soon. Without it that happens after a while.
    fn abandon(&self, relay: &RelayId, lease: u64);

    /// Moves when this process knows of new work for a relay. Other processes may put jobs without notice.
    fn arrivals(&self, relay: &RelayId) -> watch::Receiver<u64>;

    /// Wakes the relay's workers of this process: something else changed that they wait for.
    fn nudge(&self, relay: &RelayId);

    /// The relay is back after a silence: a request to give out everything that waits for that before its time, as
    /// [`Waits::NoLonger`]. The rest comes at its time.
    fn hasten(&self, relay: &RelayId, what: Hasten);

    /// Messages that wait for a relay, by class, the most urgent first, as far as this process knows: for people to look at.
    fn waiting(&self, relay: &RelayId) -> [usize; 3];

    /// Another process publishes from now on: what this one has put and nobody has got yet is put by that one, too.
    fn forget(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::ids::SendingId;

    fn job(lot: u32, attempt: u16, messages: std::ops::Range<u32>) -> Job {
        Job {
            lot: LotId { sending: SendingId(Uuid::from_u128(1)), number: lot },
            tenant: TenantId::from_trusted("shop"),
            class: MessageClass::Notice,
            relay: RelayId::from_trusted("alpha"),
            attempt,
            kind: JobKind::Submit,
            messages: messages.collect(),
            not_before_ms: 0,
            waits: Waits::default(),
            cause: None,
        }
    }

    fn lease(jobs: Vec<Job>) -> Lease {
        Lease::new(1, MessageClass::Notice, JobKind::Submit, jobs)
    }

    #[test]
    fn a_job_that_comes_twice_is_looked_at_once() {
        let hastened = Job { waits: Waits::NoLonger, ..job(0, 1, 3..8) };
        let lease = lease(vec![job(0, 1, 0..5), job(1, 1, 0..2), hastened, job(0, 2, 0..1), job(1, 1, 0..2)]);
        let once = [Job { waits: Waits::NoLonger, ..job(0, 1, 0..8) }, job(1, 1, 0..2), job(0, 2, 0..1)];
        assert_eq!(lease.jobs, once);
    }

    #[test]
    fn what_is_more_than_was_wanted_is_cut_off() {
        let mut whole = lease(vec![job(0, 1, 0..5), job(1, 1, 0..5), job(2, 1, 0..5)]);
        assert_eq!(whole.cut(15), []);
        assert_eq!(whole.cut(7), [job(1, 1, 2..5), job(2, 1, 0..5)]);
        assert_eq!(whole.jobs, [job(0, 1, 0..5), job(1, 1, 0..2)]);
        whole.cut(0);
        assert_eq!(whole.len(), 1, "at least one");
    }
}
