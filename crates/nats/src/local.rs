//! The work of one relay in this process: what was pulled, who waits for more, and what is not acknowledged.

use async_nats::jetstream::AckKind;
use async_nats::jetstream::message::Acker;
use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_relay::InProcessQueue;
use kite_relay::queue::{Job, Put, QueueError, Taken, Waits, Want, WantedLanes, WorkQueue};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::held::Held;
use crate::metrics::{Parcels, parcels};

/// What is left of a lease and due later than this is left to the log: it has the time, and the publisher brings it then.
const KEPT_HERE: TimeDelta = TimeDelta::seconds(60);
/// What nobody here takes within this time others may have: passwords, and each of the other classes.
const UNTAKEN_MAX: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(1)];
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
    /// Since when something of each class is here that nobody has asked for.
    untaken: [Option<Instant>; 3],
}

impl Local {
    pub(crate) fn new(relay: RelayId, lanes: Arc<InProcessQueue>) -> Self {
        Self { relay, lanes, wanted: watch::Sender::new([0; 3]), state: Mutex::default() }
    }

    /// How many parcels of each class are wanted.
    pub(crate) fn wanted(&self) -> watch::Receiver<[u32; 3]> {
        self.wanted.subscribe()
    }

    /// So many parcels of a class are asked for now. Whoever still waits then asks again.
    pub(crate) fn ask(&self, class: MessageClass) -> usize {
        let mut count = 0;
        self.wanted.send_modify(|wanted| count = std::mem::take(&mut wanted[place(class)]));
        usize::try_from(count).unwrap_or(1)
    }

    /// A worker asks. If there is nothing, it is pulled.
    pub(crate) async fn take(&self, want: Want) -> Result<Taken, QueueError> {
        let taken = self.lanes.take(&self.relay, want).await?;
        let waiting = self.lanes.waiting(&self.relay);
        let classes = if want.lanes == WantedLanes::All { 3 } else { 1 };
        self.wanted.send_if_modified(|wanted| {
            let before = *wanted;
            match &taken {
                // One more is on its way while this one is worked on. Not of passwords: another process may be idle.
                Taken::Lease(_) if classes == 3 && waiting == [0; 3] => {
                    wanted[1..].iter_mut().for_each(|class| *class = (*class).max(1));
                }
                Taken::Lease(_) => {}
                Taken::Nothing(_) => {
                    for (class, max) in wanted.iter_mut().zip(WANTED_MAX).take(classes) {
                        *class = (*class + 1).min(max);
                    }
                }
            }
            before != *wanted
        });
        let mut state = self.state.lock();
        for (untaken, waiting) in state.untaken.iter_mut().zip(waiting).take(classes) {
            *untaken = (waiting > 0).then(Instant::now);
        }
        if let Taken::Lease(lease) = &taken {
            state.leases.insert(lease.id, lease.jobs.clone());
        }
        Ok(taken)
    }

    /// Somebody here has found work for a relay that this process works for.
    pub(crate) async fn put(&self, job: Job) -> Result<Put, QueueError> {
        self.comes_back(std::slice::from_ref(&job));
        self.lanes.put(job).await
    }

    /// A parcel came. Returns what is to be said about it at once.
    pub(crate) async fn arrived(
        &self,
        class: MessageClass,
        jobs: Vec<Job>,
        acker: Arc<Acker>,
    ) -> Option<Word> {
        // Before anybody can be done with it.
        self.state.lock().held.add(acker, class, &jobs);
        let mut is_full = false;
        for job in &jobs {
            // The lanes are in memory: they always answer.
            is_full |= matches!(self.put(job.clone()).await, Ok(Put::Full));
        }
        is_full.then(|| self.let_go(Some(&jobs), AckKind::Nak(Some(FULL_PAUSE))))
    }

