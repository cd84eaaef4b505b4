//! Everything small that the write side must know before it decides: relays, policies, senders, templates, tenants and
//! their keys, and who has refused advertisements. Folded from the log, kept in memory.
//!
//! Whoever writes such a thing reads on from the log before answering, so that the next request sees it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_domain::breaker::{BreakerChange, LoggedBreaker};
use kite_domain::event::Event;
use kite_domain::ids::TemplateId;
use kite_domain::instance::Standing;
use kite_domain::keys::{KeyUse, OperatorKeyIssued};
use kite_domain::lot::RoutingContext;
use kite_domain::mutation::{self, Mutation};
use kite_domain::opt_out::{
    AdBrands, OptOutExtended, OptOutRecorded, OptOutWithdrawn, Refusals, RefusedBy, brand_identity,
};
use kite_domain::policy::{PolicyDefined, WeightsAdvised};
use kite_domain::relay::RelayDirectory;
use kite_domain::sender::{Envelope, SaidBy, SenderStatus, SenderTerms, Senders};
use kite_domain::sending::{SendingAccepted, sender};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::template::TemplateSaved;
use kite_domain::tenant::{ApiKeyIssued, LimitsInForce, TenantCreated, TenantLimits};
use kite_domain::text::Channel;
use kite_event_store::{Filter, Position, RecordedEvent};
use parking_lot::RwLock;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio::sync::{MutexGuard, watch};

use crate::journal::{Journal, JournalError, Told};
use crate::key_use::LiveKey;
use crate::worker::{Step, Worker, WorkerError};

/// The event types that the directory is folded from.
const KINDS: [&str; 31] = [
    "tenant-created",
    "tenant-limits-set",
    "api-key-issued",
    "api-key-revoked",
    "operator-key-issued",
    "operator-key-revoked",
    "keys-used",
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
    "sender-requested",
    "sender-approved",
    "sender-refused",
    "sender-expired",
    "sender-withdrawn",
    "opt-out-recorded",
    "opt-out-withdrawn",
    "opt-out-extended",
    "template-saved",
    "template-deleted",
    "instance-copied",
    "instance-released",
    "instance-settled",
];

const PAGE: usize = 1_000;
/// What was read so lately is current where several processes write.
const CURRENT_MS: i64 = 1_000;

/// A tenant's policy for a channel, and the newest advice under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyState {
    /// The newest version.
    pub defined: PolicyDefined,
    /// The newest weights from live figures; none for a ratio, or before the first.
    pub advised: Option<WeightsAdvised>,
}

/// Where the stream of a tenant's policy for a channel ends, as far as it is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyTail {
    /// How many events it holds: what is decided on them is appended after exactly these, or not at all.
    pub version: u64,
    /// How many of them are advice.
    pub advices: u32,
}

/// The directory at one moment.
#[derive(Debug, Clone, Default)]
pub struct DirectoryState {
    /// Whether this log is a copy of one that may be at work.
    pub instance: Standing,
    /// All relays.
    pub relays: RelayDirectory,
    /// The breakers that have ever changed, as the log has them.
    pub breakers: HashMap<RelayId, LoggedBreaker>,
    /// Policies by tenant and channel.
    pub policies: HashMap<(TenantId, Channel), PolicyState>,
    /// Advice for channels without a policy, by tenant and channel.
    pub default_advice: HashMap<(TenantId, Channel), WeightsAdvised>,
    /// The streams of policies, by tenant and channel.
    pub policy_tails: HashMap<(TenantId, Channel), PolicyTail>,
    /// Sender identities, by address.
    pub senders: Senders,
    /// Templates by tenant and id.
    pub templates: HashMap<(TenantId, TemplateId), TemplateSaved>,
    /// Tenants by id.
    pub tenants: BTreeMap<TenantId, TenantCreated>,
    /// What tenants may have and do at once, where an operator has set it.
    pub limits: HashMap<TenantId, TenantLimits>,
    /// Live keys by their public part.
    pub api_keys: HashMap<SmolStr, Arc<LiveKey<ApiKeyIssued>>>,
    /// Live keys of operators by their public part.
    pub operator_keys: HashMap<SmolStr, Arc<LiveKey<OperatorKeyIssued>>>,
    /// When keys that are revoked were last used, those that ever were, by their public part.
    pub last_uses: HashMap<SmolStr, DateTime<Utc>>,
}

impl DirectoryState {
    /// What a sender may send with now; none: there is no such sender, or it is not approved.
    pub fn sends_with(
        &self,
        tenant: &TenantId,
        address: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<&SenderTerms> {
        self.senders.identity(tenant, address?)?.sends_with(now).ok()
    }

    /// The relays that a sender may send through now.
    fn sender_relays(&self, tenant: &TenantId, address: Option<&str>, now: DateTime<Utc>) -> &[RelayId] {
        self.sends_with(tenant, address, now).map_or(&[], |terms| &terms.relays)
    }

    /// Why a sending's sender on a channel may not send now, in one word; none: it may.
    pub fn unsendable(
        &self,
        terms: &SendingAccepted,
        channel: Channel,
        now: DateTime<Utc>,
    ) -> Option<&'static str> {
        // A sending without one for the channel has no text for it either: that is found out where it is written.
        let address = sender(terms, channel)?;
        match self.senders.identity(&terms.tenant, address) {
            Some(identity) => identity.sends_with(now).err().map(SenderStatus::code),
            None => Some(SenderStatus::UNKNOWN),
        }
    }

