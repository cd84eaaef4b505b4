//! A world to test workers in: a log in memory, a clock that moves when told, and a relay that says what it is told
//! to.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::event_store::{EventStore, Expected, MemoryEventStore};
use kite_commands::journal::Entry;
use kite_commands::lease::{InProcessLeases, LeaseHolder};
use kite_commands::manage::Manage;
use kite_commands::receipts::ReceiptBook;
use kite_commands::{Awaited, Cause, Clock, Ids, Journal, Lots, Step, TraceParent, Worker, WorkerError};
use kite_domain::address::PhoneKind;
use kite_domain::event::Event;
use kite_domain::ids::{AttemptReference, LotId, SendingId};
use kite_domain::lot::{
    LotAccepted, LotPersonal, Message, MessagesRouted, MessagesSubmitted, Recipient, RouteSet, TypeGroup,
};
use kite_domain::not_understood::{Misread, SaidHow};
use kite_domain::policy::FailoverTerms;
use kite_domain::relay::{
    BillingMoment, ChannelTerms, Endpoint, ReceiptMode, RelayCredentials, RelayProfile, RelayTls,
};
use kite_domain::sender::{SenderApproved, SenderKind, SenderTerms};
use kite_domain::sending::{AdTerms, MessageClass, SendingAccepted, SendingContent, WindowAction};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::MessageType;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use uuid::Uuid;

use crate::client::{
    CallFailed, Connector, ConnectorError, MessageAnswer, OutgoingMessage, PulledReceipts, RelayClient,
    Standing, SubmitAnswer,
};
use crate::lanes::{InProcessQueue, QueueLimits};
use crate::parts::RelayParts;
use crate::publisher::{Publisher, QueueFeeder};
use crate::queue::WorkQueue;
use crate::settings::RelaySettings;
use crate::team::{Hired, Relays};

pub(crate) const START_MS: i64 = 1_772_330_400_000; // 11:00 in Seoul on 1 March 2026

pub(crate) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(START_MS).unwrap()
}

pub(crate) fn relay(id: &str) -> RelayId {
    RelayId::from_trusted(id)
}

pub(crate) fn tenant() -> TenantId {
    TenantId::from_trusted("shop")
}

pub(crate) fn profile(id: &str) -> RelayProfile {
    let terms =
        ChannelTerms { price_milliwon: 9_000, bills: BillingMoment::Delivered, receipt_deadline_s: 3_600 };
    let channels =
        [MessageType::Sms, MessageType::Lms, MessageType::Email].map(|channel| (channel, terms.clone()));
    RelayProfile {
        relay: relay(id),
        name: id.to_owned(),
        endpoint: Endpoint::Http { base_url: "http://127.0.0.1:9".to_owned() },
        channels: channels.into(),
        reaches: vec![PhoneKind::KoreanMobile],
        batch_max: 100,
        rate_parts_per_second: None,
        calls_in_flight_max: 1,
        answer_timeout_ms: 5_000,
        deduplicates: true,
        answers_status: true,
        receipts: ReceiptMode::Push,
        codes: "solapi".into(),
        tls: RelayTls::default(),
        credentials: RelayCredentials { api_key: Some(format!("{id}-key")), ..RelayCredentials::default() },
    }
}

pub(crate) fn terms() -> SendingAccepted {
    SendingAccepted {
        sending: SendingId(Uuid::from_u128(7)),
        tenant: tenant(),
        class: MessageClass::Notice,
        from_phone: Some("0212345678".into()),
        from_email: Some("info@kite.example".into()),
        lots: 1,
        messages: 1,
        refused: 0,
        scheduled_at: None,
        expires_at: start() + TimeDelta::days(1),
        failover: FailoverTerms::default(),
        ad: None,
        client_reference: None,
        custom: None,
        body_hash: None,
        personal: SendingContent {
            subject: None, text: "안녕하세요".to_owned(), variables: BTreeMap::new()
        },
    }
}

