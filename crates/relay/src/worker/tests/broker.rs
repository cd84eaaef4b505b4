//! A queue that keeps no more than the port promises.

use async_trait::async_trait;
use kite_commands::event_store::MemoryEventStore;
use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, VecDeque};
use tokio::sync::watch;

use super::*;
use crate::queue::{Hasten, Job, Lease, Put, QueueError, Taken, Want, WorkQueue};
use crate::worker::testing::Script;

/// Gives every job twice, whole and before its time, the newest first; forgets what goes back to it, and every fifth that it is
/// given.
#[derive(Default)]
struct Broker {
    jobs: Mutex<HashMap<RelayId, VecDeque<Job>>>,
    puts: Mutex<u32>,
}

#[async_trait]
impl WorkQueue for Broker {
    async fn put(&self, job: Job) -> Result<Put, QueueError> {
        let mut puts = self.puts.lock();
        *puts += 1;
        if !puts.is_multiple_of(5) {
            let mut jobs = self.jobs.lock();
            let jobs = jobs.entry(job.relay.clone()).or_default();
            jobs.push_front(job.clone());
            jobs.push_back(job);
        }
        Ok(Put::Queued)
    }

    async fn take(&self, relay: &RelayId, _: Want) -> Result<Taken, QueueError> {
        let job = self.jobs.lock().get_mut(relay).and_then(VecDeque::pop_front);
        Ok(job.map_or(Taken::Nothing(None), |job| {
            // The same twice in one lease, too.
            let (class, kind) = (job.class, job.kind);
            Taken::Lease(Lease::new(1, class, kind, vec![job.clone(), job]))
        }))
    }

    async fn settle(&self, _: &RelayId, _: u64, _: Vec<Job>) -> Result<(), QueueError> {
        Ok(())
    }

    fn abandon(&self, _: &RelayId, _: u64) {}

    fn arrivals(&self, _: &RelayId) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }

    fn nudge(&self, _: &RelayId) {}

    fn hasten(&self, _: &RelayId, _: Hasten) {}

    fn waiting(&self, _: &RelayId) -> [usize; 3] {
        [0; 3]
    }
}

#[tokio::test]
async fn a_queue_that_doubles_and_loses_and_gives_whole_jobs_costs_looks_and_no_message() {
    let script = Arc::new(Script::default());
    let alpha = script.relay("alpha");
    let profile = RelayProfile { calls_in_flight_max: 4, ..profile("alpha") };
    let (clock, store) = (Arc::new(ManualClock::at(start())), Arc::new(MemoryEventStore::new()));
    let queue = Arc::new(Broker::default());
    let settings = RelaySettings::default();
    let mut world =
        World::with_queue(queue, alone(&clock), clock, store, vec![profile], script.clone(), settings).await;
    let lot = world.send(Sent { to: numbers(450), ..Sent::default() }).await;
    for _ in 0..20 {
        world.settle().await;
        world.feeder.feed(lot).await.unwrap();
        world.clock.advance(TimeDelta::seconds(1));
    }
    let messages = world.messages(lot).await;
    assert!(messages.iter().all(|message| state(message) == AttemptState::Accepted));
    let calls = alpha.calls.lock();
    assert!(calls.iter().all(|call| call.len() <= 100), "no more than the relay takes at once");
    let sent: Vec<_> = calls.iter().flatten().map(|message| message.reference).collect();
    assert_eq!(sent.iter().copied().collect::<BTreeSet<_>>().len(), 450);
    assert_eq!(sent.len(), 450, "each of them once");
}