    /// Whether one of the tenant's senders has this brand, had it, or is asked for with it.
    pub fn has_brand(&self, tenant: &TenantId, brand: &str) -> bool {
        let brand = brand_identity(brand);
        let mut senders = self.senders.iter().filter(|(_, owner, _)| *owner == tenant);
        senders.any(|(_, _, sender)| sender.brands().any(|own| brand_identity(own) == brand))
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
            phone_relays: self.sender_relays(tenant, from_phone, now),
            email_relays: self.sender_relays(tenant, from_email, now),
            now,
        }
    }

    fn keep_last_use(&mut self, key_id: &SmolStr, at: Option<DateTime<Utc>>) {
        if let Some(at) = at {
            let last = self.last_uses.entry(key_id.clone()).or_insert(at);
            *last = at.max(*last);
        }
    }

    /// When a key was last used, revoked or not; none: never, as far as is known.
    pub fn last_used_at(&self, key_id: &SmolStr) -> Option<DateTime<Utc>> {
        let of_tenant = self.api_keys.get(key_id).and_then(|key| key.last_used_at());
        let of_operator = self.operator_keys.get(key_id).and_then(|key| key.last_used_at());
        of_tenant.or(of_operator).or_else(|| self.last_uses.get(key_id).copied())
    }

    /// Folds an event; those that say nothing of such things leave it as it is. Those of senders go to [`Senders::evolve`].
    pub fn evolve(&mut self, event: &Event, envelope: &Envelope<'_>) {
        match event {
            Event::TenantCreated(created) => {
                self.tenants.insert(created.tenant.clone(), created.clone());
            }
            Event::TenantLimitsSet(set) => {
                self.limits.insert(set.tenant.clone(), set.limits);
            }
            Event::ApiKeyIssued(issued) => {
                self.api_keys.insert(issued.key_id.clone(), Arc::new(LiveKey::new(issued.clone())));
            }
            Event::ApiKeyRevoked(revoked) => {
                let key = self.api_keys.remove(&revoked.key_id);
                self.keep_last_use(&revoked.key_id, key.and_then(|key| key.last_used_at()));
            }
            Event::OperatorKeyIssued(issued) => {
                self.operator_keys.insert(issued.key_id.clone(), Arc::new(LiveKey::new(issued.clone())));
            }
            Event::OperatorKeyRevoked(revoked) => {
                let key = self.operator_keys.remove(&revoked.key_id);
                self.keep_last_use(&revoked.key_id, key.and_then(|key| key.last_used_at()));
            }
            Event::KeysUsed(used) => {
                for KeyUse { key_id, at } in &used.uses {
                    let is_live =
                        self.api_keys.contains_key(key_id) || self.operator_keys.contains_key(key_id);
                    // What was used before it was revoked may be told after that.
                    if !is_live {
                        self.keep_last_use(key_id, Some(*at));
                    }
                    self.api_keys.get(key_id).inspect(|key| key.record(*at));
                    self.operator_keys.get(key_id).inspect(|key| key.record(*at));
                }
            }
            Event::PolicyDefined(defined) => {
                let key = (defined.tenant.clone(), defined.channel);
                self.policy_tails.entry(key.clone()).or_default().version = envelope.version;
                if mutation::is_active(Mutation::NewPolicyUnheeded) && self.policies.contains_key(&key) {
                    return;
                }
                self.policies.insert(key, PolicyState { defined: defined.clone(), advised: None });
            }
            Event::WeightsAdvised(advised) => {
                let key = (advised.tenant.clone(), advised.channel);
                let tail = self.policy_tails.entry(key.clone()).or_default();
                *tail = PolicyTail { version: envelope.version, advices: tail.advices + 1 };
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
            Event::TemplateSaved(saved) => {
                self.templates.insert((saved.tenant.clone(), saved.template), saved.clone());
            }
            Event::TemplateDeleted(deleted) => {
                self.templates.remove(&(deleted.tenant.clone(), deleted.template));
            }
            Event::RelayBreakerChanged(changed) => {
                self.relays.evolve(event);
                let (from, to, until) = (changed.from, changed.to, changed.until);
                let change =
                    BreakerChange { from, to, reason: changed.reason.clone(), at: envelope.by.at, until };
                let logged = LoggedBreaker::fold(self.breakers.get(&changed.relay), change, envelope.version);
                self.breakers.insert(changed.relay.clone(), logged);
            }
            other if self.instance.evolve(other, envelope.by.at) => {}
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
    refusals: RwLock<HashMap<TenantId, Refusals>>,
    /// Held while reading on, so that events are folded once and in order.
    position: tokio::sync::Mutex<Position>,
    changes: watch::Sender<u64>,
    /// When it was read to the end last, in milliseconds since 1970.
    read_at_ms: AtomicI64,
    /// A newer program wrote what this one does not understand: it is as it was before that.
    stands_still: AtomicBool,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                state: RwLock::default(),
                refusals: RwLock::default(),
                position: tokio::sync::Mutex::new(0),
                changes: watch::Sender::new(0),
                read_at_ms: AtomicI64::new(i64::MIN),
                stands_still: AtomicBool::new(false),
            }),
        }
    }
}