/// What is sent in a test.
pub(crate) struct Sent<'s> {
    pub(crate) class: MessageClass,
    pub(crate) to: Vec<String>,
    pub(crate) relay: &'s str,
    pub(crate) fallbacks: &'s [&'s str],
    pub(crate) channel: MessageType,
    pub(crate) parts: u16,
    pub(crate) failover: FailoverTerms,
    pub(crate) lifetime: TimeDelta,
    /// The trace that it is accepted in.
    pub(crate) traceparent: Option<TraceParent>,
}

impl Default for Sent<'_> {
    fn default() -> Self {
        Self {
            class: MessageClass::Notice,
            to: vec!["01012345678".to_owned()],
            relay: "alpha",
            fallbacks: &[],
            channel: MessageType::Sms,
            parts: 1,
            failover: FailoverTerms::default(),
            lifetime: TimeDelta::days(1),
            traceparent: None,
        }
    }
}

/// What the relay does with a call.
pub(crate) type Reply = Box<dyn Fn(&[OutgoingMessage]) -> SubmitAnswer + Send + Sync>;
pub(crate) type StatusReply =
    Box<dyn Fn(&[AttemptReference]) -> Result<Vec<Standing>, CallFailed> + Send + Sync>;

/// A relay that says what it is told to; when it is told nothing, it accepts.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) replies: Mutex<VecDeque<Reply>>,
    pub(crate) statuses: Mutex<VecDeque<StatusReply>>,
    pub(crate) calls: Mutex<Vec<Vec<OutgoingMessage>>>,
    pub(crate) questions: Mutex<Vec<Vec<AttemptReference>>>,
    /// What it said that its client could not read.
    pub(crate) misread: Mutex<Vec<(SaidHow, Misread)>>,
    /// Intents in the log at the moment of each call.
    pub(crate) intents: Mutex<Vec<usize>>,
    store: Mutex<Option<Arc<MemoryEventStore>>>,
}

impl Scripted {
    pub(crate) fn reply(&self, reply: impl Fn(&[OutgoingMessage]) -> SubmitAnswer + Send + Sync + 'static) {
        self.replies.lock().push_back(Box::new(reply));
    }

    /// Answers the next call with this for every message.
    pub(crate) fn reply_all(&self, answer: MessageAnswer) {
        self.reply(move |messages| SubmitAnswer::all(messages.len(), answer.clone()));
    }

    pub(crate) fn status_all(&self, standing: Standing) {
        self.statuses.lock().push_back(Box::new(move |asked| Ok(vec![standing.clone(); asked.len()])));
    }

    pub(crate) fn called(&self) -> usize {
        self.calls.lock().len()
    }
}

/// That alpha is called with the first message of a lot.
pub(crate) fn intent() -> MessagesSubmitted {
    MessagesSubmitted {
        relay: relay("alpha"),
        attempt: 1,
        messages: [0].into_iter().collect(),
        receipt_by: start() + TimeDelta::hours(1),
        answer_by: None,
        holder: None,
    }
}

pub(crate) fn accepted() -> MessageAnswer {
    MessageAnswer::Accepted { relay_reference: Some("r".into()), duplicate: false }
}

pub(crate) fn refused(code: &str) -> MessageAnswer {
    MessageAnswer::Refused { code: code.into(), general_code: None, text: None }
}

pub(crate) fn lost() -> MessageAnswer {
    MessageAnswer::Unknown { reason: "connection reset".into() }
}

