//! Everything small that the write side must know before it decides: relays, policies, senders, templates, tenants and
//! their keys, and who has refused advertisements. Folded from the log, kept in memory.
//!
//! Whoever writes such a thing reads on from the log before answering, so that the next request sees it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::ids::TemplateId;
use kite_domain::lot::RoutingContext;
use kite_domain::mutation::{self, Mutation};
use kite_domain::policy::{PolicyDefined, WeightsAdvised};
use kite_domain::relay::RelayDirectory;
use kite_domain::sender::SenderRegistered;
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::template::TemplateSaved;
use kite_domain::tenant::{ApiKeyIssued, LimitsInForce, TenantCreated, TenantLimits};
use kite_domain::text::Channel;
use kite_event_store::{Filter, Position};
use parking_lot::RwLock;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::watch;

use crate::journal::{Journal, JournalError};
use crate::worker::{Step, Worker, WorkerError};

/// The event types that the directory is folded from.
const KINDS: [&str; 20] = [
    "tenant-created",
    "tenant-limits-set",
    "api-key-issued",
    "api-key-revoked",
    "relay-defined",
    "relay-suspended",
    "relay-resumed",
    "relay-breaker-changed",
    "relay-unattended",
    "relay-attended",
    "relay-code-classed",
    "relay-code-unclassed",
    "policy-defined",
    "weights-advised",
    "sender-registered",
    "sender-withdrawn",
    "opt-out-recorded",
    "opt-out-withdrawn",
    "template-saved",
    "template-deleted",
];

const PAGE: usize = 1_000;

/// A tenant's policy for a channel, and the newest advice under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyState {
    /// The newest version.
    pub defined: PolicyDefined,
    /// The newest weights from live figures; none for a ratio, or before the first.
    pub advised: Option<WeightsAdvised>,
}

/// A sender identity as it stands. Withdrawn ones are absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderState {
    /// The newest registration.
    pub registered: SenderRegistered,
}

/// The directory at one moment.
#[derive(Debug, Clone, Default)]
pub struct DirectoryState {
    /// All relays.
    pub relays: RelayDirectory,
    /// Policies by tenant and channel.
    pub policies: HashMap<(TenantId, Channel), PolicyState>,
    /// Advice for channels without a policy, by tenant and channel.
    pub default_advice: HashMap<(TenantId, Channel), WeightsAdvised>,
    /// Senders by tenant and canonical address.
    pub senders: HashMap<(TenantId, SmolStr), SenderState>,
    /// Templates by tenant and id.
    pub templates: HashMap<(TenantId, TemplateId), TemplateSaved>,
    /// Tenants by id.
    pub tenants: BTreeMap<TenantId, TenantCreated>,
    /// What tenants may have and do at once, where an operator has set it.
    pub limits: HashMap<TenantId, TenantLimits>,
    /// Live keys by their public part.
    pub api_keys: HashMap<SmolStr, ApiKeyIssued>,
}

impl DirectoryState {
    /// The relays that a sender is registered with; none: the sender is not known.
    pub fn sender_relays(&self, tenant: &TenantId, address: Option<&str>) -> &[RelayId] {
        address
            .and_then(|address| self.senders.get(&(tenant.clone(), SmolStr::from(address))))
            .map_or(&[], |sender| &sender.registered.relays)
    }

    /// The limits that count for a tenant.
    pub fn limits_of(&self, tenant: &TenantId, default: &LimitsInForce) -> LimitsInForce {
        self.limits.get(tenant).map_or(*default, |limits| limits.or(default))
    }

