//! All lanes of one relay: classes with reserved shares, delayed jobs, and who has leased which messages.

use chrono::DateTime;
use kite_domain::ids::LotId;
use kite_domain::mutation;
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::TenantId;
use std::collections::{BTreeMap, HashMap};

use super::QueueLimits;
use super::class::{Batch, Lane};
use super::sets::{common, minus, union};
use crate::queue::{Hasten, Job, JobKind, Lease, Put, Taken, Waits, Want, WantedLanes};

/// A class's lanes: hand-overs, and questions about earlier ones. They take turns.
#[derive(Debug, Default)]
struct ClassLanes {
    submits: Lane,
    questions: Lane,
    delayed: Delayed,
    /// How many messages of this class may pass although a more urgent class waits, in hundredths.
    credit: usize,
    had_question: bool,
}

impl ClassLanes {
    fn messages(&self) -> usize {
        self.submits.messages() + self.questions.messages()
    }

    /// Jobs that could be taken now.
    fn jobs(&self) -> usize {
        self.submits.jobs() + self.questions.jobs()
    }

    /// Whether there is no place for another job of this tenant. In a full lane, a tenant with less than an equal
    /// part still gets a place, so that no tenant's campaign keeps another out. The parts together are at most a few
    /// times the limit.
    fn is_full_for(&self, tenant: &TenantId, jobs_max: usize) -> bool {
        if self.jobs() < jobs_max {
            return false;
        }
        let own = self.submits.jobs_of(tenant) + self.questions.jobs_of(tenant);
        let others = self.submits.tenants().max(self.questions.tenants());
        own >= (jobs_max / (others + 1)).max(1)
    }

    fn push(&mut self, job: Job) {
        match job.kind {
            JobKind::Submit => self.submits.push(job),
            JobKind::Inquire | JobKind::Unanswered => self.questions.push(job),
        }
    }

    fn take(&mut self, messages_max: usize) -> Batch {
        let asks = self.questions.messages() > 0 && (!self.had_question || self.submits.messages() == 0);
        self.had_question = asks;
        if asks { self.questions.take(messages_max) } else { self.submits.take(messages_max) }
    }
}

/// Where the messages of one lot and attempt are, so that none is there twice.
#[derive(Debug, Default)]
struct Held {
    queued: Vec<(JobKind, SeqSet)>,
    leased: SeqSet,
    /// Jobs for messages that are leased now.
    waiting: Vec<Job>,
}

impl Held {
    fn queued(&mut self, kind: JobKind) -> &mut SeqSet {
        let place = self.queued.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.queued.push((kind, SeqSet::default()));
            self.queued.len() - 1
        });
        &mut self.queued[place].1
    }

    fn wait(&mut self, job: Job) -> bool {
        let fresh = self
            .waiting
            .iter()
            .filter(|known| known.kind == job.kind)
            .fold(job.messages.clone(), |fresh, known| minus(&fresh, &known.messages));
        let is_fresh = !fresh.is_empty();
        if is_fresh {
            self.waiting.push(Job { messages: fresh, ..job });
        }
        is_fresh
    }

    fn is_empty(&self) -> bool {
        self.leased.is_empty() && self.waiting.is_empty() && self.queued.iter().all(|(_, set)| set.is_empty())
    }
}

/// Jobs of a class that are not due yet, the next one first.
#[derive(Debug, Default)]
struct Delayed {
    /// By time, then by order of coming.
    jobs: BTreeMap<(i64, u64), Job>,
    tenants: HashMap<TenantId, usize>,
    made: u64,
    messages: usize,
}

impl Delayed {
    fn push(&mut self, job: Job) {
        self.made += 1;
        self.messages += job.messages.len();
        match self.tenants.get_mut(&job.tenant) {
            Some(jobs) => *jobs += 1,
            None => {
                self.tenants.insert(job.tenant.clone(), 1);
            }
        }
        self.jobs.insert((job.not_before_ms, self.made), job);
    }

