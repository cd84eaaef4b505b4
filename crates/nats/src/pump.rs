//! From the lanes of the publisher's process to the stream, which stays shallow.

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use kite_commands::worker::Failure;
use kite_commands::{Clock, describe};
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_relay::InProcessQueue;
use kite_relay::queue::{Lease, Taken, Want, WantedLanes, WorkQueue};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::local::place;
use crate::metrics::{Parcels, parcels};
use crate::parcel::Parcel;
use crate::streams::Streams;
use crate::window::{Flow, Room, Window};

/// Parcels of a relay that wait for their acknowledgement at once.
const ON_THEIR_WAY_MAX: usize = 64;
/// How often a full stream is looked at while something waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The pause after a failure.
const FAILED_PAUSE: Duration = Duration::from_millis(300);

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

impl Pump {
    /// Until it is stopped. What is in the lanes by then is in the log.
    pub(crate) async fn run(self) {
        let mut arrivals = self.lanes.arrivals(&self.relay);
        let mut is_stopping = self.is_stopping.clone();
        let mut window = Window::default();
        let mut on_their_way = FuturesUnordered::new();
        while !*is_stopping.borrow() {
            arrivals.mark_unchanged();
            let flow = (self.flows)(&self.relay);
            let room = window.room(flow);
            let mut due = None;
            if let Some(lanes) = wanted(room).filter(|_| on_their_way.len() < ON_THEIR_WAY_MAX) {
                let want = Want { messages_max: flow.parcel_max(), lanes, now: self.clock.now() };
                match self.lanes.take(&self.relay, want).await {
                    Ok(Taken::Lease(lease)) => {
                        window.publish(lease.class, lease.len());
                        on_their_way.push(self.publish(lease));
                        continue;
                    }
                    Ok(Taken::Nothing(next)) => due = next,
                    Err(_) => {}
                }
            }
            let looks = self.has_no_room(room);
            tokio::select! {
                Some(()) = on_their_way.next() => {}
                Ok(()) = arrivals.changed() => {}
                () = self.until(due) => {}
                () = pause(LOOK_EVERY), if looks => self.look(&mut window, flow).await,
                _ = is_stopping.changed() => {}
            }
        }
        // What is on its way is acknowledged soon, or comes again from the log.
        let _ = tokio::time::timeout(FAILED_PAUSE, on_their_way.collect::<()>()).await;
    }

    /// Whether something waits for which there is no room.
    fn has_no_room(&self, room: Room) -> bool {
        let [passwords, notices, ads] = self.lanes.waiting(&self.relay);
        !room.passwords && passwords > 0 || !room.others && notices + ads > 0
    }

    async fn until(&self, due: Option<DateTime<Utc>>) {
        match due {
            Some(due) => pause((due - self.clock.now()).to_std().unwrap_or_default()).await,
            None => pending().await,
        }
    }

    async fn look(&self, window: &mut Window, flow: Flow) {
        match self.parcels_in_stream().await {
            Ok(parcels) => window.seen(parcels, flow),
            Err(error) => {
                tracing::debug!(relay = %self.relay, error = describe(&*error), "the stream cannot be looked at");
                self.make_streams().await;
            }
        }
    }

    /// Those of passwords, and all others.
    async fn parcels_in_stream(&self) -> Result<[usize; 2], Failure> {
        let names = &self.streams.names;
        let stream = self.streams.connection.jetstream.get_stream_no_info(names.jobs()).await?;
        let mut subjects = stream.info_with_subjects(names.jobs_of_relay(&self.relay)).await?;
        let passwords = names.jobs_of(&self.relay, MessageClass::ALL[place(MessageClass::Otp)]);
        let mut parcels = [0; 2];
        while let Some((subject, count)) = subjects.try_next().await? {
            parcels[usize::from(subject != passwords)] += count;
        }
        Ok(parcels)
    }

    /// Until the server has it. A repeat whose first acknowledgement was lost is dropped by the server.
    async fn publish(&self, lease: Lease) {
        let parcel = Parcel::new(&self.relay, lease.class, lease.kind, &lease.jobs);
        let id = parcel.identity().unwrap_or_else(|| format!("{}-{}-{}", self.life, self.relay, lease.id));
        let payload = parcel.encode();
        while let Err(error) = self.publish_once(lease.class, &id, payload.clone()).await {
            tracing::debug!(relay = %self.relay, error = describe(&error), "a job is not published yet");
            if matches!(error.kind(), PublishErrorKind::StreamNotFound | PublishErrorKind::Other) {
                self.make_streams().await;
            }
            pause(FAILED_PAUSE).await;
        }
        parcels(&self.relay, lease.class, Parcels::Published);
        // The lanes are in memory: they always answer.
        let _ = self.lanes.settle(&self.relay, lease.id, Vec::new()).await;
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

    async fn make_streams(&self) {
        if self.streams.connection.is_there()
            && let Err(error) = self.streams.make().await
        {
            tracing::warn!(error = describe(&error), "the work queue is not as it has to be, trying again");
        }
    }
}

fn wanted(room: Room) -> Option<WantedLanes> {
    match (room.passwords, room.others) {
        (true, true) => Some(WantedLanes::All),
        (true, false) => Some(WantedLanes::OtpOnly),
        // Passwords go first.
        (false, _) => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for the network or a time that the lanes name")]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
