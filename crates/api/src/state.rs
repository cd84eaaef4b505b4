//! What handlers work with. Built once by whoever runs the API; nothing here starts a task or opens a file.

use async_trait::async_trait;
use axum::http::HeaderMap;
use kite_commands::accept::Acceptance;
use kite_commands::backup_desk::BackupDesk;
use kite_commands::directory::DirectoryState;
use kite_commands::event_store::{Filter, LogIndex};
use kite_commands::refusal_keeper::{self, Unextended};
use kite_commands::relay_desk::RelayDesk;
use kite_commands::trace::{self, Current};
use kite_commands::{Cause, WriteSide};
use kite_domain::advice::AdviceSettings;
use kite_domain::contact::ContactDetails;
use kite_domain::opt_out::Refusals;
use kite_domain::slug::TenantId;
use kite_projections::{Bond, ReadModels};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::clients::Clients;
use crate::export::Exports;
use crate::extract::{Budgets, HeldBody};
use crate::own_writes::{OwnWrites, Writer};
use crate::problem::{Answer, Code, Problem};
use crate::routes::receipts::SeenCalls;
use crate::traced::goes_along;

/// SHA-256 of the admin key: all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AdminKeyHash(pub(crate) [u8; 32]);

impl std::fmt::Debug for AdminKeyHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AdminKeyHash(…)")
    }
}

/// What to keep of an admin key.
pub fn hash_admin_key(key: &str) -> AdminKeyHash {
    AdminKeyHash(Sha256::digest(key.as_bytes()).into())
}

/// Bounds and secrets of the API. Every bound has a refusal of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Who may use the admin endpoints; none: nobody.
    #[serde(skip)]
    pub admin_key_hash: Option<AdminKeyHash>,
    /// The most recipients in one request, groups included.
    pub recipients_max: usize,
    /// The largest body of a sending.
    pub sending_body_bytes_max: usize,
    /// The largest CSV file.
    pub import_body_bytes_max: usize,
    /// The largest body of pushed receipts.
    pub receipts_body_bytes_max: usize,
    /// The largest body anywhere else.
    pub body_bytes_max: usize,
    /// The most that all large bodies of tenants together may hold in memory; past it: 503.
    pub bytes_in_flight_max: usize,
    /// The part of it that one tenant may take, per cent; past it: 429. The same holds for each relay and its bytes.
    pub share_per_cent: u8,
    /// The most that all large bodies of operators together may hold in memory; past it: 503.
    pub admin_bytes_in_flight_max: usize,
    /// The most that receipts may hold in memory that come from where genuine ones of the same relay came from before.
    pub receipts_bytes_in_flight_max: usize,
    /// The most that bodies may hold in memory of which nobody knows yet whether they are genuine.
    pub unverified_bytes_in_flight_max: usize,
    /// How long a body may take to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// How long a body may stand still, in milliseconds.
    pub body_stall_timeout_ms: u64,
    /// How long a read waits for a read model to catch up with a position, in milliseconds.
    pub read_wait_ms: u64,
    /// A read model that is further behind than this many positions makes the process not ready.
    pub ready_lag_events_max: u64,
    /// How long a projector may stand still while there is something to read before the process is not ready, in
    /// milliseconds.
    pub ready_standstill_ms_max: u32,
    /// With less room than this on the disk of the data directory the process is not ready and takes no new sendings, so that
    /// the results of what is under way can still be written, in bytes.
    pub ready_free_bytes_min: u64,
    /// With less room than this it says so, in bytes.
    pub ready_free_bytes_warn: u64,
    /// How far back the figures behind a recommendation reach, in minutes.
    pub figures_window_minutes: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            admin_key_hash: None,
            recipients_max: 10_000,
            sending_body_bytes_max: 8 << 20,
            import_body_bytes_max: 16 << 20,
            receipts_body_bytes_max: 4 << 20,
            body_bytes_max: 1 << 20,
            bytes_in_flight_max: 64 << 20,
            share_per_cent: 50,
            admin_bytes_in_flight_max: 8 << 20,
            receipts_bytes_in_flight_max: 32 << 20,
            unverified_bytes_in_flight_max: 16 << 20,
            body_timeout_ms: 30_000,
            body_stall_timeout_ms: 10_000,
            read_wait_ms: 2_000,
            ready_lag_events_max: 100_000,
            ready_standstill_ms_max: 10_000,
            ready_free_bytes_min: 256 << 20,
            ready_free_bytes_warn: 1 << 30,
            figures_window_minutes: 60,
        }
    }
}

