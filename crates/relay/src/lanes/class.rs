//! One lane: jobs of one class and kind, tenants served in turn.

use hashlink::LinkedHashMap;
use kite_domain::ids::LotId;
use kite_domain::slug::TenantId;
use std::collections::{HashMap, VecDeque};

use crate::queue::{Job, JobKind, Waits};

/// A job, and how many of its messages have been taken from it.
#[derive(Debug)]
struct Entry {
    job: Job,
    taken: usize,
}

/// Jobs by tenant. In one take every tenant gets an equal part, so that a tenant's campaign delays others by no more
/// than its part of a call.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Of tenants with jobs, the next one first.
    jobs: LinkedHashMap<TenantId, VecDeque<Entry>>,
    /// Messages in all jobs.
    messages: usize,
    /// Jobs, begun ones included.
    entries: usize,
}

impl Lane {
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn jobs(&self) -> usize {
        self.entries
    }

    /// Jobs of one tenant.
    pub(super) fn jobs_of(&self, tenant: &TenantId) -> usize {
        self.jobs.get(tenant).map_or(0, VecDeque::len)
    }

    /// Tenants with jobs.
    pub(super) fn tenants(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn push(&mut self, job: Job) {
        self.messages += job.messages.len();
        self.entries += 1;
        let jobs = self.jobs.entry(job.tenant.clone()).or_insert_with(VecDeque::new);
        jobs.push_back(Entry { job, taken: 0 });
    }

    /// Takes at most `messages_max` messages, all in jobs of one kind, each lot and attempt once.
    pub(super) fn take(&mut self, messages_max: usize) -> Batch {
        let mut batch = Batch::default();
        let mut passed_over = 0;
        while batch.messages < messages_max && passed_over < self.jobs.len() {
            let Some((tenant, mut jobs)) = self.jobs.pop_front() else { break };
            let part = (messages_max / (self.jobs.len() + 1)).max(1).min(messages_max - batch.messages);
            let had = batch.messages;
            self.entries -= take_from(&mut jobs, part, &mut batch);
            passed_over = if batch.messages == had { passed_over + 1 } else { 0 };
            if !jobs.is_empty() {
                self.jobs.insert(tenant, jobs);
            }
        }
        self.messages -= batch.messages;
        batch
    }
}

/// Takes at most `part` messages of a tenant. Returns how many jobs are finished by that.
fn take_from(jobs: &mut VecDeque<Entry>, part: usize, batch: &mut Batch) -> usize {
    let (mut left, mut done) = (part, 0);
    while left > 0 {
        let Some(entry) = jobs.front_mut() else { break };
        if batch.kind.is_some_and(|kind| kind != entry.job.kind) {
            break;
        }
        let rest = &entry.job.messages.as_slice()[entry.taken..];
        let count = rest.len().min(left);
        let is_done = count == rest.len();
        if count == entry.job.messages.len() {
            batch.add(jobs.pop_front().expect("it was just looked at").job);
        } else {
            batch.add(Job { messages: rest[..count].iter().copied().collect(), ..entry.job.clone() });
            entry.taken += count;
            if is_done {
                jobs.pop_front();
            }
        }
        done += usize::from(is_done);
        left -= count;
    }
    done
}

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    pub(super) kind: Option<JobKind>,
    pub(super) messages: usize,
    places: HashMap<(LotId, u16), usize>,
}

impl Batch {
    fn add(&mut self, job: Job) {
        self.messages += job.messages.len();
        self.kind = Some(job.kind);
        match self.places.get(&(job.lot, job.attempt)) {
            Some(place) => {
                let known = &mut self.jobs[*place];
                known.messages = super::sets::union(&known.messages, &job.messages);
                if job.waits == Waits::NoLonger {
                    known.waits = Waits::NoLonger;
                }
            }
            None => {
                self.places.insert((job.lot, job.attempt), self.jobs.len());
                self.jobs.push(job);
            }
        }
    }
}
