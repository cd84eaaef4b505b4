//! From the lanes of the publisher's process to the stream, which stays shallow.

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kite_commands::{Clock, describe};
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_relay::InProcessQueue;
use kite_relay::queue::{Lease, Taken, Want, WantedLanes, WorkQueue};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::{Parcels, parcels};
use crate::parcel::Parcel;
use crate::pauses::{FAILED_PAUSE, LAST_WITHIN, pause};
use crate::streams::Streams;
use crate::window::{Flow, Room, Window};

/// Parcels of a relay that wait for their acknowledgement at once.
const ON_THEIR_WAY_MAX: usize = 64;
/// How often a full stream is looked at while something waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much each relay takes now.
pub(crate) type Flows = Arc<dyn Fn(&RelayId) -> Flow + Send + Sync>;

/// Publishes the jobs of one relay.
pub(crate) struct Pump {
    pub(crate) relay: RelayId,
    /// Those of the publisher.
    pub(crate) lanes: Arc<InProcessQueue>,
    pub(crate) flows: Flows,
    pub(crate) streams: Streams,
    pub(crate) clock: Arc<dyn Clock>,
    /// Names parcels that follow from no event.
    pub(crate) life: Arc<str>,
    pub(crate) is_stopping: watch::Receiver<bool>,
}

/// What is to be counted, and in which lane.
#[derive(Debug, Clone, Copy)]
struct Published {
    class: MessageClass,
    messages: u32,
    is_stored: bool,
}

impl Pump {
    /// Until it is stopped. Then passwords are still published that wait; whoever publishes next finds the rest in the log.
    pub(crate) async fn run(self) {
        let mut arrivals = self.lanes.arrivals(&self.relay);
        let mut is_stopping = self.is_stopping.clone();
        let mut window = Window::default();
        let mut on_their_way = FuturesUnordered::new();
        let mut next_look = Instant::now();
        let mut look = None;
        loop {
            let stops = *is_stopping.borrow();
            arrivals.mark_unchanged();
            let flow = (self.flows)(&self.relay);
            let room = window.room(flow);
            let mut due = None;
            let is_room = |_: &WantedLanes| on_their_way.len() < ON_THEIR_WAY_MAX;
            if let Some(lanes) = wanted(room, stops).filter(is_room) {
                let want = Want { messages_max: flow.parcel_max(), lanes, now: self.clock.now() };
                match self.lanes.take(&self.relay, want).await {
                    Ok(Taken::Lease(lease)) => {
                        window.begin(lease.class, messages_of(&lease));
                        on_their_way.push(self.publish(lease));
                        continue;
                    }
                    Ok(Taken::Nothing(next)) => due = next,
                    Err(_) => {}
                }
            }
            if stops {
                break;
            }
            let is_to_look = look.is_none() && self.has_no_room(room);
            let seen = async {
                match &mut look {
                    Some(look) => std::pin::Pin::new(look).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(Published { class, messages, is_stored }) = on_their_way.next() => {
                    window.end(class, messages, is_stored);
                }
                Ok(()) = arrivals.changed() => {}
                () = self.until(due) => {}
                () = tokio::time::sleep_until(next_look), if is_to_look => look = Some(Box::pin(self.look())),
                seen = seen => {
                    if let Some(parcels) = seen {
                        window.seen(parcels, flow);
                    }
                    (look, next_look) = (None, Instant::now() + LOOK_EVERY);
                }
                _ = is_stopping.changed() => {}
            }
        }
        // What is on its way is acknowledged soon, or comes again from the log.
        let _ = tokio::time::timeout(LAST_WITHIN, on_their_way.for_each(async |_| ())).await;
    }

    /// Whether something waits for which there is no room.
    fn has_no_room(&self, room: Room) -> bool {
        let [passwords, notices, ads] = self.lanes.waiting(&self.relay);
        // Without room for passwords nothing is taken, so that they go first.
        !room.passwords && passwords + notices + ads > 0 || !room.others && notices + ads > 0
    }

    async fn until(&self, due: Option<DateTime<Utc>>) {
        match due {
            Some(due) => pause((due - self.clock.now()).to_std().unwrap_or_default()).await,
            None => pending().await,
        }
    }

    /// What nobody has pulled yet, if the server tells.
    async fn look(&self) -> Option<[usize; 2]> {
        match self.streams.not_pulled(&self.relay).await {
            Ok(parcels) => Some(parcels),
            Err(error) => {
                tracing::debug!(relay = %self.relay, error = describe(&*error), "the stream cannot be looked at");
                self.streams.mend().await;
                // Perhaps nobody has worked for this relay yet.
                if let Err(error) = self.streams.make_consumers(&self.relay).await {
                    tracing::debug!(relay = %self.relay, error = describe(&*error), "it has no consumers");
                    pause(FAILED_PAUSE).await;
                }
                None
            }
        }
    }

    /// Until the server has it. A repeat whose first acknowledgement was lost is dropped by the server.
    async fn publish(&self, lease: Lease) -> Published {
        let parcel = Parcel::new(&self.relay, lease.class, lease.kind, &lease.jobs);
        let id = parcel.identity().unwrap_or_else(|| format!("{}-{}-{}", self.life, self.relay, lease.id));
        let payload = parcel.encode();
        let is_stored = loop {
            let Err(error) = self.publish_once(lease.class, &id, payload.clone()).await else {
                self.streams.is_taken(true);
                break true;
            };
            if error.kind() == PublishErrorKind::MaxPayloadExceeded {
                tracing::error!(relay = %self.relay, bytes = payload.len(), "the server takes no job of this size (max_payload)");
                break false;
            }
            tracing::debug!(relay = %self.relay, error = describe(&error), "a job is not published yet");
            if error.kind() == PublishErrorKind::StreamNotFound {
                self.streams.is_taken(false);
            }
            if matches!(error.kind(), PublishErrorKind::StreamNotFound | PublishErrorKind::Other) {
                self.streams.mend().await;
            }
            pause(FAILED_PAUSE).await;
        };
        if is_stored {
            parcels(&self.relay, lease.class, Parcels::Published);
        }
        // The lanes are in memory: they always answer.
        let _ = self.lanes.settle(&self.relay, lease.id, Vec::new()).await;
        Published { class: lease.class, messages: messages_of(&lease), is_stored }
    }

    async fn publish_once(
        &self,
        class: MessageClass,
        id: &str,
        payload: Bytes,
    ) -> Result<(), async_nats::jetstream::context::PublishError> {
        let message = PublishMessage::build().payload(payload).message_id(id);
        let subject = self.streams.names.jobs_of(&self.relay, class);
        self.streams.connection.jetstream.send_publish(subject, message).await?.await?;
        Ok(())
    }
}

fn messages_of(lease: &Lease) -> u32 {
    u32::try_from(lease.len()).unwrap_or(u32::MAX)
}

fn wanted(room: Room, stops: bool) -> Option<WantedLanes> {
    match (room.passwords, room.others && !stops) {
        (true, true) => Some(WantedLanes::All),
        (true, false) => Some(WantedLanes::OtpOnly),
        // Passwords go first.
        (false, _) => None,
    }
}
