//! A tenant (고객사): who sends. Everything but relays belongs to one tenant.

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::keys::{KeyBounds, Scopes};
use crate::slug::TenantId;

/// A tenant exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantCreated {
    /// Its id.
    pub tenant: TenantId,
    /// Its name, for people.
    pub name: String,
}

/// A key may speak for the tenant. The key itself is shown once and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyIssued {
    /// Whose key.
    pub tenant: TenantId,
    /// The public part, by which the key is found and named in audits.
    pub key_id: SmolStr,
    /// SHA-256 of the whole key, hexadecimal. Keys are 256 random bits, so a slow hash would add nothing.
    pub hash: String,
    /// What it is for, for people.
    pub label: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Until when, and from where.
    #[serde(flatten)]
    pub bounds: KeyBounds,
}

/// The key may no longer speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRevoked {
    /// Whose key.
    pub tenant: TenantId,
    /// Which one.
    pub key_id: SmolStr,
}

/// What a tenant may have and do at once. What is not set is as the configuration of the platform says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TenantLimits {
    /// See [`LimitsInForce::open_messages_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_messages_max: Option<u64>,
    /// See [`LimitsInForce::scheduled_messages_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_messages_max: Option<u64>,
    /// See [`LimitsInForce::requests_per_second`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// See [`LimitsInForce::recipients_per_second`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients_per_second: Option<u32>,
    /// See [`LimitsInForce::contacts_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contacts_max: Option<u64>,
}

impl TenantLimits {
    /// With the default for what is not set.
    pub fn or(&self, default: &LimitsInForce) -> LimitsInForce {
        LimitsInForce {
            open_messages_max: self.open_messages_max.unwrap_or(default.open_messages_max),
            scheduled_messages_max: self.scheduled_messages_max.unwrap_or(default.scheduled_messages_max),
            requests_per_second: self.requests_per_second.unwrap_or(default.requests_per_second),
            recipients_per_second: self.recipients_per_second.unwrap_or(default.recipients_per_second),
            contacts_max: self.contacts_max.unwrap_or(default.contacts_max),
        }
    }
}

/// The limits that count for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsInForce {
    /// Messages that are due and not final. A share of them is kept for one-time passwords.
    pub open_messages_max: u64,
    /// Messages that are accepted for later and not due yet.
    pub scheduled_messages_max: u64,
    /// Requests a second. One-time passwords count apart.
    pub requests_per_second: u32,
    /// Recipients a second, over all requests to send. One-time passwords count apart.
    pub recipients_per_second: u32,
    /// Contacts in the address book.
    pub contacts_max: u64,
}

impl Default for LimitsInForce {
    fn default() -> Self {
        Self {
            open_messages_max: 500_000,
            scheduled_messages_max: 1_000_000,
            requests_per_second: 5_000,
            recipients_per_second: 50_000,
            contacts_max: 1_000_000,
        }
    }
}

/// An operator has set what a tenant may have and do at once. The newest event counts, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLimitsSet {
    /// Whose.
    pub tenant: TenantId,
    /// The limits; if nothing is set, everything is as the configuration says.
    pub limits: TenantLimits,
}

/// The stream of a tenant: `tenant-<id>`.
pub fn stream(tenant: &TenantId) -> SmolStr {
    format_smolstr!("tenant-{tenant}")
}
