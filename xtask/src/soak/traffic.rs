//! The load: requests at the times at which they are due, each repeated until it has its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use kite_testkit::customer::{Customer, Mix, Requests};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Mostly single messages, and some requests that take several calls to a relay.
const MIX: Mix = Mix {
    sizes: &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 20, 50, 100, 200, 500],
    ads_per_cent: 15,
    forced_per_cent: 35,
};
/// Requests that may be under way; past it, they are late.
const REQUESTS_MAX: usize = 64;

/// What got a 202 so far.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) messages: u64,
    /// By id: how many messages, and whether a second delivery was agreed to.
    pub(super) sendings: HashMap<Box<str>, (u64, bool)>,
}

/// The load, while it runs.
pub(super) struct Traffic {
    taken: Arc<Mutex<Taken>>,
    stop: watch::Sender<bool>,
    work: JoinSet<anyhow::Result<()>>,
}

impl Traffic {
    /// Starts it.
    pub(super) fn start(customer: Customer, seed: u64, messages_per_second: u32) -> Self {
        let taken = Arc::<Mutex<Taken>>::default();
        let (stop, stopped) = watch::channel(false);
        let mut work = JoinSet::new();
        work.spawn(send_all(customer, Requests::new(seed, MIX), messages_per_second, taken.clone(), stopped));
        Self { taken, stop, work }
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

    /// No more requests; waits for the answers of those under way.
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

#[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
async fn send_all(
    customer: Customer,
    mut requests: Requests,
    messages_per_second: u32,
    taken: Arc<Mutex<Taken>>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut under_way = JoinSet::new();
    let start = Instant::now();
    let mut messages = 0;
    while !*stopped.borrow() {
        let due = start + Duration::from_secs_f64(messages as f64 / f64::from(messages_per_second));
        let is_stopped = tokio::time::timeout_at(due, stopped.wait_for(|stopped| *stopped)).await.is_ok();
        if is_stopped {
            break;
        }
        let request = requests.next(Utc::now());
        messages += request.messages;
        let place = places.clone().acquire_owned().await?;
        let (customer, taken) = (customer.clone(), taken.clone());
        under_way.spawn(async move {
            let _place = place;
            if let Some(id) = customer.send(&request).await? {
                let mut taken = lock(&taken);
                taken.messages += request.messages;
                taken.sendings.insert(id.into(), (request.messages, request.at_least_once));
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
