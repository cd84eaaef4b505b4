//! The streams and the consumers: made as they have to be, whoever comes first.

use async_nats::jetstream::consumer::pull::Config as PullConfig;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use kite_commands::worker::Failure;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use std::time::Duration;

use crate::connect::{Connection, OpenError};
use crate::names::{Names, consumer};

/// What was given out and of which nobody says that it is worked on is given to others after this long.
pub(crate) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(7);
/// For so long a repeat is recognised.
const REPEATS_KNOWN: Duration = Duration::from_secs(120);
/// Parcels that may be out at once, of one relay and class.
const OUT_MAX: i64 = 10_000;
/// Requests for parcels that may wait at once, of one relay and class: those of all processes.
const WAITING_MAX: i64 = 1_024;
/// A consumer of a relay that nobody works for any more goes after this long.
const CONSUMER_UNUSED_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

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
}

impl Streams {
    pub(crate) fn new(connection: Connection, names: Names, limits: StreamLimits) -> Self {
        Self { connection, names, limits }
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
