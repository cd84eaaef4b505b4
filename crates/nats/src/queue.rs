//! The queue as a process sees it.

use async_trait::async_trait;
use futures::StreamExt;
use kite_commands::worker::Failure;
use kite_commands::{Clock, describe};
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use kite_relay::queue::{Hasten, Job, Put, QueueError, Taken, Want};
use kite_relay::{InProcessQueue, QueueLimits, WorkQueue};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::connect::{Connection, OpenError, Server};
use crate::intake::Intake;
use crate::local::{Local, Word};
use crate::metrics::reachable;
use crate::names::Names;
use crate::pauses::{LAST_WITHIN, pause};
use crate::pump::{Flows, Pump};
use crate::streams::{StreamLimits, Streams};
use crate::window::Flow;

/// How often the server is told what is worked on.
const IN_PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked for what nobody takes.
const UNTAKEN_EVERY: Duration = Duration::from_millis(250);

/// What a queue is made of.
pub struct QueueParts {
    /// Where it is.
    pub server: Server,
    /// How the names of its streams and subjects begin.
    pub prefix: String,
    /// How its streams are kept.
    pub streams: StreamLimits,
    /// Of the lanes of this process.
    pub lanes: QueueLimits,
    /// Whether this process may publish.
    pub publishes: bool,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names this life of the process.
    pub life: String,
}

/// The queue.
pub struct JetStreamQueue {
    streams: Streams,
    clock: Arc<dyn Clock>,
    /// What the publisher of this process puts, if it may publish.
    published: Option<Arc<InProcessQueue>>,
    /// What was pulled, and what workers of a process put that cannot publish.
    pulled: Arc<InProcessQueue>,
    locals: RwLock<HashMap<RelayId, Arc<Local>>>,
    pumped: Mutex<HashSet<RelayId>>,
    orders: mpsc::UnboundedSender<Order>,
    words: mpsc::UnboundedSender<Word>,
    stop: watch::Sender<bool>,
}

/// What is to be started or told.
enum Order {
    Pump(RelayId),
    Intake(Arc<Local>, RelayId),
    Hasten(RelayId, Hasten),
}

/// What has to be polled for the queue to move, until [`JetStreamQueue::stop`].
pub struct Driver {
    queue: Arc<JetStreamQueue>,
    flows: Flows,
    life: Arc<str>,
    orders: mpsc::UnboundedReceiver<Order>,
    words: mpsc::UnboundedReceiver<Word>,
}

impl JetStreamQueue {
    /// Connects, and makes the streams.
    ///
    /// # Errors
    /// If no server can be reached, or it is not what is needed.
    pub async fn open(
        parts: QueueParts,
        flows: impl Fn(&RelayId) -> Flow + Send + Sync + 'static,
    ) -> Result<(Arc<Self>, Driver), OpenError> {
        let connection = Connection::open(&parts.server).await?;
        let streams = Streams::new(connection, Names::new(&parts.prefix), parts.streams);
        streams.make_first().await?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (words, said) = mpsc::unbounded_channel();
        let queue = Arc::new(Self {
            streams,
            clock: parts.clock,
            published: parts.publishes.then(|| Arc::new(InProcessQueue::new(parts.lanes))),
            pulled: Arc::new(InProcessQueue::of_pulled(parts.lanes)),
            locals: RwLock::default(),
            pumped: Mutex::default(),
            orders,
            words,
            stop: watch::Sender::new(false),
        });
        let (flows, life) = (Arc::new(flows) as Flows, parts.life.into());
        let driver = Driver { queue: queue.clone(), flows, life, orders: ordered, words: said };
        Ok((queue, driver))
    }

    /// Whether a server is there now.
    pub fn is_there(&self) -> bool {
        self.streams.connection.is_there()
    }

