//! The streams and the consumers: made as they have to be, whoever comes first.

use async_nats::jetstream::consumer::pull::Config as PullConfig;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use kite_commands::describe;
use kite_commands::worker::Failure;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connect::{Connection, OpenError};
use crate::names::{Names, consumer};
use crate::pauses::pause;
use crate::window::lane;

/// What was given out and of which nobody says that it is worked on is given to others after this long.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(7);
/// For so long a repeat is recognised.
const REPEATS_KNOWN: Duration = Duration::from_secs(120);
/// Parcels that may be out at once, of one relay and class: those that wait for a relay to come back, most of all.
const OUT_MAX: i64 = 2_000;
/// A parcel that nobody has acknowledged by then is of a relay that is gone. What is still to be done is in the log.
const JOBS_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How often streams are made again at most, whoever finds that they are not as they have to be.
const MENDED_EVERY: Duration = Duration::from_secs(1);
/// Requests for parcels that may wait at once, of one relay and class: those of all processes.
const WAITING_MAX: i64 = 1_024;
/// A consumer of a relay that nobody works for any more goes after this long.
const CONSUMER_UNUSED_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How long the streams may take to be made at the start.
const FIRST_WITHIN: Duration = Duration::from_secs(15);
/// How long the deletion of a stream may take at the server: one that is made meanwhile may take nothing.
const DELETED_WITHIN: Duration = Duration::from_millis(500);
/// A stream that takes nothing for so long is made anew: longer than an election of its leader takes.
const REFUSED_MAX: Duration = Duration::from_secs(20);

/// How the streams are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// On how many servers each is kept.
    pub replicas: usize,
    /// Bytes of jobs. Beyond them nothing is published until something is done.
    pub jobs_bytes_max: i64,
    /// Bytes of what was not understood. Beyond them the oldest goes.
    pub dead_bytes_max: i64,
    /// How long what was not understood is kept.
    pub dead_kept: Duration,
}

/// The streams of an installation.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) connection: Connection,
    pub(crate) names: Names,
    limits: StreamLimits,
    /// When they were made last.
    mended: Arc<Mutex<Option<Instant>>>,
    /// Since when nothing that is published is taken.
    refused_since: Arc<parking_lot::Mutex<Option<Instant>>>,
}

impl Streams {
    pub(crate) fn new(connection: Connection, names: Names, limits: StreamLimits) -> Self {
        Self { connection, names, limits, mended: Arc::default(), refused_since: Arc::default() }
    }

    /// Makes them at the start. A cluster that has just been started has no leader for a while.
    pub(crate) async fn make_first(&self) -> Result<(), OpenError> {
        let until = Instant::now() + FIRST_WITHIN;
        loop {
            match self.make().await {
                Err(OpenError::Stream { source, .. })
                    if source.kind() == CreateStreamErrorKind::TimedOut && Instant::now() < until => {}
                made => return made,
            }
        }
    }

    /// Whether what was published was taken.
    pub(crate) fn is_taken(&self, is_taken: bool) {
        let mut since = self.refused_since.lock();
        match is_taken {
            true => *since = None,
            false => drop(since.get_or_insert_with(Instant::now)),
        }
    }

    /// Something went wrong: perhaps they are gone.
    pub(crate) async fn mend(&self) {
        let mut mended = self.mended.lock().await;
        if !self.connection.is_there() || mended.is_some_and(|at| at.elapsed() < MENDED_EVERY) {
            return;
        }
        if let Err(error) = self.make_again().await {
            tracing::warn!(error = describe(&*error), "the work queue is not as it has to be, trying again");
        }
        *mended = Some(Instant::now());
    }

    async fn make_again(&self) -> Result<(), Failure> {
        let jetstream = &self.connection.jetstream;
        if self.refused_since.lock().is_some_and(|since| since.elapsed() > REFUSED_MAX) {
            // A server may have a stream that takes nothing, if it was deleted and made at the same time. All of it is in the log.
            tracing::warn!("the stream of the work queue takes nothing for a while: it is made anew");
            *self.refused_since.lock() = None;
            self.connection.delete_stream(&self.names.jobs()).await?;
        }
        for name in [self.names.jobs(), self.names.dead()] {
            if jetstream.get_stream(&name).await.is_err() {
                // Whoever deletes it is to be done first.
                pause(DELETED_WITHIN).await;
            }
        }
        Ok(self.make().await?)
    }

    /// Makes them, or changes their limits.
    pub(crate) async fn make(&self) -> Result<(), OpenError> {
        let jobs = Config {
            name: self.names.jobs(),
            description: Some(
                "Kite: jobs for relay workers. They can be derived from the log again.".to_owned(),
            ),
            subjects: vec![self.names.all_jobs()],
            retention: RetentionPolicy::WorkQueue,
            // What does not fit stays with the publisher.
            discard: DiscardPolicy::New,
            max_bytes: self.limits.jobs_bytes_max,
            max_age: JOBS_KEPT,
            duplicate_window: REPEATS_KNOWN,
            ..self.kept()
        };
        let dead = Config {
            name: self.names.dead(),
            description: Some("Kite: jobs that were not understood (kite queue list).".to_owned()),
            subjects: vec![self.names.all_dead()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_bytes: self.limits.dead_bytes_max,
            max_age: self.limits.dead_kept,
            ..self.kept()
        };
        for config in [jobs, dead] {
            let name = config.name.clone();
            let made = self.connection.jetstream.create_or_update_stream(config).await;
            made.map_err(|source| OpenError::Stream { name, source })?;
        }
        Ok(())
    }

    fn kept(&self) -> Config {
        Config {
            storage: StorageType::File,
            num_replicas: self.limits.replicas,
            allow_direct: true,
            ..Config::default()
        }
    }

    /// Parcels of a relay that nobody has pulled yet: of passwords, and of everything else.
    pub(crate) async fn not_pulled(&self, relay: &RelayId) -> Result<[usize; 2], Failure> {
        let mut parcels = [0; 2];
        for class in MessageClass::ALL {
            let pending = self.connection.not_pulled(&self.names.jobs(), &consumer(relay, *class)).await?;
            parcels[lane(*class)] += usize::try_from(pending).unwrap_or(usize::MAX);
        }
        Ok(parcels)
    }

    /// The consumers of a relay.
    pub(crate) async fn make_consumers(&self, relay: &RelayId) -> Result<(), Failure> {
        for class in MessageClass::ALL {
            self.consumer(relay, *class).await?;
        }
        Ok(())
    }

    /// The consumer of a relay and a class.
    pub(crate) async fn consumer(
        &self,
        relay: &RelayId,
        class: MessageClass,
    ) -> Result<PullConsumer, Failure> {
        let config = PullConfig {
            durable_name: Some(consumer(relay, class)),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACKNOWLEDGED_WITHIN,
            // However often a job comes: whoever takes it looks at the lot.
            max_deliver: -1,
            filter_subject: self.names.jobs_of(relay, class),
            max_ack_pending: OUT_MAX,
            max_waiting: WAITING_MAX,
            inactive_threshold: CONSUMER_UNUSED_MAX,
            ..PullConfig::default()
        };
        let made = self.connection.jetstream.create_consumer_on_stream(config, self.names.jobs()).await;
        Ok(made?)
    }
}
