//! Commands on what sendings rest on: tenants and keys, relays, policies, senders, refusals, templates.
//!
//! Each appends with the version that it decided on, tries again on a conflict, and reads the directory on before it
//! answers, so that the caller's next request sees it.

use kite_domain::event::Event;
use kite_domain::ids::TemplateId;
use kite_domain::opt_out::{self, OptOutPerson, OptOutRecorded, OptOutWithdrawn};
use kite_domain::policy::{
    self, FailoverTerms, PolicyDefined, PolicyObjective, WeightsAdvised, WeightsError, check_weights,
};
use kite_domain::relay::{
    self, RelayBreakerChanged, RelayDefined, RelayProfile, RelayResumed, RelaySuspended,
};
use kite_domain::sender::{self, SenderRegistered, SenderWithdrawn};
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::template::{self, TemplateDeleted, TemplateSaved};
use kite_domain::tenant::{self, ApiKeyIssued, ApiKeyRevoked, TenantCreated};
use kite_domain::text::Channel;
use kite_event_store::{AppendError, Expected, Position};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use std::fmt::Write;

use crate::directory::Directory;
use crate::journal::{Cause, Entry, Journal, JournalError};

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageRefusal {
    /// The tenant is there already.
    #[error("there is a tenant {0} already")]
    TenantExists(TenantId),
    /// No such tenant.
    #[error("there is no tenant {0}")]
    NoTenant(TenantId),
    /// No such key.
    #[error("there is no key {0}")]
    NoKey(SmolStr),
    /// No such relay.
    #[error("there is no relay {0}")]
    NoRelay(RelayId),
    /// The relay does not offer the channel.
    #[error("relay {relay} does not offer {channel}")]
    NoChannel {
        /// Which relay.
        relay: RelayId,
        /// Which channel.
        channel: Channel,
    },
    /// The weights are no ratio.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// No such sender.
    #[error("there is no sender {0}")]
    NoSender(SmolStr),
    /// No such refusal.
    #[error("the address has not refused advertisements")]
    NoOptOut,
    /// No such template.
    #[error("there is no template {0}")]
    NoTemplate(TemplateId),
    /// The breaker is not where the change starts from.
    #[error("the breaker of relay {0} is not there any more")]
    BreakerMoved(RelayId),
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// It may not.
    #[error(transparent)]
    Refused(#[from] ManageRefusal),
    /// The log.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<AppendError> for ManageError {
    fn from(error: AppendError) -> Self {
        Self::Journal(error.into())
    }
}

/// Done, durable, and in the log up to this position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<T> {
    /// What came of it.
    pub value: T,
    /// Where in the log.
    pub position: Position,
}

/// A new key, whole. It is not kept anywhere and cannot be shown again.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedKey {
    /// The public part.
    pub key_id: SmolStr,
    /// The whole key: `kite_<key id>_<secret>`.
    pub key: String,
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "IssuedKey({})", self.key_id)
    }
}