    /// A lease is over but for `rest`. Returns what is to be said.
    pub(crate) async fn settle(&self, lease: u64, rest: Vec<Job>, now: DateTime<Utc>) -> Option<Word> {
        let until_ms = (now + KEPT_HERE).timestamp_millis();
        // Of what waits for the relay nothing in the log says when it is due.
        let is_kept = |job: &Job| job.waits == Waits::ForTheRelay || job.not_before_ms <= until_ms;
        let rest: Vec<Job> = rest.into_iter().filter(is_kept).collect();
        let jobs = self.state.lock().leases.remove(&lease).unwrap_or_default();
        self.comes_back(&rest);
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

    /// These are to be taken again, by somebody here or elsewhere.
    fn comes_back(&self, jobs: &[Job]) {
        let mut state = self.state.lock();
        for job in jobs {
            state.untaken[place(job.class)].get_or_insert_with(Instant::now);
        }
    }

    /// The holder of a lease died: it is looked at again, here.
    pub(crate) fn abandon(&self, lease: u64) {
        let jobs = self.state.lock().leases.remove(&lease).unwrap_or_default();
        self.comes_back(&jobs);
        self.lanes.abandon(&self.relay, lease);
    }

    /// Everything that is held, to say that it is worked on.
    pub(crate) fn in_progress(&self) -> Option<Word> {
        let ackers = self.state.lock().held.all();
        (!ackers.is_empty()).then_some(Word { ackers, kind: AckKind::Progress })
    }

    /// What is due and nobody here takes others may have: the process has no share of the relay any more.
    pub(crate) async fn give_back(&self, now: DateTime<Utc>) -> Option<Word> {
        let is_over = {
            let state = self.state.lock();
            let over = state.untaken.iter().zip(UNTAKEN_MAX);
            let over = over.map(|(since, max)| since.is_some_and(|since| since.elapsed() > max));
            over.collect::<Vec<_>>()
        };
        let lanes = match is_over[..] {
            [false, false, false] => return None,
            [true, false, false] => WantedLanes::OtpOnly,
            _ => WantedLanes::All,
        };
        let mut jobs = Vec::new();
        let want = Want { messages_max: u32::MAX, lanes, now };
        while let Ok(Taken::Lease(lease)) = self.lanes.take(&self.relay, want).await {
            let _ = self.lanes.settle(&self.relay, lease.id, Vec::new()).await;
            jobs.extend(lease.jobs);
        }
        // What is not due yet is looked at again.
        let waiting = self.lanes.waiting(&self.relay);
        for ((untaken, waiting), _) in
            self.state.lock().untaken.iter_mut().zip(waiting).zip(&is_over).filter(|(_, is_over)| **is_over)
        {
            *untaken = (waiting > 0).then(Instant::now);
        }
        if jobs.is_empty() {
            return None;
        }
        // Whoever wants some asks again.
        self.wanted.send_replace([0; 3]);
        let word = self.let_go(Some(&jobs), AckKind::Nak(None));
        // A parcel of which something is worked on stays, and so does the rest of it.
        for job in jobs {
            let stays = self.state.lock().held.holds(job.lot, job.attempt);
            if stays {
                let _ = self.put(job).await;
            }
        }
        Some(word)
    }

    /// Nobody takes anything any more: others may have all that nobody works on.
    pub(crate) fn give_up(&self) -> Option<Word> {
        let word = self.let_go(None, AckKind::Nak(None));
        (!word.ackers.is_empty()).then_some(word)
    }

    /// Others may have the parcels of these jobs, or all, of which nothing is leased.
    fn let_go(&self, jobs: Option<&[Job]>, kind: AckKind) -> Word {
        let mut state = self.state.lock();
        let State { leases, held, .. } = &mut *state;
        let gone = held.let_go(jobs, |lot, attempt, messages| {
            let is_it = |job: &&Job| job.lot == lot && job.attempt == attempt;
            let mut leased = leases.values().flatten().filter(is_it);
            leased.any(|job| job.messages.iter().any(|seq| messages.contains(seq)))
        });
        drop(state);
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