#[async_trait]
impl RelayClient for Scripted {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        let store = self.store.lock().clone();
        if let Some(store) = store {
            let stream = messages[0].reference.message.lot().stream();
            let told = store.read_stream(&stream, 0, 1_000).await.unwrap();
            self.intents.lock().push(told.iter().filter(|one| one.kind == "messages-submitted").count());
        }
        self.calls.lock().push(messages.to_vec());
        match self.replies.lock().pop_front() {
            Some(reply) => reply(messages),
            None => SubmitAnswer::all(messages.len(), accepted()),
        }
    }

    async fn status(
        &self,
        references: &[AttemptReference],
        _now: DateTime<Utc>,
    ) -> Result<Vec<Standing>, CallFailed> {
        self.questions.lock().push(references.to_vec());
        match self.statuses.lock().pop_front() {
            Some(reply) => reply(references),
            None => Ok(vec![Standing::NotFound; references.len()]),
        }
    }

    async fn pull_receipts(&self, _limit: u32) -> Result<PulledReceipts, CallFailed> {
        Ok(PulledReceipts { lease: String::new(), receipts: Vec::new(), misread: Vec::new() })
    }

    async fn acknowledge(&self, _lease: &str) -> Result<(), CallFailed> {
        Ok(())
    }

    fn take_misread(&self) -> Vec<(SaidHow, Misread)> {
        std::mem::take(&mut *self.misread.lock())
    }
}

/// Gives out scripted relays.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) relays: Mutex<BTreeMap<RelayId, Arc<Scripted>>>,
}

impl Script {
    pub(crate) fn relay(&self, id: &str) -> Arc<Scripted> {
        self.relays.lock().entry(relay(id)).or_default().clone()
    }
}

impl Connector for Script {
    fn client(&self, profile: &RelayProfile) -> Result<Arc<dyn RelayClient>, ConnectorError> {
        Ok(self.relay(profile.relay.as_str()))
    }
}

/// Ids that take time, once, when they are told to: that is how long the next append takes.
pub(crate) struct Stalling {
    clock: Arc<ManualClock>,
    seconds: AtomicI64,
}

impl Stalling {
    /// The next append takes so long.
    pub(crate) fn next_takes(&self, seconds: i64) {
        self.seconds.store(seconds, Ordering::SeqCst);
    }
}

impl Ids for Stalling {
    fn next(&self) -> Uuid {
        self.clock.advance(TimeDelta::seconds(self.seconds.swap(0, Ordering::SeqCst)));
        self.clock.next()
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) stalling: Arc<Stalling>,
    pub(crate) store: Arc<MemoryEventStore>,
    pub(crate) journal: Journal,
    pub(crate) lots: Lots,
    pub(crate) directory: Directory,
    pub(crate) manage: Manage,
    pub(crate) queue: Arc<dyn WorkQueue>,
    pub(crate) feeder: QueueFeeder,
    pub(crate) publisher: Publisher,
    pub(crate) workers: Vec<Hired>,
    pub(crate) relays: Relays,
    sendings: u128,
}

impl World {
    /// Relays with scripted answers.
    pub(crate) async fn scripted(profiles: Vec<RelayProfile>) -> (Self, Arc<Script>) {
        let script = Arc::new(Script::default());
        let world = Self::new(profiles, script.clone(), RelaySettings::default()).await;
        for scripted in script.relays.lock().values() {
            *scripted.store.lock() = Some(world.store.clone());
        }
        (world, script)
    }