    /// Nothing more is published or pulled. What nobody works on others get at once; what is worked on is still acknowledged.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn order(&self, order: Order) {
        // Without a driver nothing moves, and nobody waits for it.
        let _ = self.orders.send(order);
    }

    fn say(&self, word: Option<Word>) {
        if let Some(word) = word {
            let _ = self.words.send(word);
        }
    }

    fn local(&self, relay: &RelayId) -> Arc<Local> {
        if let Some(local) = self.locals.read().get(relay) {
            return local.clone();
        }
        let mut locals = self.locals.write();
        let make = || {
            let local = Arc::new(Local::new(relay.clone(), self.pulled.clone()));
            self.order(Order::Intake(local.clone(), relay.clone()));
            local
        };
        locals.entry(relay.clone()).or_insert_with(make).clone()
    }

    fn locals(&self) -> Vec<Arc<Local>> {
        self.locals.read().values().cloned().collect()
    }

    /// Says what is worked on.
    fn report(&self) {
        reachable(self.is_there());
        self.locals().iter().for_each(|local| self.say(local.in_progress()));
    }

    async fn give_back(&self) {
        let now = self.clock.now();
        for local in self.locals() {
            self.say(local.give_back(now).await);
        }
    }

    fn give_up(&self) {
        self.locals().iter().for_each(|local| self.say(local.give_up()));
    }
}

#[async_trait]
impl WorkQueue for JetStreamQueue {
    async fn put(&self, job: Job) -> Result<Put, QueueError> {
        let Some(published) = &self.published else {
            // Nobody here publishes: whoever put it may work on it, or it is left to the log.
            let local = self.locals.read().get(&job.relay).cloned();
            return match local {
                Some(local) => local.put(job).await,
                None => Ok(Put::Queued),
            };
        };
        if self.pumped.lock().insert(job.relay.clone()) {
            self.order(Order::Pump(job.relay.clone()));
        }
        published.put(job).await
    }

    async fn take(&self, relay: &RelayId, want: Want) -> Result<Taken, QueueError> {
        if *self.stop.borrow() {
            return Ok(Taken::Nothing(None));
        }
        self.local(relay).take(want).await
    }

    async fn settle(&self, relay: &RelayId, lease: u64, rest: Vec<Job>) -> Result<(), QueueError> {
        self.say(self.local(relay).settle(lease, rest, self.clock.now()).await);
        Ok(())
    }

    fn abandon(&self, relay: &RelayId, lease: u64) {
        self.local(relay).abandon(lease);
    }

    fn arrivals(&self, relay: &RelayId) -> watch::Receiver<u64> {
        self.pulled.arrivals(relay)
    }

    fn nudge(&self, relay: &RelayId) {
        self.pulled.nudge(relay);
    }

    fn hasten(&self, relay: &RelayId, what: Hasten) {
        self.pulled.hasten(relay, what);
        if let Some(published) = &self.published {
            published.hasten(relay, what);
        }
        self.order(Order::Hasten(relay.clone(), what));
    }

    fn waiting(&self, relay: &RelayId) -> [usize; 3] {
        let mut waiting = self.pulled.waiting(relay);
        if let Some(published) = &self.published {
            waiting.iter_mut().zip(published.waiting(relay)).for_each(|(sum, more)| *sum += more);
        }
        waiting
    }

    fn forget(&self) {
        if let Some(published) = &self.published {
            published.clear();
        }
    }
}

