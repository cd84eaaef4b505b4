//! What handlers work with. Built once by the owner of the API; nothing here starts a task or opens a file.

use async_trait::async_trait;
use axum::http::HeaderMap;
use kite_commands::accept::Acceptance;
use kite_commands::backup_desk::BackupDesk;
use kite_commands::directory::DirectoryState;
use kite_commands::event_store::LogIndex;
use kite_commands::manage::Unextended;
use kite_commands::refusal_keeper;
use kite_commands::relay_desk::RelayDesk;
use kite_commands::trace::{self, Current};
use kite_commands::{Cause, WriteSide, describe};
use kite_domain::advice::AdviceSettings;
use kite_domain::contact::ContactDetails;
use kite_domain::opt_out::Refusals;
use kite_domain::slug::TenantId;
use kite_projections::{Bond, ReadModels};
use smol_str::SmolStr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Budgets, HeldBody};
use crate::clients::Clients;
use crate::config::ApiConfig;
use crate::files_under_way::Exports;
use crate::freshness::{Freshness, Model};
use crate::own_writes::Writer;
use crate::problem::{Answer, Code, Problem};
use crate::seen_calls::SeenCalls;
use crate::traced::goes_along;

/// One thing that must hold before requests are sent here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessCheck {
    /// The name of the check, in a word that anybody may read.
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

    /// Why no new sendings and no files of contacts and refusals are accepted; none: they are. Work in progress must
    /// still find room for its results.
    fn turns_away(&self) -> Option<String> {
        None
    }
}

/// A refusal of what would take room on the disk, when there is hardly any.
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
    /// The present state of the relays, and checks of them.
    pub relay_desk: Arc<dyn RelayDesk>,
    /// What can be done about backups.
    pub backups: Arc<dyn BackupDesk>,
    /// Where reads come from.
    pub read_models: ReadModels,
    /// Where the log is looked up by correlation and time.
    pub log_index: Arc<dyn LogIndex>,
    /// All metrics of the process as Prometheus text.
    pub metrics_text: Arc<dyn Fn() -> String + Send + Sync>,
    /// Further conditions for the process to be ready.
    pub readiness: Arc<dyn Readiness>,
    /// The settings of recommendations.
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
    freshness: Freshness,
    /// Where the log ended when this process began.
    began_at: u64,
}

impl Deref for ApiState {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0.parts
    }
}

/// Requests with larger bodies are worked on in the background.
const SHORT_BYTES_MAX: usize = 8 << 10;

impl ApiState {
    /// Ready to serve.
    pub fn new(parts: ApiParts) -> Self {
        let budgets = Budgets::new(&parts.config);
        let store = parts.write_side.journal.store().clone();
        let began_at = *store.head().borrow();
        let read_wait = Duration::from_millis(parts.config.read_wait_ms);
        let freshness = Freshness::new(parts.read_models.clone(), store, read_wait);
        Self(Arc::new(Shared {
            parts,
            budgets,
            seen_calls: SeenCalls::default(),
            exports: Exports::default(),
            freshness,
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

    /// What reads wait for.
    pub(crate) fn freshness(&self) -> &Freshness {
        &self.0.freshness
    }

    /// What is read from the directory holds what the header asks for. What this process itself wrote it always holds.
    pub(crate) async fn know_what_is_asked_for(&self, headers: &HeaderMap) -> Answer<()> {
        let asked = self.0.freshness.asked(headers).await?;
        let journal = &self.write_side.journal;
        if asked > 0 && journal.is_shared() {
            self.write_side.directory.catch_up(journal).await?;
        }
        Ok(())
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

    /// Records that the tenant has written, so that it finds its write.
    pub(crate) fn note_write(&self, tenant: &TenantId, position: u64) {
        self.note_write_of(Writer::Tenant(tenant.clone()), position);
    }

    /// Records that somebody has written. Answers to writes pass through here (`middleware::remembering`).
    pub(crate) fn note_write_of(&self, writer: Writer, position: u64) {
        self.0.freshness.note(writer, position);
    }

    /// Records that the tenant has written to its address book, so that a sending to a group sees it.
    pub(crate) fn note_contact_write(&self, tenant: &TenantId, position: u64) {
        self.note_write(tenant, position);
        self.0.freshness.note_contacts(Writer::Tenant(tenant.clone()), position);
    }

    /// Queries a read model for something of the tenant's. If it is not there, it may have been written a moment ago:
    /// then the query is repeated when the read model holds what this process wrote for the tenant.
    pub(crate) async fn find_own<T: Send + 'static>(
        &self,
        model: Model,
        tenant: &TenantId,
        query: impl Fn(&ReadModels) -> Result<Option<T>, kite_projections::QueryError> + Clone + Send + 'static,
    ) -> Answer<Option<T>> {
        let before = self.0.freshness.position(model);
        let found = self.query(query.clone()).await?;
        let written = self.0.freshness.written(&Writer::Tenant(tenant.clone()));
        if found.is_some() || before >= written {
            return Ok(found);
        }
        self.0.freshness.reached(model, written).await?;
        self.query(query).await
    }

    /// Waits until the address book holds everything that this process wrote for the tenant.
    pub(crate) async fn own_contact_writes(&self, tenant: &TenantId) -> Answer<()> {
        self.0.freshness.own_contacts(&Writer::Tenant(tenant.clone())).await
    }

    /// Makes sure that the log says which addresses the tenant's refusals apply to, by the address book at this
    /// position. If that is not possible now, the refusal keeper does it in a moment.
    pub(crate) async fn extend_refusals(&self, tenant: &TenantId, position: u64) {
        /// What is more is left to the keeper.
        const PORTION: usize = 10_000;
        if self.0.freshness.reached(Model::AddressBook, position).await.is_err() {
            return;
        }
        let owner = tenant.clone();
        let bonds =
            self.query(move |models| models.address_book.unextended_refusals(Some(&owner), PORTION)).await;
        let unextended =
            |bond: Bond| Unextended { tenant: bond.tenant, address: bond.address, other: bond.other };
        let unextended = bonds.unwrap_or_default().into_iter().map(unextended).collect();
        if let Err(error) = refusal_keeper::extend(&self.write_side.manage, unextended).await {
            tracing::warn!(
                error = describe(&error),
                "whom a refusal binds could not be written yet, trying again"
            );
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

    /// Whether one of these contacts belongs to somebody who refuses.
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

    /// Waits until the address book has all contacts that were there before this process.
    pub(crate) async fn contacts_are_counted(&self) -> Answer<()> {
        self.0.freshness.reached(Model::AddressBook, self.0.began_at).await
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
            .map_err(|error| broken(&error))?
            .map_err(Problem::from)
    }

    /// Processes a request: a short one here, one with a large body where it gives way to short ones. The latter is
    /// completed even if nobody waits for the answer any more.
    pub(crate) async fn by_size<T: Send + 'static>(
        &self,
        body: &HeldBody,
        work: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Answer<T> {
        if body.bytes.len() <= SHORT_BYTES_MAX {
            return work.await;
        }
        self.background.spawn(goes_along(work)).await.map_err(|error| broken(&error))?
    }
}

fn broken(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(error = describe(error), "the work for a request ended early");
    Problem::new(Code::Internal, "The work for this request ended early.")
}