    /// How many places a tenant has, and its equal part.
    fn places(&self, tenant: &TenantId, jobs_max: usize) -> (usize, usize) {
        let own = self.tenants.get(tenant).copied().unwrap_or(0);
        (own, (jobs_max / (self.tenants.len() + 1)).max(1))
    }

    /// Whether a job gets a place only if another gives way.
    fn is_full_for(&self, job: &Job, jobs_max: usize) -> bool {
        let (own, part) = self.places(&job.tenant, jobs_max);
        self.jobs.len() >= jobs_max && own >= part
    }

    /// Whether the job that is due last gives way to a job: one of the same tenant, or of a tenant with more than its
    /// part.
    fn gives_way_to(&self, job: &Job, jobs_max: usize) -> bool {
        self.last().is_some_and(|last| {
            let (own, part) = self.places(&last.tenant, jobs_max);
            last.not_before_ms > job.not_before_ms && (last.tenant == job.tenant || own > part)
        })
    }

    fn next_ms(&self) -> Option<i64> {
        self.jobs.first_key_value().map(|((not_before_ms, _), _)| *not_before_ms)
    }

    fn pop_due(&mut self, now_ms: i64) -> Option<Job> {
        self.next_ms().filter(|next_ms| *next_ms <= now_ms)?;
        self.jobs.pop_first().map(|(_, job)| self.let_go(job))
    }

    fn last(&self) -> Option<&Job> {
        self.jobs.last_key_value().map(|(_, job)| job)
    }

    fn pop_last(&mut self) -> Option<Job> {
        self.jobs.pop_last().map(|(_, job)| self.let_go(job))
    }

    fn pull(&mut self, mut is_wanted: impl FnMut(&Job) -> bool) -> Vec<Job> {
        let pulled: Vec<Job> =
            self.jobs.extract_if(.., |_, job| is_wanted(job)).map(|(_, job)| job).collect();
        pulled.into_iter().map(|job| self.let_go(job)).collect()
    }

    fn let_go(&mut self, job: Job) -> Job {
        self.messages -= job.messages.len();
        if let Some(jobs) = self.tenants.get_mut(&job.tenant) {
            *jobs -= 1;
            if *jobs == 0 {
                self.tenants.remove(&job.tenant);
            }
        }
        job
    }
}

#[derive(Debug)]
pub(super) struct RelayLanes {
    limits: QueueLimits,
    classes: [ClassLanes; 3],
    held: HashMap<(LotId, u16), Held>,
    leases: HashMap<u64, Lease>,
    leases_made: u64,
}

