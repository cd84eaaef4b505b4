//! The work of one relay in this process: what was pulled, who waits for more, and what is not acknowledged.

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_relay::InProcessQueue;
use kite_relay::queue::{Job, Put, QueueError, Taken, Want, WantedLanes, WorkQueue};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::held::Held;
use crate::metrics::{Parcels, parcels};

/// What is left of a lease and due later than this is left to the log: it has the time, and the publisher brings it then.
const KEPT_HERE: TimeDelta = TimeDelta::seconds(60);
/// What nobody here takes within this time others may have.
const UNTAKEN_MAX: TimeDelta = TimeDelta::milliseconds(1_000);
/// A full lane has room again after a while.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// Parcels that are asked for at once: passwords, and each of the other classes.
const WANTED_MAX: [u32; 3] = [8, 4, 4];

/// What is to be told the server about parcels.
pub(crate) struct Word {
    pub(crate) ackers: Vec<Arc<Acker>>,
    pub(crate) kind: AckKind,
}

/// A relay in this process.
pub(crate) struct Local {
    relay: RelayId,
    /// Of all relays.
    lanes: Arc<InProcessQueue>,
    /// How many parcels of each class could be taken.
    wanted: watch::Sender<[u32; 3]>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leases: HashMap<u64, Vec<Job>>,
    held: Held<Arc<Acker>>,
    /// When somebody asked for work, or some came.
    moved_at: DateTime<Utc>,
}

impl Local {
    pub(crate) fn new(relay: RelayId, lanes: Arc<InProcessQueue>) -> Self {
        Self { relay, lanes, wanted: watch::Sender::new([0; 3]), state: Mutex::default() }
    }

    /// How many parcels of each class are wanted.
    pub(crate) fn wanted(&self) -> watch::Receiver<[u32; 3]> {
        self.wanted.subscribe()
    }

    /// A worker asks. If there is nothing, it is pulled.
    pub(crate) async fn take(&self, want: Want) -> Result<Taken, QueueError> {
        self.state.lock().moved_at = want.now;
        let taken = self.lanes.take(&self.relay, want).await?;
        let is_empty = self.lanes.waiting(&self.relay) == [0; 3];
        self.wanted.send_if_modified(|wanted| {
            let before = *wanted;
            match &taken {
                // One more is on its way while this one is worked on. Not of passwords: another process may be idle.
                Taken::Lease(_) if want.lanes == WantedLanes::All && is_empty => {
                    wanted[1..].iter_mut().for_each(|class| *class = (*class).max(1));
                }
                Taken::Lease(_) => {}
                Taken::Nothing(_) => {
                    let classes = if want.lanes == WantedLanes::All { 3 } else { 1 };
                    for (class, max) in wanted.iter_mut().zip(WANTED_MAX).take(classes) {
                        *class = (*class + 1).min(max);
                    }
                }
            }
            before != *wanted
        });
        if let Taken::Lease(lease) = &taken {
            self.state.lock().leases.insert(lease.id, lease.jobs.clone());
        }
        Ok(taken)
    }

    /// A parcel came. Returns what is to be said about it at once.
    pub(crate) async fn arrived(
        &self,
        class: MessageClass,
        jobs: Vec<Job>,
        acker: Arc<Acker>,
        now: DateTime<Utc>,
    ) -> Option<Word> {
        {
            let mut state = self.state.lock();
            state.moved_at = now;
            // Before anybody can be done with it.
            state.held.add(acker, class, &jobs);
        }
        self.wanted.send_if_modified(|wanted| {
            let class = &mut wanted[place(class)];
            *class = class.saturating_sub(1);
            false
        });
        let mut is_full = false;
        for job in &jobs {
            // The lanes are in memory: they always answer.
            is_full |= matches!(self.lanes.put(job.clone()).await, Ok(Put::Full));
        }
        is_full.then(|| self.let_go(&jobs, AckKind::Nak(Some(FULL_PAUSE))))
    }

