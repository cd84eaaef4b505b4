//! From the stream to the workers of this process: no more than they can take now.

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use futures::StreamExt;
use kite_commands::describe;
use kite_commands::worker::Failure;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::dead;
use crate::local::{Local, Word, place};
use crate::metrics::{Parcels, parcels};
use crate::parcel::Parcel;
use crate::pauses::{FAILED_PAUSE, pause};
use crate::streams::Streams;

/// How long the server keeps a request for parcels. One of which it forgets (its leader died) is made again soon after.
const PULL_FOR: Duration = Duration::from_secs(2);
const ANSWER_LATE: Duration = Duration::from_millis(500);
/// What could neither be understood nor kept comes again after this long.
const UNKEPT_PAUSE: Duration = Duration::from_secs(5);

/// Pulls the parcels of one relay and class.
pub(crate) struct Intake {
    pub(crate) relay: RelayId,
    pub(crate) class: MessageClass,
    pub(crate) local: Arc<Local>,
    pub(crate) streams: Streams,
    pub(crate) words: mpsc::UnboundedSender<Word>,
    /// Becomes true when nothing more is to be pulled.
    pub(crate) is_stopping: watch::Receiver<bool>,
}

impl Intake {
    /// Until it is stopped. What was asked for by then is waited for, so that nothing is on its way to nobody.
    pub(crate) async fn run(mut self) {
        let mut wanted = self.local.wanted();
        let mut consumer: Option<PullConsumer> = None;
        loop {
            let class = place(self.class);
            {
                let some = wanted.wait_for(|wanted| wanted[class] > 0);
                let stop = self.is_stopping.wait_for(|is_stopping| *is_stopping);
                tokio::select! {
                    biased;
                    _ = stop => return,
                    _ = some => {}
                }
            }
            // What is asked for while nobody is there would be answered to nobody.
            if !self.streams.connection.is_there() {
                pause(FAILED_PAUSE).await;
                continue;
            }
            let found = match consumer.take() {
                Some(found) => Ok(found),
                None => self.streams.consumer(&self.relay, self.class).await,
            };
            let pulled = match found {
                Ok(found) => self.pull(&found).await.map(|()| found),
                Err(error) => Err(error),
            };
            match pulled {
                Ok(found) => consumer = Some(found),
                Err(error) => {
                    let error = describe(&*error);
                    tracing::debug!(relay = %self.relay, class = self.class.word(), error, "nothing can be pulled");
                    self.streams.mend().await;
                    pause(FAILED_PAUSE).await;
                }
            }
        }
    }

    async fn pull(&self, consumer: &PullConsumer) -> Result<(), Failure> {
        let mut made = self.streams.connection.made.clone();
        made.mark_unchanged();
        let mut until = Instant::now() + PULL_FOR + ANSWER_LATE;
        let count = self.local.ask(self.class);
        if count == 0 {
            return Ok(());
        }
        let mut batch = consumer.batch().max_messages(count).expires(PULL_FOR).messages().await?;
        loop {
            tokio::select! {
                biased;
                next = timeout_at(until, batch.next()) => match next {
                    Ok(Some(message)) => self.arrived(message?).await,
                    // There was nothing more, or nothing was heard of it.
                    Ok(None) | Err(_) => return Ok(()),
                },
                // It was asked over a connection that is gone, but for what the new one has brought already.
                Ok(()) = made.changed() => until = until.min(Instant::now() + ANSWER_LATE),
            }
        }
    }

    async fn arrived(&self, message: async_nats::jetstream::Message) {
        let sequence = message.info().map_or(0, |info| info.stream_sequence);
        let (message, acker) = message.split();
        let acker = Arc::new(acker);
        let word = match Parcel::decode(&message.payload, &self.relay, self.class) {
            Ok(jobs) => {
                parcels(&self.relay, self.class, Parcels::Pulled);
                let word = self.local.arrived(self.class, jobs, acker).await;
                // Whoever stops takes no more.
                if *self.is_stopping.borrow() { self.local.give_up() } else { word }
            }
            Err(reason) => {
                parcels(&self.relay, self.class, Parcels::NotUnderstood);
                tracing::error!(relay = %self.relay, class = self.class.word(), %reason, "a job that is not understood is put aside: kite queue list");
                let kind = match dead::bury(&self.streams, &message, sequence, &reason.to_string()).await {
                    Ok(()) => AckKind::Term,
                    Err(error) => {
                        tracing::warn!(error = describe(&*error), "it cannot be put aside now");
                        AckKind::Nak(Some(UNKEPT_PAUSE))
                    }
                };
                Some(Word { ackers: vec![acker], kind })
            }
        };
        if let Some(word) = word {
            // The other end lives as long as this.
            let _ = self.words.send(word);
        }
    }
}
