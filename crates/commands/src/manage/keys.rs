//! Keys of tenants and operators: issued, revoked, listed.

use chrono::{DateTime, Utc};
use kite_domain::event::Event;
use kite_domain::keys::{
    KeyBounds, OPERATOR_KEYS_STREAM, OperatorKeyIssued, OperatorKeyRevoked, Role, Scopes,
};
use kite_domain::slug::{OperatorName, TenantId};
use kite_domain::tenant::{self, ApiKeyIssued, ApiKeyRevoked};
use sha2::{Digest, Sha256};
use smol_str::{SmolStr, format_smolstr};

use super::{Done, Manage, ManageError, ManageRefusal};
use crate::journal::{Cause, JournalError, Told};

/// What a tenant's key begins with.
pub const API_KEY_PREFIX: &str = "kite_";
/// What an operator's key begins with.
pub const OPERATOR_KEY_PREFIX: &str = "kiteop_";
/// Keys of one tenant that are not revoked, and such keys of all operators.
pub const LIVE_KEYS_MAX: usize = 100;

/// A new key, whole. It is not kept anywhere and cannot be shown again.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedKey {
    /// The public part.
    pub key_id: SmolStr,
    /// The whole key: `kite_<key id>_<secret>`, or `kiteop_<key id>_<secret>` for an operator.
    pub key: String,
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "IssuedKey({})", self.key_id)
    }
}

/// SHA-256 of a whole key, hexadecimal: what is stored of it.
pub fn key_hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// What a new key of a tenant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyTerms {
    /// For people.
    pub label: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Until when, and from where.
    pub bounds: KeyBounds,
}

impl ApiKeyTerms {
    /// For everything, for ever, from everywhere.
    pub fn unbound(label: impl Into<String>) -> Self {
        Self { label: label.into(), scopes: Scopes::ALL, bounds: KeyBounds::default() }
    }
}

/// What a new key of an operator is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorKeyTerms {
    /// Whose it is.
    pub name: OperatorName,
    /// What it may do.
    pub role: Role,
    /// Until when, and from where.
    pub bounds: KeyBounds,
}

/// A key as the log has it, revoked or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord<T> {
    /// What it was issued for.
    pub issued: T,
    /// When.
    pub issued_at: DateTime<Utc>,
    /// By whom.
    pub issued_by: SmolStr,
    /// Since when it is out of use.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used; none: never, as far as is known.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl<T> KeyRecord<T> {
    fn of(issued: T, told: &Told) -> Self {
        let metadata = &told.recorded.metadata;
        let (issued_at, issued_by) = (metadata.time, metadata.actor.clone());
        Self { issued, issued_at, issued_by, revoked_at: None, last_used_at: None }
    }
}

/// The keys of a tenant that are not revoked.
fn live_api_keys(events: &[Event]) -> Vec<&ApiKeyIssued> {
    events.iter().fold(Vec::new(), |mut live, event| {
        match event {
            Event::ApiKeyIssued(issued) => live.push(issued),
            Event::ApiKeyRevoked(revoked) => live.retain(|issued| issued.key_id != revoked.key_id),
            _ => {}
        }
        live
    })
}

/// The keys of operators that are not revoked.
fn live_operator_keys(events: &[Event]) -> Vec<&OperatorKeyIssued> {
    events.iter().fold(Vec::new(), |mut live, event| {
        match event {
            Event::OperatorKeyIssued(issued) => live.push(issued),
            Event::OperatorKeyRevoked(revoked) => live.retain(|issued| issued.key_id != revoked.key_id),
            _ => {}
        }
        live
    })
}

fn has_room(live: usize) -> Result<(), ManageRefusal> {
    if live < LIVE_KEYS_MAX { Ok(()) } else { Err(ManageRefusal::TooManyKeys) }
}