/// One thing that must hold before requests are sent here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessCheck {
    /// What is looked at, in a word that anybody may read.
    pub name: String,
    /// Whether it holds.
    pub is_ready: bool,
    /// What was seen, for operators.
    pub detail: String,
}

/// What only the process that runs the API knows about its readiness.
#[async_trait]
pub trait Readiness: Send + Sync + 'static {
    /// Each of the things that must hold.
    async fn checks(&self) -> Vec<ReadinessCheck>;

    /// Why no new sendings and no files of contacts and refusals are taken; none: they are. What is under way must still find room for its results.
    fn turns_away(&self) -> Option<String> {
        None
    }
}

/// A refusal of what would take room, where there is hardly any.
pub(crate) fn has_room(readiness: &dyn Readiness, otherwise: &str) -> Answer<()> {
    match readiness.turns_away() {
        None => Ok(()),
        Some(reason) => Err(Problem::new(Code::NoRoom, format!("{otherwise}: {reason}."))),
    }
}

/// Nothing beyond what the API sees by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysReady;

#[async_trait]
impl Readiness for AlwaysReady {
    async fn checks(&self) -> Vec<ReadinessCheck> {
        Vec::new()
    }
}

/// Everything that the API needs.
pub struct ApiParts {
    /// What is written through.
    pub write_side: WriteSide,
    /// Commands on sendings.
    pub acceptance: Acceptance,
    /// What is seen of the relays at this moment, and what a call of one shows.
    pub relay_desk: Arc<dyn RelayDesk>,
    /// What can be done about backups.
    pub backups: Arc<dyn BackupDesk>,
    /// Where reads come from.
    pub read_models: ReadModels,
    /// Where the log is looked up by correlation and time.
    pub log_index: Arc<dyn LogIndex>,
    /// All metrics of the process as Prometheus text.
    pub metrics_text: Arc<dyn Fn() -> String + Send + Sync>,
    /// What else must hold before the process is ready.
    pub readiness: Arc<dyn Readiness>,
    /// The numbers that recommendations are made with.
    pub advice: AdviceSettings,
    /// Where requests come from.
    pub clients: Clients,
    /// Where long work runs, so that short requests need not wait for it.
    pub background: tokio::runtime::Handle,
    /// Bounds and secrets.
    pub config: ApiConfig,
}

/// What every handler gets. Cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// Behind [`ApiState`].
pub(crate) struct Shared {
    parts: ApiParts,
    budgets: Budgets,
    pub(crate) seen_calls: SeenCalls,
    /// Files that are being written.
    pub(crate) exports: Exports,
    /// Writes of any kind.
    writes: OwnWrites,
    /// Writes to address books.
    contact_writes: OwnWrites,
    /// Where the log ended when this process began.
    began_at: u64,
}

impl Deref for ApiState {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0.parts
    }
}

/// A read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// Contacts, groups, templates, refusals, keys.
    AddressBook,
    /// Sendings and messages.
    Delivery,
    /// Policies and advice.
    Routing,
}

/// Requests with larger bodies are worked on in the background.
const SHORT_BYTES_MAX: usize = 8 << 10;

/// Asks to be answered only from data at least as new as a position: the value of an earlier `kite-position`.
pub(crate) const MIN_POSITION: &str = "kite-min-position";

impl ApiState {
    /// Ready to serve.
    pub fn new(parts: ApiParts) -> Self {
        let budgets = Budgets::new(&parts.config);
        let began_at = *parts.write_side.journal.store().head().borrow();
        Self(Arc::new(Shared {
            parts,
            budgets,
            seen_calls: SeenCalls::default(),
            exports: Exports::default(),
            writes: OwnWrites::default(),
            contact_writes: OwnWrites::default(),
            began_at,
        }))
    }

