//! The load: requests at the times at which they are due, each repeated until it has its answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use chrono::Utc;
use kite_testkit::customer::{Customer, Mix, Request, Requests, Sent};
use kite_testkit::dice::Dice;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Mostly single messages, and some requests that need several calls to a relay.
const MIX: Mix = Mix {
    sizes: &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 20, 50, 100, 200, 500],
    ads_per_cent: 15,
    forced_per_cent: 35,
};
/// Requests that may be in progress; past it, they are late.
const REQUESTS_MAX: u32 = 64;
/// Requests out of a hundred that are sent again after a restart.
const REPEATED_PER_CENT: u64 = 5;

/// What got a 202 so far.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) messages: u64,
    /// By id.
    pub(super) sendings: HashMap<Box<str>, Sent>,
    /// Those of other tenants.
    pub(super) of_others: Vec<Sent>,
    /// Some of the requests, with the ids that they were answered with.
    pub(super) kept: Vec<(Request, String)>,
    /// Requests that the time of day, or the time they were scheduled for, did not allow.
    pub(super) refused: u64,
    /// The longest that a request was late.
    pub(super) late_max: Duration,
}

impl Taken {
    fn add(&mut self, request: Request, sent: Sent, is_kept: bool) -> anyhow::Result<()> {
        self.messages += sent.messages;
        // One at least, however short the run is.
        if is_kept || self.kept.is_empty() {
            self.kept.push((request, sent.id.clone()));
        }
        match self.sendings.insert(sent.id.as_str().into(), sent) {
            None => Ok(()),
            Some(sent) => bail!("two requests were answered with {}", sent.id),
        }
    }
}

/// The load, while it runs.
pub(super) struct Traffic {
    taken: Arc<Mutex<Taken>>,
    places: Arc<Semaphore>,
    held_ms: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    work: JoinSet<anyhow::Result<()>>,
}

impl Traffic {
    /// Starts it.
    pub(super) fn start(customer: Customer, seed: u64, messages_per_second: u32) -> Self {
        let taken = Arc::<Mutex<Taken>>::default();
        let (stop, stopped) = watch::channel(false);
        let places = Arc::new(Semaphore::new(REQUESTS_MAX as usize));
        let held_ms = Arc::<AtomicU64>::default();
        let load = Load {
            customer,
            requests: Requests::new(seed, MIX),
            kept: Dice::new(seed ^ 1),
            messages_per_second,
            taken: taken.clone(),
            places: places.clone(),
            held_ms: held_ms.clone(),
            stopped,
        };
        let mut work = JoinSet::new();
        work.spawn(load.send_all());
        Self { taken, places, held_ms, stop, work }
    }

    /// Waits until no request is in progress; none begins until the guard is dropped.
    pub(super) async fn hold_breath(&self) -> anyhow::Result<Breath> {
        let began = Instant::now();
        let places = self.places.clone().acquire_many_owned(REQUESTS_MAX).await?;
        Ok(Breath { began, held_ms: self.held_ms.clone(), _places: places })
    }

    /// How long there was no load, because of the guard.
    pub(super) fn held(&self) -> Duration {
        Duration::from_millis(self.held_ms.load(Ordering::SeqCst))
    }

    /// For those who only watch.
    pub(super) fn counter(&self) -> impl Fn() -> u64 + Send + use<> {
        let taken = self.taken.clone();
        move || lock(&taken).messages
    }

    pub(super) fn taken(&self) -> MutexGuard<'_, Taken> {
        lock(&self.taken)
    }

    /// What got a 202 in all, once the load has ended.
    pub(super) fn into_taken(self) -> Taken {
        std::mem::take(&mut *lock(&self.taken))
    }

    /// That no request has failed.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.work.try_join_next() {
            Some(ended) => ended?.and_then(|()| anyhow::bail!("the load has ended early")),
            None => Ok(()),
        }
    }

    /// No more requests; waits for the answers of those in progress.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.work.join_next().await {
            ended??;
        }
        Ok(())
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lasts there is no request in progress. What would have been due meanwhile is due that much later.
pub(super) struct Breath {
    began: Instant,
    held_ms: Arc<AtomicU64>,
    _places: OwnedSemaphorePermit,
}

impl Drop for Breath {
    fn drop(&mut self) {
        self.held_ms.fetch_add(self.began.elapsed().as_millis() as u64, Ordering::SeqCst);
    }
}

/// What the load needs.
struct Load {
    customer: Customer,
    requests: Requests,
    kept: Dice,
    messages_per_second: u32,
    taken: Arc<Mutex<Taken>>,
    places: Arc<Semaphore>,
    held_ms: Arc<AtomicU64>,
    stopped: watch::Receiver<bool>,
}

impl Load {
    /// When the request after so many messages is due, from the start.
    fn due(&self, messages: u64) -> Duration {
        let held = Duration::from_millis(self.held_ms.load(Ordering::SeqCst));
        held + Duration::from_secs_f64(messages as f64 / f64::from(self.messages_per_second))
    }

    #[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
    async fn send_all(mut self) -> anyhow::Result<()> {
        let mut under_way = JoinSet::new();
        let start = Instant::now();
        let mut messages = 0;
        while !*self.stopped.borrow() {
            let due = start + self.due(messages);
            let stop = self.stopped.wait_for(|stopped| *stopped);
            if tokio::time::timeout_at(due, stop).await.is_ok() {
                break;
            }
            let place = self.places.clone().acquire_owned().await?;
            let due = start + self.due(messages);
            let request = self.requests.next(Utc::now());
            messages += request.messages;
            {
                let mut taken = lock(&self.taken);
                taken.late_max = taken.late_max.max(due.elapsed());
            }
            let is_kept = self.kept.per_cent(REPEATED_PER_CENT);
            let (customer, taken) = (self.customer.clone(), self.taken.clone());
            under_way.spawn(async move {
                let _place = place;
                match customer.send(&request).await? {
                    Some(sent) => lock(&taken).add(request, sent, is_kept)?,
                    None => lock(&taken).refused += 1,
                }
                anyhow::Ok(())
            });
            while let Some(ended) = under_way.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = under_way.join_next().await {
            ended??;
        }
        Ok(())
    }
}
