//! Processes that share a queue.

use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::Clock;
use kite_commands::clock::SystemClock;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::sending::MessageClass;
use kite_domain::slug::{RelayId, TenantId};
use kite_nats::{Flow, JetStreamQueue, Login, QueueParts, Server, StreamLimits};
use kite_relay::queue::{Job, JobKind, Lease, Taken, Waits, Want, WantedLanes};
use kite_relay::{QueueLimits, WorkQueue};
use kite_testkit::nats::{Installation, Options};
use kite_testkit::wait::wait_for;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// What a relay of the tests takes.
pub(crate) const FLOW: Flow = Flow { batch_max: 100, calls_max: 4, rate: Some(200) };

pub(crate) async fn server() -> kite_testkit::nats::Server {
    server_with(Options::default()).await
}

pub(crate) async fn server_with(options: Options) -> kite_testkit::nats::Server {
    let installation = Installation::from_environment().unwrap();
    kite_testkit::nats::Server::start(&installation, options).await.unwrap()
}

pub(crate) fn at(urls: Vec<String>) -> Server {
    Server { urls, login: Login::Nobody, tls: None, client_name: "test".to_owned() }
}

pub(crate) fn limits(replicas: usize) -> StreamLimits {
    StreamLimits {
        replicas,
        jobs_bytes_max: 16 << 20,
        dead_bytes_max: 1 << 20,
        dead_kept: Duration::from_secs(3_600),
    }
}

/// A process.
pub(crate) struct Node {
    pub(crate) queue: Arc<JetStreamQueue>,
    driver: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(server: &Server, publishes: bool) -> Self {
        Self::start_with(server, publishes, limits(1)).await
    }

    #[expect(clippy::disallowed_methods, reason = "the test is the host")]
    pub(crate) async fn start_with(server: &Server, publishes: bool, streams: StreamLimits) -> Self {
        let parts = QueueParts {
            server: server.clone(),
            prefix: "test".to_owned(),
            streams,
            lanes: QueueLimits::default(),
            publishes,
            clock: Arc::new(SystemClock),
            life: Uuid::from_u128(rand_life()).simple().to_string(),
        };
        let (queue, driver) = JetStreamQueue::open(parts, |_| FLOW).await.unwrap();
        Self { queue, driver: tokio::spawn(driver.run()) }
    }

    /// As `kill -9` does it: nothing is said to anybody.
    pub(crate) fn kill(self) {
        self.driver.abort();
    }

    /// As SIGTERM does it.
    pub(crate) async fn stop(self) {
        self.queue.stop();
        tokio::time::timeout(WITHIN, self.driver).await.unwrap().unwrap();
    }

    /// As SIGTERM does it, while this is worked on.
    pub(crate) async fn stop_while(self, lease: Lease) -> bool {
        self.queue.stop();
        tokio::task::yield_now().await;
        let is_working = !self.driver.is_finished();
        self.settle(&lease, Vec::new()).await;
        tokio::time::timeout(WITHIN, self.driver).await.unwrap().unwrap();
        is_working
    }

    /// A worker looks for work.
    pub(crate) async fn queue_look(&self) {
        let relay = RelayId::from_trusted("alpha");
        self.queue.take(&relay, want(WantedLanes::All)).await.unwrap();
    }

    pub(crate) async fn put(&self, job: Job) {
        self.queue.put(job).await.unwrap();
    }

    /// The next work, as a worker waits for it.
    pub(crate) async fn take(&self, lanes: WantedLanes) -> Lease {
        self.take_of("alpha", lanes).await
    }

    pub(crate) async fn take_of(&self, relay: &str, lanes: WantedLanes) -> Lease {
        let relay = RelayId::from_trusted(relay);
        wait_for("work", WITHIN, async || match self.queue.take(&relay, want(lanes)).await.unwrap() {
            Taken::Lease(lease) => Some(lease),
            Taken::Nothing(_) => None,
        })
        .await
        .unwrap()
    }

    pub(crate) async fn settle(&self, lease: &Lease, rest: Vec<Job>) {
        self.queue.settle(&lease.jobs[0].relay, lease.id, rest).await.unwrap();
    }

    /// Takes and settles until all of these came, each once at least. Returns how many came more than once.
    pub(crate) async fn work_off(&self, mut left: Vec<Job>) -> usize {
        let mut again = 0;
        while !left.is_empty() {
            let lease = self.take(WantedLanes::All).await;
            self.settle(&lease, Vec::new()).await;
            for job in lease.jobs {
                match left.iter().position(|other| (other.lot, &other.messages) == (job.lot, &job.messages)) {
                    Some(place) => drop(left.swap_remove(place)),
                    None => again += 1,
                }
            }
        }
        again
    }
}

fn rand_life() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LIVES: AtomicU64 = AtomicU64::new(1);
    u128::from(LIVES.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn want(lanes: WantedLanes) -> Want {
    Want { messages_max: FLOW.batch_max, lanes, now: SystemClock.now() }
}

pub(crate) fn now() -> DateTime<Utc> {
    SystemClock.now()
}

pub(crate) fn in_ms(milliseconds: i64) -> i64 {
    (now() + TimeDelta::milliseconds(milliseconds)).timestamp_millis()
}

/// A job for the relay alpha.
pub(crate) fn job(number: u32, class: MessageClass, messages: std::ops::Range<u32>) -> Job {
    Job {
        lot: LotId { sending: SendingId(Uuid::from_u128(7)), number },
        tenant: TenantId::from_trusted("shop"),
        class,
        relay: RelayId::from_trusted("alpha"),
        attempt: 1,
        kind: JobKind::Submit,
        messages: messages.collect(),
        not_before_ms: 0,
        waits: Waits::default(),
        cause: Some(Uuid::from_u128(u128::from(number) + 1_000)),
    }
}

pub(crate) fn jobs(numbers: std::ops::Range<u32>, class: MessageClass) -> Vec<Job> {
    numbers.map(|number| job(number, class, 0..1)).collect()
}