impl Driver {
    /// Until the queue is stopped and everything is acknowledged that its workers have done.
    pub async fn run(mut self) {
        let mut tasks = JoinSet::new();
        let mut is_stopping = self.queue.stop.subscribe();
        let mut reports = every(IN_PROGRESS_EVERY);
        let mut looks = every(UNTAKEN_EVERY);
        let mut hastened = None;
        while !*is_stopping.borrow() {
            if hastened.is_none() {
                hastened = self.listen().await;
            }
            let told = async {
                match &mut hastened {
                    Some(hastened) => hastened.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(order) = self.orders.recv() => self.follow(order, &mut tasks).await,
                Some(word) = self.words.recv() => self.say(word).await,
                message = told => match message {
                    Some(message) => self.hear(&message),
                    None => hastened = None,
                },
                _ = reports.tick() => self.queue.report(),
                _ = looks.tick() => self.queue.give_back().await,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                _ = is_stopping.changed() => {}
            }
        }
        self.end(tasks).await;
    }

    /// What is on its way arrives, and goes back; what is worked on is acknowledged, until whoever made this drops it.
    async fn end(mut self, mut tasks: JoinSet<()>) {
        let mut reports = every(IN_PROGRESS_EVERY);
        loop {
            self.queue.give_up();
            tokio::select! {
                Some(word) = self.words.recv() => self.say(word).await,
                _ = reports.tick() => self.queue.report(),
                ended = tasks.join_next(), if !tasks.is_empty() => drop(ended),
                () = std::future::ready(()), if tasks.is_empty() && self.is_done() => break,
                _ = pause(UNTAKEN_EVERY) => {}
            }
        }
        while let Ok(word) = self.words.try_recv() {
            self.say(word).await;
        }
        let flushed = timeout(LAST_WITHIN, self.queue.streams.connection.flush()).await;
        if flushed.is_err() {
            tracing::debug!("the last words did not get through");
        }
    }

    /// What the server does not hear it gives out again, so nobody waits until it is back.
    async fn say(&self, word: Word) {
        for acker in word.ackers {
            if !self.queue.is_there() {
                tracing::debug!("the queue is away, and not told");
                return;
            }
            if !matches!(timeout(LAST_WITHIN, acker.ack_with(word.kind)).await, Ok(Ok(()))) {
                tracing::debug!("the queue was not told");
                return;
            }
        }
    }

    /// Whether nothing is held that somebody may still be working on.
    fn is_done(&self) -> bool {
        self.queue.locals().iter().all(|local| local.in_progress().is_none())
    }

    async fn follow(&self, order: Order, tasks: &mut JoinSet<()>) {
        let queue = &self.queue;
        match order {
            Order::Pump(relay) => {
                let Some(lanes) = queue.published.clone() else { return };
                let pump = Pump {
                    relay,
                    lanes,
                    flows: self.flows.clone(),
                    streams: queue.streams.clone(),
                    clock: queue.clock.clone(),
                    life: self.life.clone(),
                    is_stopping: queue.stop.subscribe(),
                };
                tasks.spawn(pump.run());
            }
            Order::Intake(local, relay) => {
                for class in MessageClass::ALL {
                    let intake = Intake {
                        relay: relay.clone(),
                        class: *class,
                        local: local.clone(),
                        streams: queue.streams.clone(),
                        words: queue.words.clone(),
                        is_stopping: queue.stop.subscribe(),
                    };
                    tasks.spawn(intake.run());
                }
            }
            Order::Hasten(relay, what) => {
                let subject = queue.streams.names.hasten(&relay);
                let told = queue.streams.connection.client.publish(subject, word_of(what).into());
                if !matches!(timeout(LAST_WITHIN, told).await, Ok(Ok(()))) {
                    tracing::debug!(%relay, "what waits elsewhere comes at its time");
                }
            }
        }
    }

    /// What workers elsewhere ask for, if this process publishes.
    async fn listen(&self) -> Option<async_nats::Subscriber> {
        self.queue.published.as_ref()?;
        let subject = self.queue.streams.names.hasten_all();
        let listening: Result<_, Failure> =
            self.queue.streams.connection.client.subscribe(subject).await.map_err(Failure::from);
        listening
            .inspect_err(|error| tracing::debug!(error = describe(&**error), "nothing is heard of relays"))
            .ok()
    }

    fn hear(&self, message: &async_nats::Message) {
        let relay = self.queue.streams.names.hastened(&message.subject);
        let (Some(relay), Some(what)) = (relay, of_word(&message.payload)) else { return };
        if let Some(published) = &self.queue.published {
            published.hasten(&relay, what);
        }
    }
}

fn word_of(what: Hasten) -> &'static str {
    match what {
        Hasten::PutOff => "put_off",
        Hasten::Questions => "questions",
        Hasten::Everything => "everything",
    }
}

fn of_word(word: &[u8]) -> Option<Hasten> {
    [Hasten::PutOff, Hasten::Questions, Hasten::Everything]
        .into_iter()
        .find(|what| word_of(*what).as_bytes() == word)
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