    /// A lease is over but for `rest`. Returns what is to be said.
    pub(crate) async fn settle(&self, lease: u64, rest: Vec<Job>, now: DateTime<Utc>) -> Option<Word> {
        let until_ms = (now + KEPT_HERE).timestamp_millis();
        let rest: Vec<Job> = rest.into_iter().filter(|job| job.not_before_ms <= until_ms).collect();
        let jobs = self.state.lock().leases.remove(&lease).unwrap_or_default();
        // Before they can be taken again.
        let ackers = self.done(&jobs, &rest);
        // The lanes are in memory: they always answer.
        let _ = self.lanes.settle(&self.relay, lease, rest).await;
        (!ackers.is_empty()).then_some(Word { ackers, kind: AckKind::Ack })
    }

    fn done(&self, jobs: &[Job], rest: &[Job]) -> Vec<Arc<Acker>> {
        let mut state = self.state.lock();
        let mut ackers = Vec::new();
        for job in jobs {
            let is_left = |seq: u32| {
                let of_it = |left: &&Job| left.lot == job.lot && left.attempt == job.attempt;
                rest.iter().filter(of_it).any(|left| left.messages.contains(seq))
            };
            let done = job.messages.iter().filter(|seq| !is_left(*seq)).collect();
            for (class, acker) in state.held.done(job.lot, job.attempt, &done) {
                parcels(&self.relay, class, Parcels::Acknowledged);
                ackers.push(acker);
            }
        }
        ackers
    }

    /// The holder of a lease died: it is looked at again, here.
    pub(crate) fn abandon(&self, lease: u64) {
        self.state.lock().leases.remove(&lease);
        self.lanes.abandon(&self.relay, lease);
    }

    /// Everything that is held, to say that it is worked on.
    pub(crate) fn in_progress(&self) -> Option<Word> {
        let ackers = self.state.lock().held.all();
        (!ackers.is_empty()).then_some(Word { ackers, kind: AckKind::Progress })
    }

    /// What is due and nobody here takes others may have: the process has no share of the relay any more.
    pub(crate) async fn give_back(&self, now: DateTime<Utc>) -> Option<Word> {
        if self.state.lock().moved_at + UNTAKEN_MAX > now {
            return None;
        }
        let mut jobs = Vec::new();
        let want = Want { messages_max: u32::MAX, lanes: WantedLanes::All, now };
        while let Ok(Taken::Lease(lease)) = self.lanes.take(&self.relay, want).await {
            let _ = self.lanes.settle(&self.relay, lease.id, Vec::new()).await;
            jobs.extend(lease.jobs);
        }
        if jobs.is_empty() {
            return None;
        }
        // Whoever wants some asks again.
        self.wanted.send_replace([0; 3]);
        Some(self.let_go(&jobs, AckKind::Nak(None)))
    }

    /// Nobody takes anything any more: others may have all that nobody works on.
    pub(crate) fn give_up(&self) -> Option<Word> {
        let mut state = self.state.lock();
        let State { leases, held, .. } = &mut *state;
        let gone = held.let_go_unless(|lot, attempt| {
            leases.values().flatten().any(|job| job.lot == lot && job.attempt == attempt)
        });
        drop(state);
        (!gone.is_empty()).then(|| self.given_back(gone, AckKind::Nak(None)))
    }

    fn let_go(&self, jobs: &[Job], kind: AckKind) -> Word {
        let gone = self.state.lock().held.let_go(jobs);
        self.given_back(gone, kind)
    }

    fn given_back(&self, gone: Vec<(MessageClass, Arc<Acker>)>, kind: AckKind) -> Word {
        let acker = |(class, acker)| {
            parcels(&self.relay, class, Parcels::GivenBack);
            acker
        };
        Word { ackers: gone.into_iter().map(acker).collect(), kind }
    }
}

/// Where a class stands among all, the most urgent first.
pub(crate) fn place(class: MessageClass) -> usize {
    MessageClass::ALL.iter().position(|other| *other == class).unwrap_or(0)
}
