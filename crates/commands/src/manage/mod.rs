//! Commands on what sendings depend on: tenants and keys, relays, policies, senders, refusals, templates.
//!
//! Each command appends with the version that it decided on, tries again on a conflict, and reads the directory on
//! before it returns, so that the caller's next request sees the change.

mod instance;
mod keys;
mod opt_outs;
mod policies;
mod relays;
pub(crate) mod senders;
mod templates;
mod tenants;

pub use keys::{
    API_KEY_PREFIX, ApiKeyTerms, IssuedKey, KeyRecord, LIVE_KEYS_MAX, OPERATOR_KEY_PREFIX, OperatorKeyTerms,
    key_hash, public_part,
};
pub use opt_outs::{NewOptOut, Unextended};
pub use policies::Advised;
pub use relays::SecretsRotated;
pub use senders::{ADDRESSES_MAX, WAITING_REQUESTS_MAX};

use kite_domain::event::Event;
use kite_domain::ids::TemplateId;
use kite_domain::policy::WeightsError;
use kite_domain::relay::GiveAgain;
use kite_domain::sender::SenderRefusal;
use kite_domain::slug::{OperatorName, RelayId, TenantId};
use kite_domain::text::Channel;
use kite_event_store::{AppendError, Expected, Position};
use smol_str::SmolStr;
use std::sync::Arc;

use crate::directory::Directory;
use crate::journal::{Cause, Entry, Journal, JournalError, Told};
use crate::tries::Tries;
use crate::vault::{DecryptError, Vault};

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
    /// There are as many keys as there may be.
    #[error("there are {LIVE_KEYS_MAX} keys already; revoke those that are not used")]
    TooManyKeys,
    /// Another key of an operator has this name.
    #[error("there is a key of the name {0} already; revoke it, or choose another name")]
    NameTaken(OperatorName),
    /// The key would be over before it begins.
    #[error("the key would have expired already")]
    AlreadyExpired,
    /// No such relay.
    #[error("there is no relay {0}")]
    NoRelay(RelayId),
    /// Stored credentials of the relay would go to another address.
    #[error(transparent)]
    GiveAgain(#[from] GiveAgain),
    /// As many codes of the relay have a class of their own as may have one.
    #[error("relay {0} has as many codes with a class of their own as it may have")]
    TooManyCodes(RelayId),
    /// No operator gave the code a class.
    #[error("the code {0} has the class that the dictionary gives it")]
    NoCode(SmolStr),
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
    /// It may not happen to the sender.
    #[error(transparent)]
    Sender(#[from] SenderRefusal),
    /// The tenant has asked for as many senders as may wait for the operator.
    #[error("{WAITING_REQUESTS_MAX} requests for senders wait for an answer already")]
    TooManyRequests,
    /// The tenant has asked for as many addresses as it may.
    #[error("a tenant asks for at most {ADDRESSES_MAX} addresses, withdrawn ones counted")]
    TooManyAddresses,
    /// No such refusal.
    #[error("the address has not refused advertisements")]
    NoOptOut,
    /// No such template.
    #[error("there is no template {0}")]
    NoTemplate(TemplateId),
    /// Nothing can be encrypted.
    #[error("this process has no key to encrypt credentials with: set secrets_keys_file")]
    NoEncryptionKey,
    /// A credential is encrypted with a key that is not here.
    #[error(transparent)]
    Locked(#[from] DecryptError),
    /// This log is no copy of another.
    #[error("this is the original: there is nothing to be released")]
    NoCopy,
    /// The original was alive then: that is when the backup was taken.
    #[error("original_dead_since is before {}, when the backup was taken", .0.to_rfc3339())]
    AliveThen(chrono::DateTime<chrono::Utc>),
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

/// The commands. Cheap to clone.
#[derive(Clone)]
pub struct Manage {
    journal: Journal,
    directory: Directory,
    secrets: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    vault: Arc<Vault>,
}

/// The event to append and the result; no event: nothing changes.
type Decided<T> = Result<(Option<Event>, T), ManageRefusal>;

impl Manage {
    /// Writes to this log. `secrets` gives 32 unpredictable bytes for a new key.
    pub fn new(
        journal: Journal,
        directory: Directory,
        secrets: Arc<dyn Fn() -> [u8; 32] + Send + Sync>,
    ) -> Self {
        Self { journal, directory, secrets, vault: Arc::default() }
    }

    /// With keys that encrypt the credentials of relays.
    #[must_use]
    pub fn with_vault(self, vault: Arc<Vault>) -> Self {
        Self { vault, ..self }
    }

    /// What opens the credentials of relays.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// [`Manage::decide_at`] on the events alone.
    async fn decide<T>(
        &self,
        cause: &Cause,
        tenant: Option<&TenantId>,
        stream: SmolStr,
        mut decide: impl FnMut(&[Event]) -> Decided<T>,
    ) -> Result<Done<T>, ManageError> {
        self.decide_at(cause, tenant, stream, |told| {
            let events: Vec<Event> = told.iter().map(|told| told.event.clone()).collect();
            decide(&events)
        })
        .await
    }

    /// Reads the stream, decides, and appends with the version read; repeats that on a conflict, after a pause. What
    /// is no longer in force ([`kite_domain::in_force`]) may be left out.
    async fn decide_at<T>(
        &self,
        cause: &Cause,
        tenant: Option<&TenantId>,
        stream: SmolStr,
        mut decide: impl FnMut(&[Told]) -> Decided<T>,
    ) -> Result<Done<T>, ManageError> {
        let mut tries = Tries::of(&self.journal);
        loop {
            let told = self.directory.stream_now(&self.journal, &stream).await?;
            let (version, position) =
                told.last().map_or((0, 0), |last| (last.recorded.version, last.recorded.position));
            let (event, value) = decide(&told)?;
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
                Err(AppendError::Conflict { .. }) if tries.again().await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
