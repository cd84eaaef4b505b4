//! What the port promises, by both adapters: inside a process, and on a server between processes.

use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_relay::queue::{Hasten, Job, JobKind, Lease, Put, Taken, Waits, WantedLanes};
use kite_relay::{InProcessQueue, QueueLimits, WorkQueue};
use kite_testkit::wait::wait_for;
use std::sync::Arc;
use std::time::Duration;

use crate::ground::{Node, WITHIN, at, in_ms, job, server, want};

/// Where jobs are put, and where they are taken.
struct Ends {
    puts: Arc<dyn WorkQueue>,
    takes: Arc<dyn WorkQueue>,
}

impl Ends {
    async fn put(&self, job: Job) {
        assert_ne!(self.puts.put(job).await.unwrap(), Put::Full);
    }

    async fn take(&self, lanes: WantedLanes) -> Lease {
        wait_for("work", WITHIN, async || self.look(lanes).await).await.unwrap()
    }

    async fn look(&self, lanes: WantedLanes) -> Option<Lease> {
        match self.takes.take(&RelayId::from_trusted("alpha"), want(lanes)).await.unwrap() {
            Taken::Lease(lease) => Some(lease),
            Taken::Nothing(_) => None,
        }
    }

    async fn settle(&self, lease: &Lease, rest: Vec<Job>) {
        self.takes.settle(&RelayId::from_trusted("alpha"), lease.id, rest).await.unwrap();
    }
}

fn alone() -> Ends {
    let queue = Arc::new(InProcessQueue::new(QueueLimits::default()));
    Ends { puts: queue.clone(), takes: queue }
}

async fn a_job_comes_as_it_was_put_and_is_over_when_it_is_settled(ends: &Ends) {
    let hastened =
        Job { waits: Waits::NoLonger, attempt: 3, kind: JobKind::Inquire, ..job(1, MessageClass::Ad, 3..9) };
    ends.put(hastened.clone()).await;
    let lease = ends.take(WantedLanes::All).await;
    assert_eq!(
        (lease.class, lease.kind, lease.jobs.as_slice()),
        (MessageClass::Ad, JobKind::Inquire, &[hastened][..])
    );
    ends.settle(&lease, Vec::new()).await;
    let next = job(2, MessageClass::Ad, 0..1);
    ends.put(next.clone()).await;
    assert_eq!(ends.take(WantedLanes::All).await.jobs, [next]);
}

async fn who_takes_only_passwords_gets_no_others(ends: &Ends) {
    ends.put(job(1, MessageClass::Notice, 0..1)).await;
    ends.put(job(2, MessageClass::Otp, 0..1)).await;
    let lease = ends.take(WantedLanes::OtpOnly).await;
    assert_eq!(lease.jobs, [job(2, MessageClass::Otp, 0..1)]);
    ends.settle(&lease, Vec::new()).await;
    assert_eq!(ends.take(WantedLanes::All).await.jobs, [job(1, MessageClass::Notice, 0..1)]);
}

async fn what_is_left_of_a_lease_comes_again(ends: &Ends) {
    ends.put(job(1, MessageClass::Notice, 0..10)).await;
    let lease = ends.take(WantedLanes::All).await;
    ends.settle(&lease, vec![job(1, MessageClass::Notice, 4..10)]).await;
    let left = ends.take(WantedLanes::All).await;
    assert!((4..10).all(|seq| left.jobs[0].messages.contains(seq)), "{left:?}");
}

async fn what_was_given_up_is_looked_at_again(ends: &Ends) {
    ends.put(job(1, MessageClass::Notice, 0..10)).await;
    let lease = ends.take(WantedLanes::All).await;
    ends.takes.abandon(&RelayId::from_trusted("alpha"), lease.id);
    let again = ends.take(WantedLanes::All).await;
    assert_eq!((again.jobs[0].lot, again.len()), (lease.jobs[0].lot, 10));
}