impl Directory {
    /// The directory now. It does not change under the reader.
    pub fn snapshot(&self) -> Arc<DirectoryState> {
        self.inner.state.read().clone()
    }

    /// Whether the address does not get such an advertisement of the tenant, because it or another address of the same
    /// person refused.
    pub fn refused_by(&self, tenant: &TenantId, address: &str, ad: &AdBrands) -> Option<RefusedBy> {
        self.inner.refusals.read().get(tenant)?.refused_by(address, ad)
    }

    /// Looks at the refusals of a tenant's recipients.
    pub fn look_at_refusals<T>(&self, tenant: &TenantId, look: impl FnOnce(&Refusals) -> T) -> T {
        match self.inner.refusals.read().get(tenant) {
            Some(refusals) => look(refusals),
            None => look(&Refusals::default()),
        }
    }

    /// Moves whenever the directory changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Reads on from the log to its present end. Answers whether anything was new.
    pub async fn catch_up(&self, journal: &Journal) -> Result<bool, JournalError> {
        let position = self.inner.position.lock().await;
        self.read_on(journal, position).await
    }

    /// Whether the log cannot be read on, because a newer program wrote what this one does not understand. Nobody may decide by
    /// what is known then.
    pub fn stands_still(&self) -> bool {
        self.inner.stands_still.load(Ordering::Relaxed)
    }

    async fn read_on(
        &self,
        journal: &Journal,
        mut position: MutexGuard<'_, Position>,
    ) -> Result<bool, JournalError> {
        let filter = Filter::kinds(KINDS);
        let read_at_ms = journal.now().timestamp_millis();
        let mut has_news = false;
        loop {
            let page = journal.read_all(*position, PAGE, &filter).await;
            let is_understood = !matches!(page, Err(JournalError::Decode { .. }));
            self.inner.stands_still.store(!is_understood, Ordering::Relaxed);
            let (told, next) = page?;
            // A page may be empty although there is more: only a position that does not move is the end.
            let is_end = next == *position;
            self.fold(&told);
            has_news |= !told.is_empty();
            *position = next;
            if is_end {
                break;
            }
        }
        self.inner.read_at_ms.store(read_at_ms, Ordering::Relaxed);
        if has_news {
            self.inner.changes.send_modify(|count| *count += 1);
        }
        Ok(has_news)
    }

    /// Where other processes write to the log, too: reads it on unless that was done a moment ago. Whoever stood still meanwhile
    /// would decide by what is over.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn stay_current(&self, journal: &Journal) -> Result<(), JournalError> {
        if !journal.is_shared() || self.is_current(journal) {
            return Ok(());
        }
        let position = self.inner.position.lock().await;
        // Whoever waited for another one to read on has nothing left to read.
        if self.is_current(journal) {
            return Ok(());
        }
        self.read_on(journal, position).await.map(drop)
    }

    fn is_current(&self, journal: &Journal) -> bool {
        let read_at_ms = self.inner.read_at_ms.load(Ordering::Relaxed);
        (0..CURRENT_MS).contains(&journal.now().timestamp_millis().saturating_sub(read_at_ms))
    }

    fn fold(&self, told: &[Told]) {
        let mut changed: Option<DirectoryState> = None;
        for Told { recorded, event } in told {
            match event {
                Event::OptOutRecorded(OptOutRecorded { tenant, .. })
                | Event::OptOutWithdrawn(OptOutWithdrawn { tenant, .. })
                | Event::OptOutExtended(OptOutExtended { tenant, .. }) => {
                    self.inner.refusals.write().entry(tenant.clone()).or_default().evolve(event);
                }
                other => {
                    let state = changed.get_or_insert_with(|| (**self.inner.state.read()).clone());
                    let envelope = envelope(recorded);
                    state.evolve(other, &envelope);
                    state.senders.evolve(other, envelope);
                }
            }
        }
        if let Some(state) = changed {
            *self.inner.state.write() = Arc::new(state);
        }
    }
}

fn envelope(recorded: &RecordedEvent) -> Envelope<'_> {
    let by = SaidBy { actor: recorded.metadata.actor.clone(), at: recorded.metadata.time };
    Envelope { stream: &recorded.stream, version: recorded.version, by }
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
