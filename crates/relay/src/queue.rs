//! The port of the work queue: what a relay's hands take their work from.
//!
//! A job says "look at these messages of this lot", never what is in them. Whoever takes it looks at the lot and does
//! what is still to be done; so a job may be lost (a scan derives it again), stale, or there twice, and the worst is
//! a wasted look. An adapter over a broker acknowledges in [`WorkQueue::settle`] and may hand a lease out again when
//! its holder died.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::ids::LotId;
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use tokio::sync::watch;
use uuid::Uuid;

/// What is to be done, as far as the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// Hand over what is routed.
    Submit,
    /// Ask about what is unknown, or hand it over again under the same reference.
    Inquire,
    /// The intent is in the log and no answer: whoever called did not live to record it.
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

/// What is looked at before its time when a relay is back, or another one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hasten {
    /// What was put off because the relay took nothing: somebody works for it again, or hand-overs may go elsewhere now. The
    /// relay has not answered anything, so a question keeps the time that the log says.
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
    /// The event that it follows from; a broker drops repeats by it.
    pub cause: Option<Uuid>,
}

/// What became of a job that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in the queue, at least the part of it that was not there before.
    Queued,
    /// All of it was queued or being worked on already.
    Known,
    /// The lane is full. Nothing was put; put it again later (the lot still knows of it).
    Full,
}

/// Which work a hand wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The most messages.
    pub messages_max: u32,
    /// From which lanes.
    pub lanes: WantedLanes,
    /// The time: what is due.
    pub now: DateTime<Utc>,
}

/// Which classes a hand serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedLanes {
    /// Every class, the most urgent first, with the reserved shares.
    All,
    /// Only one-time passwords: the hand that is kept free for them.
    OtpOnly,
}

/// Work that was taken and not settled yet. All of it is of one class and one kind.
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

/// The queue cannot be reached. Nothing is lost: the log has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the work queue cannot be reached: {0}")]
pub struct QueueError(pub String);

/// Work of all relays.
#[async_trait]
pub trait WorkQueue: Send + Sync + 'static {
    /// Puts a job. Messages that are queued already for the same relay, attempt and kind are not put twice. While
    /// messages are leased, any other job for them waits until the lease is settled. That includes
    /// [`JobKind::Unanswered`]: the lease may be for a stale job, whose holder will find nothing to do.
    async fn put(&self, job: Job) -> Result<Put, QueueError>;

    /// Takes work for a relay.
    async fn take(&self, relay: &RelayId, want: Want) -> Result<Taken, QueueError>;

    /// Ends a lease: all of it is done but `rest`, parts of its jobs (perhaps of another kind) that go back.
    async fn settle(&self, relay: &RelayId, lease: u64, rest: Vec<Job>) -> Result<(), QueueError>;

    /// The holder of a lease died in the middle: what it held is to be looked at anew. A broker does this by itself
    /// after a while.
    fn abandon(&self, relay: &RelayId, lease: u64);

    /// Moves when there may be new work for a relay.
    fn arrivals(&self, relay: &RelayId) -> watch::Receiver<u64>;

    /// Wakes a relay's hands although there is no new work: something else changed that they wait for.
    fn nudge(&self, relay: &RelayId);

    /// The relay is back after a silence: what waits for that is due now, [`Waits::NoLonger`].
    fn hasten(&self, relay: &RelayId, what: Hasten);

    /// Messages that wait for a relay, by class, the most urgent first; delayed ones included.
    fn waiting(&self, relay: &RelayId) -> [usize; 3];
}