async fn what_has_a_time_waits_for_it(ends: &Ends) {
    let late = Job { not_before_ms: in_ms(1_500), ..job(1, MessageClass::Notice, 0..1) };
    ends.put(late.clone()).await;
    ends.put(job(2, MessageClass::Notice, 0..1)).await;
    let lease = ends.take(WantedLanes::All).await;
    assert_eq!(lease.jobs, [job(2, MessageClass::Notice, 0..1)]);
    ends.settle(&lease, Vec::new()).await;
    let lease = ends.take(WantedLanes::All).await;
    assert!(in_ms(0) >= late.not_before_ms);
    assert_eq!(lease.jobs[0].lot, late.lot);
}

async fn a_relay_that_is_back_gets_what_waits_for_it(ends: &Ends) {
    let waits = Job {
        not_before_ms: in_ms(3_600_000),
        waits: Waits::ForTheRelay,
        ..job(1, MessageClass::Notice, 0..1)
    };
    let has_its_time = Job { not_before_ms: in_ms(3_600_000), ..job(2, MessageClass::Notice, 0..1) };
    ends.put(waits.clone()).await;
    ends.put(has_its_time).await;
    // A request: it may have to be made again.
    let relay = RelayId::from_trusted("alpha");
    let lease = wait_for("the relay's work", WITHIN, async || {
        ends.takes.hasten(&relay, Hasten::Everything);
        ends.look(WantedLanes::All).await
    });
    let lease = lease.await.unwrap();
    assert_eq!(
        lease.jobs,
        [Job { not_before_ms: 0, waits: Waits::NoLonger, ..waits.clone() }]
            .map(|job| Job { not_before_ms: lease.jobs[0].not_before_ms, ..job })
    );
}

async fn a_worker_that_waits_is_woken(ends: &Ends) {
    let relay = RelayId::from_trusted("alpha");
    let mut arrivals = ends.takes.arrivals(&relay);
    assert_eq!(ends.look(WantedLanes::All).await, None);
    arrivals.mark_unchanged();
    ends.put(job(1, MessageClass::Otp, 0..1)).await;
    tokio::time::timeout(WITHIN, arrivals.changed()).await.unwrap().unwrap();
    assert_eq!(ends.take(WantedLanes::All).await.len(), 1);
    ends.takes.nudge(&relay);
    tokio::time::timeout(WITHIN, arrivals.changed()).await.unwrap().unwrap();
}

macro_rules! by_both {
    ($($promise:ident),* $(,)?) => {
        mod in_a_process {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&super::alone()).await;
            })*
        }

        mod on_a_server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let server = super::server().await;
                let server_of_both = super::at(vec![server.url()]);
                let publisher = super::Node::start(&server_of_both, true).await;
                let worker = super::Node::start(&server_of_both, false).await;
                let ends = super::Ends { puts: publisher.queue.clone(), takes: worker.queue.clone() };
                super::$promise(&ends).await;
            })*
        }
    };
}

by_both![
    a_job_comes_as_it_was_put_and_is_over_when_it_is_settled,
    who_takes_only_passwords_gets_no_others,
    what_is_left_of_a_lease_comes_again,
    what_was_given_up_is_looked_at_again,
    what_has_a_time_waits_for_it,
    a_relay_that_is_back_gets_what_waits_for_it,
    a_worker_that_waits_is_woken,
];

/// What only an adapter between processes can be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_comes_to_one_of_several_processes() {
    let server = server().await;
    let both = at(vec![server.url()]);
    let publisher = Node::start(&both, true).await;
    let workers = [Node::start(&both, false).await, Node::start(&both, false).await];
    let jobs = crate::ground::jobs(0..300, MessageClass::Notice);
    for job in &jobs {
        publisher.put(job.clone()).await;
    }
    let mut seen = std::collections::BTreeMap::new();
    let mut shares = [0; 2];
    while seen.len() < jobs.len() {
        for (worker, share) in workers.iter().zip(&mut shares) {
            let taken = tokio::time::timeout(Duration::from_millis(200), worker.take(WantedLanes::All)).await;
            let Ok(lease) = taken else { continue };
            for job in &lease.jobs {
                *seen.entry(job.lot).or_insert(0) += 1;
                *share += 1;
            }
            worker.settle(&lease, Vec::new()).await;
        }
    }
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}