impl RelayLanes {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            classes: Default::default(),
            held: HashMap::new(),
            leases: HashMap::new(),
            leases_made: 0,
        }
    }

    /// Forgets everything. What is leased later has numbers of its own all the same.
    pub(super) fn clear(&mut self) {
        *self = Self { leases_made: self.leases_made, ..Self::new(self.limits) };
    }

    /// Messages waiting by class, delayed ones included.
    pub(super) fn depths(&self) -> [usize; 3] {
        [0, 1, 2].map(|class: usize| self.classes[class].messages() + self.classes[class].delayed.messages)
    }

    /// Puts a job. Messages that are queued already for the same attempt and kind are not put twice. While messages are
    /// leased, any other job for them waits until the lease is settled. That includes [`JobKind::Unanswered`]: the lease may
    /// be for a stale job, whose holder will find nothing to do.
    pub(super) fn put(&mut self, job: Job) -> Put {
        let is_full = self.classes[index(job.class)].is_full_for(&job.tenant, self.limits.jobs_max);
        let held = self.held.entry((job.lot, job.attempt)).or_default();
        let fresh = minus(&job.messages, held.queued(job.kind));
        let free = minus(&fresh, &held.leased);
        if !free.is_empty() && is_full {
            mutation::bug!(DropOnFullQueue, return super::mutations::dropped(held.queued(job.kind), &free));
            self.forget_if_empty(&job);
            return Put::Full;
        }
        let blocked = common(&fresh, &held.leased);
        let mut is_fresh = !free.is_empty();
        if !blocked.is_empty() {
            is_fresh |= held.wait(Job { messages: blocked, ..job.clone() });
        }
        if free.is_empty() {
            self.forget_if_empty(&job);
            return if is_fresh { Put::Queued } else { Put::Known };
        }
        self.enqueue(Job { messages: free, ..job })
    }

    pub(super) fn take(&mut self, want: Want) -> Taken {
        self.promote(want.now.timestamp_millis());
        let messages_max = (want.messages_max as usize).max(1);
        while let Some(class) = self.choose(want.lanes, messages_max) {
            let batch = self.classes[class].take(messages_max);
            let Some(kind) = batch.kind else { break };
            self.account(class, batch.messages, messages_max);
            if let Some(lease) = self.lease(MessageClass::ALL[class], kind, batch) {
                return Taken::Lease(lease);
            }
        }
        let next_ms = self.classes.iter().filter_map(|lanes| lanes.delayed.next_ms()).min();
        Taken::Nothing(next_ms.and_then(DateTime::from_timestamp_millis))
    }

    /// Returns whether something is in the lanes that was not before.
    pub(super) fn settle(&mut self, lease: u64, rest: Vec<Job>) -> bool {
        let Some(lease) = self.leases.remove(&lease) else { return false };
        let mut freed = Vec::new();
        for job in &lease.jobs {
            if let Some(held) = self.held.get_mut(&(job.lot, job.attempt)) {
                held.leased = minus(&held.leased, &job.messages);
                freed.append(&mut held.waiting);
            }
        }
        let mut is_fresh = false;
        for job in rest.into_iter().chain(freed) {
            is_fresh |= self.put_back(job);
        }
        lease.jobs.iter().for_each(|job| self.forget_if_empty(job));
        is_fresh
    }

    /// Makes due what waits for the relay to come back. Returns whether there is any.
    pub(super) fn hasten(&mut self, what: Hasten) -> bool {
        let is_wanted = |job: &Job| match job.kind {
            JobKind::Inquire => what != Hasten::PutOff || job.waits == Waits::ForTheRelay,
            JobKind::Submit | JobKind::Unanswered => {
                what != Hasten::Questions && job.waits == Waits::ForTheRelay
            }
        };
        let waits = if what == Hasten::PutOff { Waits::ForItsTime } else { Waits::NoLonger };
        let mut is_any = false;
        for lanes in &mut self.classes {
            for job in lanes.delayed.pull(is_wanted) {
                is_any = true;
                lanes.push(Job { waits, ..job });
            }
        }
        is_any
    }

    pub(super) fn abandon(&mut self, lease: u64) {
        let jobs = self.leases.get(&lease).map(|lease| lease.jobs.clone()).unwrap_or_default();
        let anew = jobs.into_iter().map(|job| Job {
            kind: JobKind::Unanswered,
            not_before_ms: 0,
            waits: Waits::ForItsTime,
            ..job
        });
        self.settle(lease, anew.collect());
    }

    /// Like [`RelayLanes::put`], for what was in the queue already: it is always accepted, even by a full lane.
    /// Postponed jobs may not be.
    fn put_back(&mut self, job: Job) -> bool {
        let held = self.held.entry((job.lot, job.attempt)).or_default();
        let fresh = minus(&job.messages, held.queued(job.kind));
        let free = minus(&fresh, &held.leased);
        let blocked = common(&fresh, &held.leased);
        if !blocked.is_empty() {
            held.wait(Job { messages: blocked, ..job.clone() });
        }
        if free.is_empty() {
            return false;
        }
        self.enqueue(Job { messages: free, ..job }) == Put::Queued
    }

    /// Jobs that are not due yet have places of their own. Otherwise messages that are postponed until the morning
    /// would block what can be done now. When those places are full, the job that is due last is left to the log, and
    /// comes again with the next feeding; but no tenant gives way to another who has at most an equal part.
    fn enqueue(&mut self, job: Job) -> Put {
        let lanes = &mut self.classes[index(job.class)];
        let is_delayed = job.not_before_ms > 0;
        let mut dropped = None;
        let jobs_max = self.limits.jobs_max;
        if is_delayed && lanes.delayed.is_full_for(&job, jobs_max) {
            if !lanes.delayed.gives_way_to(&job, jobs_max) {
                self.forget_if_empty(&job);
                return Put::Full;
            }
            dropped = lanes.delayed.pop_last();
        }
        let held = self.held.entry((job.lot, job.attempt)).or_default();
        let queued = held.queued(job.kind);
        *queued = union(queued, &job.messages);
        if is_delayed {
            lanes.delayed.push(job)
        } else {
            lanes.push(job)
        }
        if let Some(dropped) = dropped {
            let held = self.held.entry((dropped.lot, dropped.attempt)).or_default();
            let queued = held.queued(dropped.kind);
            *queued = minus(queued, &dropped.messages);
            self.forget_if_empty(&dropped);
        }
        Put::Queued
    }

    fn promote(&mut self, now_ms: i64) {
        for lanes in &mut self.classes {
            while let Some(job) = lanes.delayed.pop_due(now_ms) {
                lanes.push(job);
            }
        }
    }

    /// The class to serve: one that has earned its share, or the most urgent one with waiting jobs.
    fn choose(&self, wanted: WantedLanes, messages_max: usize) -> Option<usize> {
        let waits = |class: usize| self.classes[class].messages();
        if wanted == WantedLanes::OtpOnly {
            return (waits(0) > 0).then_some(0);
        }
        let first = (0..3).find(|class| waits(*class) > 0)?;
        let earned = (first + 1..3).find(|class| {
            let enough = waits(*class).min(messages_max) * 100;
            enough > 0 && self.classes[*class].credit >= enough
        });
        Some(earned.unwrap_or(first))
    }

    /// Gives the less urgent classes what they have earned by waiting.
    fn account(&mut self, served: usize, messages: usize, messages_max: usize) {
        let shares = [0, self.limits.notices_per_hundred, self.limits.ads_per_hundred];
        for (class, lanes) in self.classes.iter_mut().enumerate() {
            if lanes.messages() == 0 {
                lanes.credit = 0;
            } else if class == served {
                lanes.credit = lanes.credit.saturating_sub(messages * 100);
            } else if class > served {
                let most = messages_max * 200;
                lanes.credit = (lanes.credit + messages * usize::from(shares[class])).min(most);
            }
        }
    }

    /// Marks the messages as leased. Messages that somebody else has leased wait for that lease to end.
    fn lease(&mut self, class: MessageClass, kind: JobKind, batch: Batch) -> Option<Lease> {
        let mut jobs = Vec::with_capacity(batch.jobs.len());
        for job in batch.jobs {
            let held = self.held.entry((job.lot, job.attempt)).or_default();
            let queued = held.queued(kind);
            *queued = minus(queued, &job.messages);
            let blocked = common(&job.messages, &held.leased);
            let messages = minus(&job.messages, &blocked);
            if !blocked.is_empty() {
                held.wait(Job { messages: blocked, ..job.clone() });
            }
            if !messages.is_empty() {
                held.leased = union(&held.leased, &messages);
                jobs.push(Job { messages, ..job });
            }
        }
        if jobs.is_empty() {
            return None;
        }
        self.leases_made += 1;
        let lease = Lease { id: self.leases_made, class, kind, jobs };
        self.leases.insert(lease.id, lease.clone());
        Some(lease)
    }

    fn forget_if_empty(&mut self, job: &Job) {
        let key = (job.lot, job.attempt);
        if self.held.get(&key).is_some_and(Held::is_empty) {
            self.held.remove(&key);
        }
    }

    #[cfg(test)]
    pub(super) fn delayed_jobs(&self) -> [usize; 3] {
        [0, 1, 2].map(|class: usize| self.classes[class].delayed.jobs.len())
    }

    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        self.held.is_empty()
            && self.leases.is_empty()
            && self
                .classes
                .iter()
                .all(|lanes| lanes.delayed.jobs.is_empty() && lanes.delayed.tenants.is_empty())
    }
}

fn index(class: MessageClass) -> usize {
    match class {
        MessageClass::Otp => 0,
        MessageClass::Notice => 1,
        MessageClass::Ad => 2,
    }
}
