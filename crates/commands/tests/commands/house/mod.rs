//! One process of the write side with everything in it, which can be torn down and set up anew on the same log.

mod audit;
mod log_work;
mod requests;

pub(crate) use audit::{first_routes, split_is_exact};
pub(crate) use log_work::LogWork;
pub(crate) use requests::{ad, notice, read_rows, recipients, row};

use chrono::{DateTime, Duration, Utc};
use kite_commands::accept::{
    AcceptError, AcceptLimits, Acceptance, Accepted, BacklogLevel, Earlier, Idempotency, Preview, SendRequest,
};
use kite_commands::clock::ManualClock;
use kite_commands::directory::Directory;
use kite_commands::journal::Told;
use kite_commands::manage::Manage;
use kite_commands::open_work::OpenWork;
use kite_commands::policy::policy_names_in_force;
use kite_commands::receipts::ReceiptBook;
use kite_commands::router::Router;
use kite_commands::timekeeper::Timekeeper;
use kite_commands::{Cause, Journal, Lots, Step, Worker, WriteSide};
use kite_domain::address::PhoneKind;
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{AcceptedMessage, Handover, Lot, RefusedMessage, ResponseNote};
use kite_domain::opt_out::{AdBrands, Refusals, RefusedBy};
use kite_domain::policy::{FailoverTerms, PolicyObjective, RelayWeight};
use kite_domain::relay::*;
use kite_domain::sender::{Approval, SenderKind, SenderTerms};
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::split::SplitKey;
use kite_domain::text::MessageType;
use kite_domain::time_window::NightWindow;
use kite_event_store::Filter;
use parking_lot::Mutex;
use std::sync::Arc;
use uuid::Uuid;

use crate::faulty_store::FaultyStore;

pub(crate) const PHONE: &str = "02-555-0100";
pub(crate) const EMAIL: &str = "news@example.com";

pub(crate) fn relay(name: &str) -> RelayId {
    RelayId::parse(name).unwrap()
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

pub(crate) fn acme() -> TenantId {
    tenant("acme")
}

/// Noon in Seoul.
pub(crate) fn noon() -> DateTime<Utc> {
    "2026-03-02T03:00:00Z".parse().unwrap()
}

pub(crate) fn cause() -> Cause {
    Cause::new("admin", Uuid::nil())
}

pub(crate) fn shares(shares: &[(&str, u32)]) -> PolicyObjective {
    let weights = shares.iter().map(|(name, weight)| RelayWeight { relay: relay(name), weight: *weight });
    PolicyObjective::Ratio { weights: weights.collect() }
}

pub(crate) fn profile(name: &str, channels: &[(MessageType, i64)]) -> RelayProfile {
    let terms = |price_milliwon| ChannelTerms {
        price_milliwon,
        bills: BillingMoment::Delivered,
        receipt_deadline_s: 90_000,
    };
    RelayProfile {
        relay: relay(name),
        name: name.to_owned(),
        endpoint: Endpoint::Http { base_url: "http://relay.invalid".to_owned() },
        channels: channels.iter().map(|(channel, price)| (*channel, terms(*price))).collect(),
        reaches: vec![PhoneKind::KoreanMobile],
        batch_max: 100,
        rate_parts_per_second: None,
        calls_in_flight_max: 2,
        answer_timeout_ms: 5_000,
        deduplicates: true,
        answers_status: true,
        receipts: ReceiptMode::Push,
        codes: "solapi".into(),
        tls: RelayTls::default(),
        credentials: RelayCredentials::default(),
    }
}

pub(crate) struct House {
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) journal: Journal,
    pub(crate) directory: Directory,
    pub(crate) lots: Lots,
    pub(crate) acceptance: Acceptance,
    pub(crate) manage: Manage,
    pub(crate) receipts: ReceiptBook,
    pub(crate) work: Arc<LogWork>,
    pub(crate) backlog: Arc<Mutex<BacklogLevel>>,
    /// Lots that the timekeeper told relay workers about.
    pub(crate) hinted: Arc<Mutex<Vec<LotId>>>,
}