/// SHA-256 of a whole key, hexadecimal: what is stored of it.
pub fn key_hash(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// The commands. Cheap to clone.
#[derive(Clone)]
pub struct Manage {
    journal: Journal,
    directory: Directory,
    secrets: std::sync::Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
}

/// The event to append and what comes of it; no event: it is so already.
type Decided<T> = Result<(Option<Event>, T), ManageRefusal>;

impl Manage {
    /// Writes to this log. `secrets` gives 32 unpredictable bytes for a new key.
    pub fn new(
        journal: Journal,
        directory: Directory,
        secrets: std::sync::Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    ) -> Self {
        Self { journal, directory, secrets }
    }

    /// A new tenant.
    pub async fn create_tenant(
        &self,
        cause: &Cause,
        tenant: TenantId,
        name: String,
    ) -> Result<Done<()>, ManageError> {
        let stream = tenant::stream(&tenant);
        self.decide(cause, Some(&tenant), stream, |events| {
            if events.iter().any(|event| matches!(event, Event::TenantCreated(_))) {
                return Err(ManageRefusal::TenantExists(tenant.clone()));
            }
            Ok((Some(TenantCreated { tenant: tenant.clone(), name: name.clone() }.into()), ()))
        })
        .await
    }

    /// A new key for a tenant.
    pub async fn issue_api_key(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        label: String,
    ) -> Result<Done<IssuedKey>, ManageError> {
        let secret = (self.secrets)();
        let key_id = SmolStr::from(hex(&self.journal.next_id().as_bytes()[4..]));
        let issued = IssuedKey { key: format!("kite_{key_id}_{}", hex(&secret)), key_id };
        let hash = key_hash(&issued.key);
        self.decide(cause, Some(tenant), tenant::stream(tenant), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoTenant(tenant.clone()));
            }
            let event = ApiKeyIssued {
                tenant: tenant.clone(),
                key_id: issued.key_id.clone(),
                hash: hash.clone(),
                label: label.clone(),
            };
            Ok((Some(event.into()), issued.clone()))
        })
        .await
    }

    /// Takes a key out of use.
    pub async fn revoke_api_key(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        key_id: &str,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), tenant::stream(tenant), |events| {
            let is_live = events.iter().fold(false, |live, event| match event {
                Event::ApiKeyIssued(issued) if issued.key_id == key_id => true,
                Event::ApiKeyRevoked(revoked) if revoked.key_id == key_id => false,
                _ => live,
            });
            if !is_live {
                return Err(ManageRefusal::NoKey(key_id.into()));
            }
            Ok((Some(ApiKeyRevoked { tenant: tenant.clone(), key_id: key_id.into() }.into()), ()))
        })
        .await
    }

    /// A new relay, or new terms for one. Credentials that are not given stay as they are.
    pub async fn define_relay(
        &self,
        cause: &Cause,
        profile: RelayProfile,
    ) -> Result<Done<RelayProfile>, ManageError> {
        self.decide(cause, None, relay::stream(&profile.relay), |events| {
            let mut profile = profile.clone();
            let known = events.iter().rev().find_map(|event| match event {
                Event::RelayDefined(defined) => Some(&defined.profile.credentials),
                _ => None,
            });
            if let Some(known) = known {
                let given = &mut profile.credentials;
                given.api_key = given.api_key.take().or_else(|| known.api_key.clone());
                given.user = given.user.take().or_else(|| known.user.clone());
                given.receipt_secret = given.receipt_secret.take().or_else(|| known.receipt_secret.clone());
            }
            Ok((Some(RelayDefined { profile: profile.clone() }.into()), profile))
        })
        .await
    }

    /// Takes a relay out of use. Nothing automatic puts it back.
    pub async fn suspend_relay(
        &self,
        cause: &Cause,
        relay: &RelayId,
        reason: String,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, relay::stream(relay), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoRelay(relay.clone()));
            }
            Ok((Some(RelaySuspended { relay: relay.clone(), reason: reason.clone() }.into()), ()))
        })
        .await
    }

    /// Puts a relay back into use; nothing happens if it is in use.
    pub async fn resume_relay(&self, cause: &Cause, relay: &RelayId) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, relay::stream(relay), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoRelay(relay.clone()));
            }
            let is_suspended = events.iter().fold(false, |suspended, event| match event {
                Event::RelaySuspended(_) => true,
                Event::RelayResumed(_) => false,
                _ => suspended,
            });
            Ok((is_suspended.then(|| RelayResumed { relay: relay.clone() }.into()), ()))
        })
        .await
    }

    /// Records that a breaker changed its mind.
    pub async fn change_breaker(
        &self,
        cause: &Cause,
        change: RelayBreakerChanged,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, relay::stream(&change.relay), |events| {
            let phase = events.iter().rev().find_map(|event| match event {
                Event::RelayBreakerChanged(changed) => Some(changed.to),
                _ => None,
            });
            if events.is_empty() {
                return Err(ManageRefusal::NoRelay(change.relay.clone()));
            }
            if phase.unwrap_or_default() != change.from {
                return Err(ManageRefusal::BreakerMoved(change.relay.clone()));
            }
            Ok((Some(change.clone().into()), ()))
        })
        .await
    }

    /// A new version of a tenant's policy for a channel.
    pub async fn define_policy(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        channel: Channel,
        objective: PolicyObjective,
        failover: FailoverTerms,
    ) -> Result<Done<PolicyDefined>, ManageError> {
        let directory = self.directory.snapshot();
        if let PolicyObjective::Ratio { weights } = &objective {
            check_weights(weights).map_err(ManageRefusal::from)?;
            for weight in weights {
                let relay = &weight.relay;
                let entry =
                    directory.relays.get(relay).ok_or_else(|| ManageRefusal::NoRelay(relay.clone()))?;
                if !entry.profile.channels.contains_key(&channel) {
                    return Err(ManageRefusal::NoChannel { relay: relay.clone(), channel }.into());
                }
            }
        }
        self.decide(cause, Some(tenant), policy::stream(tenant, channel), |events| {
            let version =
                events.iter().filter(|event| matches!(event, Event::PolicyDefined(_))).count() as u32 + 1;
            let defined = PolicyDefined {
                tenant: tenant.clone(),
                channel,
                version,
                objective: objective.clone(),
                failover: failover.clone(),
            };
            Ok((Some(defined.clone().into()), defined))
        })
        .await
    }

    /// New weights from live figures. Nothing happens if the policy has moved on.
    pub async fn advise_weights(
        &self,
        cause: &Cause,
        advised: WeightsAdvised,
    ) -> Result<Done<()>, ManageError> {
        self.decide(
            cause,
            Some(&advised.tenant),
            policy::stream(&advised.tenant, advised.channel),
            |events| {
                let version =
                    events.iter().filter(|event| matches!(event, Event::PolicyDefined(_))).count() as u32;
                let advice = events.iter().filter(|event| matches!(event, Event::WeightsAdvised(_))).count()
                    as u32
                    + 1;
                let event = WeightsAdvised { advice, ..advised.clone() };
                Ok(((version == advised.version).then(|| event.into()), ()))
            },
        )
        .await
    }

    /// A sender may send through these relays from now on.
    pub async fn register_sender(
        &self,
        cause: &Cause,
        registered: SenderRegistered,
    ) -> Result<Done<()>, ManageError> {
        let directory = self.directory.snapshot();
        if let Some(relay) = registered.relays.iter().find(|relay| directory.relays.get(relay).is_none()) {
            return Err(ManageRefusal::NoRelay(relay.clone()).into());
        }
        let stream = sender::stream(&registered.tenant, &registered.address);
        self.decide(cause, Some(&registered.tenant), stream, |_| Ok((Some(registered.clone().into()), ())))
            .await
    }

    /// A sender may no longer send.
    pub async fn withdraw_sender(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), sender::stream(tenant, address), |events| {
            match events.last() {
                Some(Event::SenderRegistered(_)) => {}
                _ => return Err(ManageRefusal::NoSender(address.into())),
            }
            Ok((Some(SenderWithdrawn { tenant: tenant.clone(), address: address.into() }.into()), ()))
        })
        .await
    }

    /// An address refuses the tenant's advertisements; nothing happens if it does already.
    pub async fn record_opt_out(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
        source: String,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), opt_out::stream(tenant, address), |events| {
            if matches!(events.last(), Some(Event::OptOutRecorded(_))) {
                return Ok((None, ()));
            }
            let personal = OptOutPerson { address: address.into() };
            Ok((Some(OptOutRecorded { tenant: tenant.clone(), source: source.clone(), personal }.into()), ()))
        })
        .await
    }

    /// The address agrees to advertisements again.
    pub async fn withdraw_opt_out(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        address: &str,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), opt_out::stream(tenant, address), |events| {
            if !matches!(events.last(), Some(Event::OptOutRecorded(_))) {
                return Err(ManageRefusal::NoOptOut);
            }
            let personal = OptOutPerson { address: address.into() };
            Ok((Some(OptOutWithdrawn { tenant: tenant.clone(), personal }.into()), ()))
        })
        .await
    }

    /// A template is new or changed.
    pub async fn save_template(&self, cause: &Cause, saved: TemplateSaved) -> Result<Done<()>, ManageError> {
        let stream = template::stream(&saved.tenant, saved.template);
        self.decide(cause, Some(&saved.tenant), stream, |_| Ok((Some(saved.clone().into()), ()))).await
    }

    /// A template is gone.
    pub async fn delete_template(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        template: TemplateId,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), template::stream(tenant, template), |events| match events.last() {
            Some(Event::TemplateSaved(_)) => {
                Ok((Some(TemplateDeleted { tenant: tenant.clone(), template }.into()), ()))
            }
            _ => Err(ManageRefusal::NoTemplate(template)),
        })
        .await
    }

    /// Reads the stream, decides, appends with the version read; anew on a conflict.
    async fn decide<T>(
        &self,
        cause: &Cause,
        tenant: Option<&TenantId>,
        stream: SmolStr,
        mut decide: impl FnMut(&[Event]) -> Decided<T>,
    ) -> Result<Done<T>, ManageError> {
        loop {
            let told = self.journal.read_stream(&stream, 0).await?;
            let (version, position) =
                told.last().map_or((0, 0), |last| (last.recorded.version, last.recorded.position));
            let events: Vec<Event> = told.into_iter().map(|told| told.event).collect();
            let (event, value) = decide(&events)?;
            let Some(event) = event else { return Ok(Done { value, position }) };
            let entry = Entry {
                stream: stream.clone(),
                expected: Expected::Version(version),
                tenant: tenant.cloned(),
                cause: cause.clone(),
                events: vec![event],
            };
            match self.journal.append_one(entry).await {
                Ok(appended) => {
                    self.directory.catch_up(&self.journal).await?;
                    return Ok(Done { value, position: appended.position });
                }
                Err(AppendError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