    /// Whose memory bodies take.
    pub(crate) fn budgets(&self) -> &Budgets {
        &self.0.budgets
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// What an event written for this actor names as its cause.
    pub(crate) fn cause(&self, actor: &SmolStr) -> Cause {
        match trace::current() {
            Some(Current { traceparent, request: Some(id) }) => {
                Cause::new(actor.clone(), id).in_trace(Some(traceparent))
            }
            Some(_) | None => Cause::new(actor.clone(), self.write_side.journal.next_id()),
        }
    }

    /// Remembers that the tenant has written, so that it finds what it wrote.
    pub(crate) fn note_write(&self, tenant: &TenantId, position: u64) {
        self.note_write_of(Writer::Tenant(tenant.clone()), position);
    }

    /// Remembers that somebody has written. Answers to writes come by here (`middleware::remembering`).
    pub(crate) fn note_write_of(&self, writer: Writer, position: u64) {
        self.0.writes.note(writer, position, || self.read_everywhere());
    }

    /// Remembers that the tenant has written to its address book, so that a sending to a group sees it.
    pub(crate) fn note_contact_write(&self, tenant: &TenantId, position: u64) {
        self.note_write(tenant, position);
        let writer = Writer::Tenant(tenant.clone());
        self.0.contact_writes.note(writer, position, || self.position(Model::AddressBook));
    }

    /// Up to where all read models have come that reads wait for.
    fn read_everywhere(&self) -> u64 {
        let models = [Model::AddressBook, Model::Delivery, Model::Routing];
        models.map(|model| self.position(model)).into_iter().min().unwrap_or(0)
    }

    /// Waits until a read model holds everything that somebody wrote through this process. Who did not ask for that is
    /// answered from what there is when it takes too long: a list that is a moment old is of more use than none.
    pub(crate) async fn await_own_writes(&self, model: Model, writer: &Writer) {
        if self.reached(model, self.0.writes.of(writer)).await.is_err() {
            metrics::counter!("kite_own_writes_not_awaited_total").increment(1);
        }
    }

    /// Asks a read model for something of the tenant's. If it is not there, it may have been written a moment ago: then
    /// the question is asked once more when the read model holds what this process wrote for the tenant.
    pub(crate) async fn find_own<T: Send + 'static>(
        &self,
        model: Model,
        tenant: &TenantId,
        query: impl Fn(&ReadModels) -> Result<Option<T>, kite_projections::QueryError> + Clone + Send + 'static,
    ) -> Answer<Option<T>> {
        let before = self.position(model);
        let found = self.query(query.clone()).await?;
        let written = self.0.writes.of(&Writer::Tenant(tenant.clone()));
        if found.is_some() || before >= written {
            return Ok(found);
        }
        self.reached(model, written).await?;
        self.query(query).await
    }

    /// Waits until the address book holds everything that this process wrote for the tenant.
    pub(crate) async fn own_contact_writes(&self, tenant: &TenantId) -> Answer<()> {
        let position = self.0.contact_writes.of(&Writer::Tenant(tenant.clone()));
        self.reached(Model::AddressBook, position).await
    }

    /// Has the log say whom the tenant's refusals bind, as the address book knows people once it is at this position. If
    /// that cannot be had now, the refusal keeper comes by in a moment.
    pub(crate) async fn extend_refusals(&self, tenant: &TenantId, position: u64) {
        /// What is more is left to the keeper.
        const PORTION: usize = 10_000;
        if self.reached(Model::AddressBook, position).await.is_err() {
            return;
        }
        let owner = tenant.clone();
        let bonds =
            self.query(move |models| models.address_book.unextended_refusals(Some(&owner), PORTION)).await;
        let unextended =
            |bond: Bond| Unextended { tenant: bond.tenant, address: bond.address, other: bond.other };
        let unextended = bonds.unwrap_or_default().into_iter().map(unextended).collect();
        if let Err(error) = refusal_keeper::extend(&self.write_side.manage, unextended).await {
            tracing::warn!(%error, "whom a refusal binds could not be written yet, trying again");
        }
    }

    /// Looks something up in the directory; the problem that there is no such thing.
    pub(crate) async fn find<T>(
        &self,
        what: &'static str,
        look: impl Fn(&DirectoryState) -> Option<T>,
    ) -> Answer<T> {
        let WriteSide { directory, journal, .. } = &self.write_side;
        directory.find(journal, look).await?.ok_or_else(|| Problem::not_found(what))
    }

    /// The problem that there is no such tenant, if there is none.
    pub(crate) async fn known_tenant(&self, tenant: &TenantId) -> Answer<()> {
        self.find("tenant", |directory| directory.tenants.contains_key(tenant).then_some(())).await
    }

    /// Whether one of these contacts is of somebody who refuses.
    pub(crate) async fn somebody_refuses(
        &self,
        tenant: &TenantId,
        contacts: &[ContactDetails],
    ) -> Answer<bool> {
        let addresses: Vec<&str> = contacts
            .iter()
            .flat_map(|one| one.phone.iter().chain(&one.email))
            .map(|address| address.as_str())
            .collect();
        let WriteSide { directory, journal, .. } = &self.write_side;
        let look = |refusals: &Refusals| addresses.iter().any(|address| refusals.concerns(address));
        Ok(directory.look_at_refusals(journal, tenant, addresses.iter().copied(), look).await?)
    }