impl House {
    /// An empty log.
    pub(crate) fn empty() -> Self {
        Self::on(Arc::new(FaultyStore::new()), Arc::new(ManualClock::at(noon())))
    }

    /// The same, with another night.
    pub(crate) fn with_night(self, night: NightWindow) -> Self {
        let write_side = WriteSide {
            directory: self.directory.clone(),
            lots: self.lots.clone(),
            manage: self.manage.clone(),
            receipts: self.receipts.clone(),
            ..WriteSide::new(self.journal.clone(), 1, Arc::new(|| [7; 32]))
        };
        let limits = AcceptLimits { night, ..self.acceptance.limits().clone() };
        Self { acceptance: write_side.acceptance(limits, Arc::new(BacklogLevel::default)), ..self }
    }

    fn on(store: Arc<FaultyStore>, clock: Arc<ManualClock>) -> Self {
        let journal = Journal::new(store.clone(), clock.clone(), clock.clone());
        let write_side = WriteSide::new(journal.clone(), 100_000, Arc::new(|| [7; 32]));
        let backlog = Arc::new(Mutex::new(BacklogLevel::default()));
        let gauge = backlog.clone();
        let limits =
            AcceptLimits { recipients_max: 3_000, open_messages_max: 100_000, ..AcceptLimits::default() };
        let acceptance = write_side.acceptance(limits, Arc::new(move || *gauge.lock()));
        let WriteSide { directory, lots, manage, receipts, .. } = write_side;
        Self {
            acceptance,
            manage,
            receipts,
            work: Arc::new(LogWork::new(journal.clone())),
            backlog,
            hinted: Arc::default(),
            store,
            clock,
            journal,
            directory,
            lots,
        }
    }

    /// With relays alpha, beta and gamma for text messages (50/30/20 for acme), mail for e-mail, and acme's senders.
    pub(crate) async fn furnished() -> Self {
        let house = Self::empty();
        for name in ["alpha", "beta", "gamma"] {
            let channels = [(MessageType::Sms, 9_000), (MessageType::Lms, 27_000)];
            house.manage.define_relay(&cause(), profile(name, &channels)).await.unwrap();
        }
        house.manage.define_relay(&cause(), profile("mail", &[(MessageType::Email, 1_000)])).await.unwrap();
        house.move_in("acme").await;
        house
    }

    /// One more tenant, with senders and a policy.
    pub(crate) async fn move_in(&self, name: &str) {
        self.manage.create_tenant(&cause(), tenant(name), name.to_owned()).await.unwrap();
        self.register(name, "025550100", SenderKind::Phone, &["alpha", "beta", "gamma"]).await;
        self.register(name, EMAIL, SenderKind::Email, &["mail"]).await;
        let objective = shares(&[("alpha", 5_000), ("beta", 3_000), ("gamma", 2_000)]);
        self.define_policy(name, objective).await;
    }

    /// A sender is asked for and approved, whoever else has the address.
    pub(crate) async fn register(&self, name: &str, address: &str, kind: SenderKind, relays: &[&str]) {
        let terms = SenderTerms {
            brand: Some("Acme".to_owned()),
            refusal_number: Some("0805550100".into()),
            ..sender_terms(address, kind, relays)
        };
        self.approve(name, terms).await;
    }

    pub(crate) async fn approve(&self, name: &str, terms: SenderTerms) {
        let (address, relays) = (terms.address.clone(), terms.relays.clone());
        self.manage.request_sender(&cause(), &tenant(name), terms).await.unwrap();
        let approval = Approval { relays, shared: true, ..approval(self.journal.now()) };
        self.manage.approve_sender(&cause(), &tenant(name), &address, approval).await.unwrap();
    }

    pub(crate) async fn define_policy(&self, name: &str, objective: PolicyObjective) {
        let failover = FailoverTerms::default();
        self.manage
            .define_policy(&cause(), &tenant(name), MessageType::Sms, objective, failover)
            .await
            .unwrap();
    }

    /// Another process on the same log: nothing is remembered.
    pub(crate) async fn restarted(&self) -> Self {
        let house = Self::on(self.store.clone(), self.clock.clone());
        house.directory.catch_up(&house.journal).await.unwrap();
        house
    }

