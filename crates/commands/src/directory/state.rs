//! The directory at one moment, and how each event changes it.

use chrono::{DateTime, Utc};
use kite_domain::breaker::{BreakerChange, LoggedBreaker};
use kite_domain::event::Event;
use kite_domain::ids::TemplateId;
use kite_domain::instance::Originality;
use kite_domain::keys::{KeyUse, OperatorKeyIssued};
use kite_domain::lot::{RoutingContext, sender};
use kite_domain::mutation;
use kite_domain::opt_out::brand_identity;
use kite_domain::policy::{PolicyDefined, WeightsAdvised};
use kite_domain::relay::RelayDirectory;
use kite_domain::sender::{Envelope, SenderStatus, SenderTerms, Senders};
use kite_domain::sending::SendingAccepted;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::template::TemplateSaved;
use kite_domain::tenant::{ApiKeyIssued, LimitsInForce, TenantCreated, TenantLimits};
use kite_domain::text::Channel;
use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::live_key::LiveKey;

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
    /// How many events it holds: a decision on them is appended right after them, or not at all.
    pub version: u64,
    /// The number of the newest advice.
    pub advices: u32,
}

/// The directory at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DirectoryState {
    /// Whether this log is a copy of one that may still be in use.
    pub instance: Originality,
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
    /// What may be sent with a sender now; none: there is no such sender, or it is not approved.
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

    /// What a lot of this sending needs to know outside itself for a decision.
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
                mutation::bug!(NewPolicyUnheeded if self.policies.contains_key(&key), return);
                self.default_advice.remove(&key);
                self.policies.insert(key, PolicyState { defined: defined.clone(), advised: None });
            }
            Event::WeightsAdvised(advised) => {
                let key = (advised.tenant.clone(), advised.channel);
                let tail = self.policy_tails.entry(key.clone()).or_default();
                *tail = PolicyTail { version: envelope.version, advices: tail.advices.max(advised.advice) };
                match self.policies.get_mut(&key) {
                    Some(policy) if policy.defined.version == advised.version => {
                        policy.advised = Some(advised.clone());
                    }
                    // Advice on a version that is over. What is advised without a policy is on none.
                    Some(_) => {}
                    None if advised.version > 0 => {}
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