    /// Waits until the address book knows of all contacts that were there before this process.
    pub(crate) async fn contacts_are_counted(&self) -> Answer<()> {
        self.reached(Model::AddressBook, self.0.began_at).await
    }

    /// Waits for what the header `kite-min-position` asks of the address book.
    pub(crate) async fn fresh_address_book(&self, headers: &HeaderMap) -> Answer<()> {
        self.reached(Model::AddressBook, self.min_position(headers).await?).await
    }

    /// Waits for what the header `kite-min-position` asks of the routing read model.
    pub(crate) async fn fresh_routing(&self, headers: &HeaderMap) -> Answer<()> {
        self.reached(Model::Routing, self.min_position(headers).await?).await
    }

    /// Waits for what the header `kite-min-position` asks of the delivery read model.
    pub(crate) async fn fresh_delivery(&self, headers: &HeaderMap) -> Answer<()> {
        self.reached(Model::Delivery, self.min_position(headers).await?).await
    }

    /// What the header `kite-min-position` asks for. What nothing was ever written at is waited for in vain.
    async fn min_position(&self, headers: &HeaderMap) -> Answer<u64> {
        let Some(position) = min_position(headers)? else { return Ok(0) };
        let store = self.write_side.journal.store();
        let head = *store.head().borrow();
        // The head is told a moment after an event can be read.
        let is_beyond = position > head
            && store.read_all(position - 1, 1, &Filter::everything()).await?.events.is_empty();
        if is_beyond {
            let detail =
                format!("The header kite-min-position names position {position}; the log ends at {head}.");
            return Err(Problem::new(Code::InvalidParameter, detail));
        }
        Ok(position)
    }

    /// Waits until a read model is at a position, or says that it is not.
    async fn reached(&self, model: Model, position: u64) -> Answer<()> {
        if self.position(model) >= position {
            return Ok(());
        }
        let wait = Duration::from_millis(self.config.read_wait_ms);
        let models = &self.read_models;
        let is_there = match model {
            Model::AddressBook => models.address_book.wait_for(position, wait).await,
            Model::Delivery => models.delivery.wait_for(position, wait).await,
            Model::Routing => models.routing.wait_for(position, wait).await,
        };
        is_there.then_some(()).ok_or_else(|| lagging(model, position))
    }

    fn position(&self, model: Model) -> u64 {
        match model {
            Model::AddressBook => self.read_models.address_book.position(),
            Model::Delivery => self.read_models.delivery.position(),
            Model::Routing => self.read_models.routing.position(),
        }
    }

    /// Runs a query of a read model where it may block.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&ReadModels) -> Result<T, kite_projections::QueryError> + Send + 'static,
    ) -> Answer<T> {
        let state = self.clone();
        self.background
            .spawn_blocking(move || query(&state.read_models))
            .await
            .map_err(|_| broken())?
            .map_err(Problem::from)
    }

    /// Works on a request: a short one here, one with a large body where it gives way to short ones. The latter is
    /// brought to its end even if nobody waits for the answer any more.
    pub(crate) async fn by_size<T: Send + 'static>(
        &self,
        body: &HeldBody,
        work: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Answer<T> {
        if body.bytes.len() <= SHORT_BYTES_MAX {
            return work.await;
        }
        self.background.spawn(goes_along(work)).await.map_err(|_| broken())?
    }
}

fn broken() -> Problem {
    Problem::new(Code::Internal, "The work for this request ended early.")
}

fn lagging(model: Model, position: u64) -> Problem {
    let name = match model {
        Model::AddressBook => "address book",
        Model::Delivery => "delivery read model",
        Model::Routing => "routing read model",
    };
    Problem::new(Code::NotCaughtUp, format!("The {name} has not reached position {position} yet."))
}

fn min_position(headers: &HeaderMap) -> Answer<Option<u64>> {
    let Some(value) = headers.get(MIN_POSITION) else { return Ok(None) };
    // The document gives positions the range of its integers, which is that of the stores too.
    let position = value.to_str().ok().and_then(|text| text.parse::<i64>().ok());
    let position = position.and_then(|position| u64::try_from(position).ok());
    position.map(Some).ok_or_else(|| {
        Problem::new(
            Code::InvalidParameter,
            "The header kite-min-position must be a position: a whole number.",
        )
    })
}