impl Manage {
    /// A new key for a tenant, beside those that it has.
    pub async fn issue_api_key(
        &self,
        cause: &Cause,
        tenant: &TenantId,
        terms: ApiKeyTerms,
    ) -> Result<Done<IssuedKey>, ManageError> {
        let now = self.check_expiry(&terms.bounds)?;
        let issued = self.new_key(API_KEY_PREFIX);
        let hash = key_hash(&issued.key);
        self.decide(cause, Some(tenant), tenant::stream(tenant), |events| {
            if events.is_empty() {
                return Err(ManageRefusal::NoTenant(tenant.clone()));
            }
            // An expired key opens nothing, so it takes no room.
            let live = live_api_keys(events);
            has_room(live.iter().filter(|issued| !issued.bounds.is_over(now)).count())?;
            let event = ApiKeyIssued {
                tenant: tenant.clone(),
                key_id: issued.key_id.clone(),
                hash: hash.clone(),
                label: terms.label.clone(),
                scopes: terms.scopes,
                bounds: terms.bounds.clone(),
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
            if !live_api_keys(events).iter().any(|issued| issued.key_id == key_id) {
                return Err(ManageRefusal::NoKey(key_id.into()));
            }
            Ok((Some(ApiKeyRevoked { tenant: tenant.clone(), key_id: key_id.into() }.into()), ()))
        })
        .await
    }

    /// All keys that a tenant was ever issued, in the order in which it was.
    pub async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<KeyRecord<ApiKeyIssued>>, JournalError> {
        let mut records = Vec::new();
        for told in self.journal.read_stream(&tenant::stream(tenant), 0).await? {
            match &told.event {
                Event::ApiKeyIssued(issued) => records.push(KeyRecord::of(issued.clone(), &told)),
                Event::ApiKeyRevoked(revoked) => {
                    revoke(&mut records, &told, |issued| issued.key_id == revoked.key_id);
                }
                _ => {}
            }
        }
        let directory = self.directory.snapshot();
        for record in &mut records {
            record.last_used_at = directory.last_used_at(&record.issued.key_id);
        }
        Ok(records)
    }

    /// A new key for an operator.
    pub async fn issue_operator_key(
        &self,
        cause: &Cause,
        terms: OperatorKeyTerms,
    ) -> Result<Done<IssuedKey>, ManageError> {
        let now = self.check_expiry(&terms.bounds)?;
        let issued = self.new_key(OPERATOR_KEY_PREFIX);
        let hash = key_hash(&issued.key);
        self.decide(cause, None, SmolStr::new_static(OPERATOR_KEYS_STREAM), |events| {
            // An expired key opens nothing: it takes no room, and its name is free.
            let mut live = live_operator_keys(events);
            live.retain(|issued| !issued.bounds.is_over(now));
            // Two keys of one name would be one actor in the log.
            if live.iter().any(|other| other.name == terms.name) {
                return Err(ManageRefusal::NameTaken(terms.name.clone()));
            }
            has_room(live.len())?;
            let event = OperatorKeyIssued {
                key_id: issued.key_id.clone(),
                name: terms.name.clone(),
                role: terms.role,
                hash: hash.clone(),
                bounds: terms.bounds.clone(),
            };
            Ok((Some(event.into()), issued.clone()))
        })
        .await
    }

    /// Takes an operator's key out of use.
    pub async fn revoke_operator_key(&self, cause: &Cause, key_id: &str) -> Result<Done<()>, ManageError> {
        self.decide(cause, None, SmolStr::new_static(OPERATOR_KEYS_STREAM), |events| {
            let live = live_operator_keys(events);
            let issued = live.iter().find(|issued| issued.key_id == key_id);
            let issued = issued.ok_or_else(|| ManageRefusal::NoKey(key_id.into()))?;
            let event = OperatorKeyRevoked { key_id: key_id.into(), name: issued.name.clone() };
            Ok((Some(event.into()), ()))
        })
        .await
    }

    /// All keys that operators were ever issued, in the order in which they were.
    pub async fn operator_keys(&self) -> Result<Vec<KeyRecord<OperatorKeyIssued>>, JournalError> {
        let mut records = Vec::new();
        for told in self.journal.read_stream(OPERATOR_KEYS_STREAM, 0).await? {
            match &told.event {
                Event::OperatorKeyIssued(issued) => records.push(KeyRecord::of(issued.clone(), &told)),
                Event::OperatorKeyRevoked(revoked) => {
                    revoke(&mut records, &told, |issued| issued.key_id == revoked.key_id);
                }
                _ => {}
            }
        }
        let directory = self.directory.snapshot();
        for record in &mut records {
            record.last_used_at = directory.last_used_at(&record.issued.key_id);
        }
        Ok(records)
    }

    fn new_key(&self, prefix: &str) -> IssuedKey {
        let secret = (self.secrets)();
        let key_id = SmolStr::from(hex::encode(&self.journal.next_id().as_bytes()[4..]));
        IssuedKey { key: format!("{prefix}{key_id}_{}", hex::encode(secret)), key_id }
    }

    /// A key that expires before it begins is a mistake. Returns the time of the check.
    fn check_expiry(&self, bounds: &KeyBounds) -> Result<DateTime<Utc>, ManageRefusal> {
        let now = self.journal.now();
        if bounds.is_over(now) { Err(ManageRefusal::AlreadyExpired) } else { Ok(now) }
    }
}

fn revoke<T>(records: &mut [KeyRecord<T>], told: &Told, is_it: impl Fn(&T) -> bool) {
    for record in records.iter_mut().filter(|record| is_it(&record.issued)) {
        record.revoked_at = Some(told.recorded.metadata.time);
    }
}

/// The public part of a key, if the text has the form of a key. This part may be in a log line.
pub fn public_part(key: &str) -> Option<SmolStr> {
    let rest = key.strip_prefix(API_KEY_PREFIX).or_else(|| key.strip_prefix(OPERATOR_KEY_PREFIX))?;
    let (id, _) = rest.split_once('_')?;
    let is_id = id.len() == 24 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| format_smolstr!("{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_part_of_what_looks_like_a_key_is_told() {
        let id = "0197c0de0000700080000001";
        assert_eq!(public_part(&format!("kite_{id}_secret")).as_deref(), Some(id));
        assert_eq!(public_part(&format!("kiteop_{id}_secret")).as_deref(), Some(id));
        for other in ["", "kite_secret", "kite_SECRET_x", "secret_0197c0de0000700080000001_x"] {
            assert_eq!(public_part(other), None, "{other}");
        }
        assert_eq!(public_part(&format!("kite_{id}")), None, "it may be a secret that lost its end");
    }
}
