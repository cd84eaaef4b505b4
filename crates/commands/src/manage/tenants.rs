//! Tenants, what they may have and do at once, and the keys that they call with.

use kite_domain::event::Event;
use kite_domain::slug::TenantId;
use kite_domain::tenant::{self, ApiKeyIssued, ApiKeyRevoked, TenantCreated, TenantLimits, TenantLimitsSet};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use std::fmt::Write;

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::Cause;

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

impl Manage {
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

    /// Sets what a tenant may have and do at once: all of it, and what is not named is as the configuration says.
    pub async fn set_tenant_limits(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        limits: TenantLimits,
    ) -> Result<Done<()>, ManageError> {
        self.decide(cause, Some(tenant), tenant::stream(tenant), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoTenant(tenant.clone()));
            }
            let known = events.iter().rev().find_map(|event| match event {
                Event::TenantLimitsSet(set) => Some(set.limits),
                _ => None,
            });
            let is_news = known.unwrap_or_default() != limits;
            Ok((is_news.then(|| TenantLimitsSet { tenant: tenant.clone(), limits }.into()), ()))
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
}