    /// Who refuses the tenant's advertisements for this address.
    pub(crate) async fn refused_by(&self, tenant: &TenantId, address: &str) -> Option<RefusedBy> {
        let look = |refusals: &Refusals| refusals.refused_by(address, &AdBrands::default());
        self.directory.look_at_refusals(&self.journal, tenant, [address], look).await.unwrap()
    }

    pub(crate) fn router(&self) -> Router {
        Router::new(self.lots.clone(), self.directory.clone(), self.work.clone())
    }

    pub(crate) fn timekeeper(&self) -> Timekeeper {
        let hinted = self.hinted.clone();
        Timekeeper::new(
            self.lots.clone(),
            self.directory.clone(),
            self.work.clone(),
            self.receipts.clone(),
            Arc::new(move |lot| hinted.lock().push(lot)),
        )
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) async fn accept(&self, request: SendRequest) -> Result<Accepted, AcceptError> {
        self.accept_as(&acme(), request).await
    }

    /// As the API asks for it: with where acme's splits stand, and no other's.
    pub(crate) async fn preview(&self, request: &SendRequest) -> Result<Preview, AcceptError> {
        let names = policy_names_in_force(&self.directory.snapshot(), &acme());
        let is_of_acme = |key: &str| {
            let bounds = names.iter().map(|name| SplitKey::bounds(name));
            bounds.into_iter().any(|(first, end)| (first.as_str()..end.as_str()).contains(&key))
        };
        let carries = self.work.router_memory(Vec::new()).await.unwrap().carries;
        let ledger = carries.into_iter().filter(|(key, _)| is_of_acme(key)).collect();
        self.acceptance.preview(&acme(), request, &ledger).await
    }

    async fn accept_as(&self, whose: &TenantId, request: SendRequest) -> Result<Accepted, AcceptError> {
        accept_without_key(&self.acceptance, whose, request).await
    }

    pub(crate) async fn accept_of(&self, name: &str, request: SendRequest) -> Accepted {
        self.accept_as(&tenant(name), request).await.unwrap()
    }

    pub(crate) async fn accept_once(
        &self,
        key: &str,
        body: &str,
        request: SendRequest,
    ) -> Result<Accepted, AcceptError> {
        self.accept_once_of("acme", key, body, request).await
    }

    pub(crate) async fn accept_once_of(
        &self,
        name: &str,
        key: &str,
        body: &str,
        request: SendRequest,
    ) -> Result<Accepted, AcceptError> {
        let whose = tenant(name);
        match self.earlier(&whose, key, body, request.class).await? {
            Earlier::Accepted(accepted) => Ok(accepted),
            Earlier::Nothing(key) => self.acceptance.accept(&cause(), &whose, request, key).await,
        }
    }

    /// Asks about a key.
    pub(crate) async fn earlier(
        &self,
        whose: &TenantId,
        key: &str,
        body: &str,
        class: MessageClass,
    ) -> Result<Earlier, AcceptError> {
        let idempotency = Idempotency { key: key.to_owned(), body_hash: body.to_owned() };
        self.acceptance.earlier(&cause(), whose, class, idempotency).await
    }