    /// The world as a lot of this sending decides in it.
    pub fn routing_context(&self, terms: &SendingAccepted, now: DateTime<Utc>) -> RoutingContext<'_> {
        self.routing_context_of(&terms.tenant, terms.from_phone.as_deref(), terms.from_email.as_deref(), now)
    }

    /// [`DirectoryState::routing_context`] for a sending that is not accepted yet.
    pub fn routing_context_of(
        &self,
        tenant: &TenantId,
        from_phone: Option<&str>,
        from_email: Option<&str>,
        now: DateTime<Utc>,
    ) -> RoutingContext<'_> {
        RoutingContext {
            directory: &self.relays,
            phone_relays: self.sender_relays(tenant, from_phone),
            email_relays: self.sender_relays(tenant, from_email),
            now,
        }
    }

    /// Folds an event; those that say nothing of such things leave it as it is.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::TenantCreated(created) => {
                self.tenants.insert(created.tenant.clone(), created.clone());
            }
            Event::TenantLimitsSet(set) => {
                self.limits.insert(set.tenant.clone(), set.limits);
            }
            Event::ApiKeyIssued(issued) => {
                self.api_keys.insert(issued.key_id.clone(), issued.clone());
            }
            Event::ApiKeyRevoked(revoked) => {
                self.api_keys.remove(&revoked.key_id);
            }
            Event::PolicyDefined(defined) => {
                let key = (defined.tenant.clone(), defined.channel);
                if mutation::is_active(Mutation::NewPolicyUnheeded) && self.policies.contains_key(&key) {
                    return;
                }
                self.policies.insert(key, PolicyState { defined: defined.clone(), advised: None });
            }
            Event::WeightsAdvised(advised) => {
                let key = (advised.tenant.clone(), advised.channel);
                match self.policies.get_mut(&key) {
                    Some(policy) if policy.defined.version == advised.version => {
                        policy.advised = Some(advised.clone());
                    }
                    Some(_) => {}
                    None => {
                        self.default_advice.insert(key, advised.clone());
                    }
                }
            }
            Event::SenderRegistered(registered) => {
                let key = (registered.tenant.clone(), registered.address.clone());
                self.senders.insert(key, SenderState { registered: registered.clone() });
            }
            Event::SenderWithdrawn(withdrawn) => {
                self.senders.remove(&(withdrawn.tenant.clone(), withdrawn.address.clone()));
            }
            Event::TemplateSaved(saved) => {
                self.templates.insert((saved.tenant.clone(), saved.template), saved.clone());
            }
            Event::TemplateDeleted(deleted) => {
                self.templates.remove(&(deleted.tenant.clone(), deleted.template));
            }
            other => {
                self.relays.evolve(other);
            }
        }
    }
}

/// The directory. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    state: RwLock<Arc<DirectoryState>>,
    opt_outs: RwLock<HashMap<TenantId, HashSet<SmolStr>>>,
    /// Held while reading on, so that events are folded once and in order.
    position: tokio::sync::Mutex<Position>,
    changes: watch::Sender<u64>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: RwLock::default(),
                opt_outs: RwLock::default(),
                position: tokio::sync::Mutex::new(0),
                changes: watch::Sender::new(0),
            }),
        }
    }
}

impl Directory {
    /// The directory now. It does not change under the reader.
    pub fn snapshot(&self) -> Arc<DirectoryState> {
        self.inner.state.read().clone()
    }

    /// Whether the address has refused the tenant's advertisements.
    pub fn has_opted_out(&self, tenant: &TenantId, address: &str) -> bool {
        self.inner.opt_outs.read().get(tenant).is_some_and(|refused| refused.contains(address))
    }

    /// Moves whenever the directory changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Reads on from the log to its present end. Answers whether anything was new.
    pub async fn catch_up(&self, journal: &Journal) -> Result<bool, JournalError> {
        let filter = Filter::kinds(KINDS);
        let mut position = self.inner.position.lock().await;
        let mut has_news = false;
        loop {
            let (told, next) = journal.read_all(*position, PAGE, &filter).await?;
            // A page may be empty although there is more: only a position that does not move is the end.
            let is_end = next == *position;
            self.fold(told.iter().map(|told| &told.event));
            has_news |= !told.is_empty();
            *position = next;
            if is_end {
                break;
            }
        }
        if has_news {
            self.inner.changes.send_modify(|count| *count += 1);
        }
        Ok(has_news)
    }

    fn fold<'e>(&self, events: impl Iterator<Item = &'e Event>) {
        let mut changed: Option<DirectoryState> = None;
        for event in events {
            match event {
                Event::OptOutRecorded(recorded) => {
                    let mut opt_outs = self.inner.opt_outs.write();
                    let refused = opt_outs.entry(recorded.tenant.clone()).or_default();
                    refused.insert(recorded.personal.address.clone());
                }
                Event::OptOutWithdrawn(withdrawn) => {
                    if let Some(refused) = self.inner.opt_outs.write().get_mut(&withdrawn.tenant) {
                        refused.remove(&withdrawn.personal.address);
                    }
                }
                other => {
                    changed.get_or_insert_with(|| (**self.inner.state.read()).clone()).evolve(other);
                }
            }
        }
        if let Some(state) = changed {
            *self.inner.state.write() = Arc::new(state);
        }
    }
}

/// Keeps the directory of a process up to date with what other processes write.
pub struct DirectoryFeed {
    directory: Directory,
    journal: Journal,
}

impl DirectoryFeed {
    /// Feeds this directory.
    pub fn new(directory: Directory, journal: Journal) -> Self {
        Self { directory, journal }
    }
}

#[async_trait]
impl Worker for DirectoryFeed {
    fn name(&self) -> &str {
        "directory"
    }

    async fn step(&mut self) -> Result<Step, WorkerError> {
        match self.directory.catch_up(&self.journal).await {
            Ok(true) => Ok(Step::Worked),
            Ok(false) => Ok(Step::Idle(None)),
            Err(error) => Err(error.into()),
        }
    }
}