    pub(crate) async fn new(
        profiles: Vec<RelayProfile>,
        connector: Arc<dyn Connector>,
        settings: RelaySettings,
    ) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let store = Arc::new(MemoryEventStore::new());
        Self::resume(clock, store, profiles, connector, settings).await
    }

    /// A process that finds this log; `profiles` are defined again.
    pub(crate) async fn resume(
        clock: Arc<ManualClock>,
        store: Arc<MemoryEventStore>,
        profiles: Vec<RelayProfile>,
        connector: Arc<dyn Connector>,
        settings: RelaySettings,
    ) -> Self {
        let queue = Arc::new(InProcessQueue::new(QueueLimits::default()));
        let holder = alone(&clock);
        Self::with_queue(queue, holder, clock, store, profiles, connector, settings).await
    }

    /// The same, with this queue, and perhaps not alone.
    pub(crate) async fn with_queue(
        queue: Arc<dyn WorkQueue>,
        holder: LeaseHolder,
        clock: Arc<ManualClock>,
        store: Arc<MemoryEventStore>,
        profiles: Vec<RelayProfile>,
        connector: Arc<dyn Connector>,
        settings: RelaySettings,
    ) -> Self {
        let stalling = Arc::new(Stalling { clock: clock.clone(), seconds: AtomicI64::new(0) });
        let journal = Journal::new(store.clone(), clock.clone(), stalling.clone());
        let journal = match holder.name().as_str() {
            ALONE => journal,
            name => journal.of_node(name).shared(),
        };
        let lots = Lots::new(journal.clone(), 100_000);
        let directory = Directory::default();
        directory.catch_up(&journal).await.unwrap();
        let manage = Manage::new(journal.clone(), directory.clone(), Arc::new(|| [1; 32]));
        let feeder = QueueFeeder::new(lots.clone(), queue.clone());
        let cause = Cause::new("test", Uuid::from_u128(1));
        let ids: Vec<RelayId> = profiles.iter().map(|profile| profile.relay.clone()).collect();
        for profile in profiles {
            manage.define_relay(&cause, profile).await.unwrap();
        }
        for (address, kind) in [("0212345678", SenderKind::Phone), ("info@kite.example", SenderKind::Email)] {
            let event = approved(address, kind, &ids);
            let stream = kite_domain::sender::stream(address);
            append(&journal, stream.as_str(), vec![event.into()], Expected::Any).await;
        }
        directory.catch_up(&journal).await.unwrap();
        let parts = RelayParts {
            lots: lots.clone(),
            directory: directory.clone(),
            manage: manage.clone(),
            receipts: ReceiptBook::new(lots.clone(), directory.clone()),
            queue: queue.clone(),
            feeder: feeder.clone(),
            connector,
            holder,
            awaited: Awaited::default(),
            panics: Arc::new(|_| {}),
            settings,
        };
        let mut relays = Relays::new(parts);
        let workers = relays.reconcile().await;
        let head = *store.head().borrow();
        let publisher = Publisher::new(feeder.clone(), head);
        Self {
            clock,
            stalling,
            store,
            journal,
            lots,
            directory,
            manage,
            queue,
            feeder,
            publisher,
            workers,
            relays,
            sendings: 100,
        }
    }

    /// Accepts, seals and routes a lot.
    pub(crate) async fn send(&mut self, sent: Sent<'_>) -> LotId {
        self.sendings += 1;
        let sending = SendingId(Uuid::from_u128(self.sendings));
        let lot = LotId { sending, number: 0 };
        let seqs = || (0..sent.to.len() as u32).collect();
        let recipient = |to: &String| Recipient {
            to: to.as_str().into(),
            email: None,
            contact: None,
            reference: None,
            variables: BTreeMap::new(),
        };
        let group = TypeGroup {
            message_type: sent.channel,
            parts: sent.parts,
            reach: (sent.channel != MessageType::Email).then_some(PhoneKind::KoreanMobile),
            messages: seqs(),
        };
        let accepted = LotAccepted {
            sending,
            tenant: tenant(),
            class: sent.class,
            number: 0,
            groups: vec![group],
            personal: LotPersonal { recipients: sent.to.iter().map(recipient).collect() },
        };
        let ad = AdTerms { window: WindowAction::Hold, night_consent: false, brands: vec![] };
        let terms = SendingAccepted {
            sending,
            class: sent.class,
            messages: sent.to.len() as u32,
            failover: sent.failover,
            expires_at: start() + sent.lifetime,
            ad: (sent.class == MessageClass::Ad).then_some(ad),
            ..terms()
        };
        let route = RouteSet {
            relay: relay(sent.relay),
            channel: sent.channel,
            attempt: 1,
            messages: seqs(),
            fallbacks: sent.fallbacks.iter().map(|id| relay(id)).collect(),
            price_milliwon: 9_000,
            bills: BillingMoment::Delivered,
            reason: "test".to_owned(),
        };
        let cause = Cause::new("test", Uuid::from_u128(1)).in_trace(sent.traceparent);
        append_for(&self.journal, &sending.stream(), vec![terms.into()], Expected::Version(0), cause).await;
        let routed = MessagesRouted { routes: vec![route], splits: Vec::new() };
        append(&self.journal, &lot.stream(), vec![accepted.into(), routed.into()], Expected::Version(0))
            .await;
        lot
    }

    /// Steps everybody until nobody has anything to do; returns when the next thing is due.
    pub(crate) async fn settle(&mut self) -> Option<DateTime<Utc>> {
        for _ in 0..10_000 {
            let mut next = None;
            let mut has_worked = false;
            let workers = std::iter::once(&mut self.publisher as &mut dyn Worker)
                .chain(self.workers.iter_mut().map(|hired| &mut *hired.worker as &mut dyn Worker));
            for worker in workers {
                match worker.step().await {
                    Ok(Step::Worked) => has_worked = true,
                    Ok(Step::Idle(until)) => next = super::earlier(next, until),
                    Err(WorkerError::Retry(_)) => {}
                    Err(WorkerError::Fatal(reason)) => panic!("{reason}"),
                }
            }
            if !has_worked {
                return next;
            }
        }
        panic!("they never come to rest");
    }

    /// Lets time pass from one thing that is due to the next until the condition holds.
    pub(crate) async fn run_until(&mut self, what: &str, done: impl Fn(&Message) -> bool, lot: LotId) {
        for _ in 0..200 {
            let next = self.settle().await;
            if self.messages(lot).await.iter().all(&done) {
                return;
            }
            let now = self.clock.now();
            self.clock.set(next.unwrap_or(now).max(now + TimeDelta::milliseconds(1)));
        }
        panic!("{what}: {:?}", self.messages(lot).await);
    }

    pub(crate) async fn messages(&self, lot: LotId) -> Vec<Message> {
        self.lots
            .read(lot, |lot, _| lot.messages().map(|(_, message)| message.clone()).collect())
            .await
            .unwrap()
    }

    /// The lot's events, without acceptance and route.
    pub(crate) async fn events(&self, lot: LotId) -> Vec<Event> {
        let told = self.journal.read_stream(&lot.stream(), 2).await.unwrap();
        told.into_iter().map(|told| told.event).collect()
    }

    pub(crate) async fn kinds(&self, lot: LotId) -> Vec<&'static str> {
        self.events(lot).await.iter().map(Event::kind).collect()
    }
}