    /// The whole log.
    pub(crate) async fn log(&self) -> Vec<Told> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let (told, next) = self.journal.read_all(after, 1_000, &Filter::everything()).await.unwrap();
            all.extend(told);
            if next == after {
                return all;
            }
            after = next;
        }
    }

    /// The events of these types.
    pub(crate) async fn events(&self, kind: &str) -> Vec<Event> {
        let log = self.log().await;
        log.into_iter().map(|told| told.event).filter(|event| event.kind() == kind).collect()
    }

    /// The lot as the log has it.
    pub(crate) async fn lot(&self, sending: SendingId, number: u32) -> Lot {
        let told = self.journal.read_stream(&LotId { sending, number }.stream(), 0).await.unwrap();
        Lot::fold(told.iter().map(|told| &told.event)).unwrap()
    }

    /// Hands every message that is pending at its relay over, as a relay worker would; answers how many.
    pub(crate) async fn hand_over(&self, sending: SendingId, number: u32) -> usize {
        let id = LotId { sending, number };
        let now = self.journal.now();
        let directory = self.directory.snapshot();
        let actor = "worker".into();
        let mut count = 0;
        for set in self.lot(sending, number).await.pending() {
            let submitted = self
                .lots
                .change_one(id, &actor, |lot, sending| {
                    let handover = Handover {
                        is_asked_again: false,
                        relay: &set.relay,
                        attempt: set.attempt,
                        is_cancelled: sending.is_cancelled,
                        is_paused: sending.is_paused,
                        receipt_deadline: Duration::hours(25),
                        answer_by: now + chrono::TimeDelta::seconds(15),
                        holder: None,
                        closed_until: &|_| None,
                        unsendable: &|channel| directory.unsendable(&sending.terms, channel, now),
                        has_opted_out: &|_| false,
                        context: &directory.routing_context(&sending.terms, now),
                        now,
                    };
                    let submission = lot.submit(&sending.terms, &set.messages, &handover);
                    (submission.events, submission.messages)
                })
                .await
                .unwrap();
            count += submitted.len();
        }
        count
    }

    /// Every relay answers every call: accepted, or refused with this code's class.
    pub(crate) async fn respond(
        &self,
        sending: SendingId,
        number: u32,
        name: &str,
        attempt: u16,
        note: ResponseNote,
    ) {
        let directory = self.directory.snapshot();
        let now = self.journal.now();
        let id = LotId { sending, number };
        self.lots
            .change_one(id, &"worker".into(), |lot, sending| {
                let context = directory.routing_context(&sending.terms, now);
                (lot.respond(&sending.terms, &relay(name), attempt, note.clone(), &context), ())
            })
            .await
            .unwrap();
    }

    /// Accepted, routed and handed over: the sending, and which relay has which message of its first lot.
    pub(crate) async fn handed_over(&self, messages: u32) -> (SendingId, Vec<(RelayId, SeqSet)>) {
        let sending = self.accept(notice(recipients(messages))).await.unwrap().sending;
        work_off(&mut self.router()).await;
        let sets =
            self.lot(sending, 0).await.pending().into_iter().map(|set| (set.relay, set.messages)).collect();
        assert_eq!(self.hand_over(sending, 0).await, messages as usize);
        (sending, sets)
    }
}

/// A sender without anything that an advertisement needs.
pub(crate) fn sender_terms(address: &str, kind: SenderKind, relays: &[&str]) -> SenderTerms {
    SenderTerms {
        address: address.into(),
        kind,
        brand: None,
        refusal_number: None,
        relays: relays.iter().map(|name| relay(name)).collect(),
    }
}

/// An approval at alpha for a thousand days.
pub(crate) fn approval(now: DateTime<Utc>) -> Approval {
    let expires_at = now + Duration::days(1_000);
    Approval {
        document: "test".to_owned(),
        expires_at,
        relays: vec![relay("alpha")],
        shared: false,
        requested_at: None,
    }
}

pub(crate) fn accepted(messages: &SeqSet) -> ResponseNote {
    let accepted = messages.iter().map(|seq| AcceptedMessage { seq, relay_reference: None }).collect();
    ResponseNote { call_ms: Some(5), accepted, ..ResponseNote::default() }
}

pub(crate) fn refused(messages: &SeqSet, class: kite_domain::failure::FailureClass) -> ResponseNote {
    let one = |seq| RefusedMessage { seq, code: "code".into(), class, text: None };
    ResponseNote { call_ms: Some(5), refused: messages.iter().map(one).collect(), ..ResponseNote::default() }
}

/// Steps until there is nothing to do now.
pub(crate) async fn work_off(worker: &mut dyn Worker) {
    for _ in 0..10_000 {
        if let Step::Idle(_) = worker.step().await.unwrap() {
            return;
        }
    }
    panic!("{} does not come to an end", worker.name());
}

/// As the API accepts a request without a key.
pub(crate) async fn accept_without_key(
    acceptance: &Acceptance,
    whose: &TenantId,
    request: SendRequest,
) -> Result<Accepted, AcceptError> {
    let open = acceptance.without_key(whose, request.class).await?;
    acceptance.accept(&cause(), whose, request, open).await
}
