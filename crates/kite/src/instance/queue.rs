//! The work queue of an instance, if it is shared with other processes.

use anyhow::Context;
use kite_commands::clock::{Ids, SystemIds};
use kite_commands::directory::Directory;
use kite_domain::slug::RelayId;
use kite_nats::{Flow, JetStreamQueue, QueueParts, Server};
use kite_relay::QueueLimits;
use kite_runtime::Host;
use std::sync::Arc;

use crate::config::{Config, QueueEngine, Role};
use crate::runtime::Threads;

/// What a relay takes that is in no directory any more.
const UNKNOWN: Flow = Flow { batch_max: 100, calls_max: 1, rate: Some(100) };

/// Connects to it, and keeps it moving until the process stops. None: there is none, or these roles need none.
pub(super) async fn open(
    config: &Config,
    directory: &Directory,
    threads: &Threads,
) -> anyhow::Result<Option<Arc<JetStreamQueue>>> {
    let roles = config.roles();
    let publishes = roles.contains(&Role::Publisher);
    if config.queue.engine != QueueEngine::Nats || !publishes && !roles.contains(&Role::Worker) {
        return Ok(None);
    }
    let life = SystemIds.next().simple().to_string();
    let parts = QueueParts {
        server: Server { client_name: format!("kite-{life}"), ..config.nats.server()? },
        prefix: config.nats.prefix.clone(),
        streams: config.nats.streams(),
        lanes: QueueLimits::default(),
        publishes,
        clock: threads.clock(),
        life,
    };
    let directory = directory.clone();
    let flow = move |relay: &RelayId| {
        let snapshot = directory.snapshot();
        snapshot.relays.get(relay).map_or(UNKNOWN, |entry| Flow {
            batch_max: entry.profile.batch_max,
            calls_max: entry.profile.calls_in_flight_max,
            rate: entry.profile.rate_parts_per_second,
        })
    };
    let (queue, driver) =
        Box::pin(JetStreamQueue::open(parts, flow)).await.context("cannot use the work queue on NATS")?;
    let (stopped, stop) = (queue.clone(), threads.workers.stop().clone());
    threads.workers.start(async move {
        let mut moving = std::pin::pin!(driver.run());
        tokio::select! {
            () = &mut moving => {}
            () = stop.cancelled() => {
                stopped.stop();
                moving.await;
            }
        }
    });
    Ok(Some(queue))
}