/// The name of the only process.
const ALONE: &str = "alone";

/// A process that shares nothing.
pub(crate) fn alone(clock: &Arc<ManualClock>) -> LeaseHolder {
    let leases = Arc::new(InProcessLeases::of_one_process(clock.clone()));
    LeaseHolder::new(leases, ALONE, clock.clone())
}

/// How long the senders are approved.
pub(crate) const APPROVED_DAYS: i64 = 3_000;

/// A sender that may send for years.
pub(crate) fn approved(address: &str, kind: SenderKind, relays: &[RelayId]) -> SenderApproved {
    let terms = SenderTerms {
        address: address.into(),
        kind,
        brand: None,
        refusal_number: None,
        relays: relays.to_vec(),
    };
    let expires_at = start() + TimeDelta::days(APPROVED_DAYS);
    SenderApproved { tenant: tenant(), terms, document: "test".to_owned(), expires_at, shared: false }
}

pub(crate) async fn append(journal: &Journal, stream: &str, events: Vec<Event>, expected: Expected) {
    append_for(journal, stream, events, expected, Cause::new("test", Uuid::from_u128(1))).await;
}

async fn append_for(journal: &Journal, stream: &str, events: Vec<Event>, expected: Expected, cause: Cause) {
    let entry = Entry { stream: stream.into(), expected, tenant: Some(tenant()), cause, events };
    journal.append_one(entry).await.unwrap();
}

pub(crate) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("010{:08}", 10_000_000 + number)).collect()
}
