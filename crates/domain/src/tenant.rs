//! A tenant (고객사): who sends. Everything but relays belongs to one tenant.

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

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
}

/// The key may no longer speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRevoked {
    /// Whose key.
    pub tenant: TenantId,
    /// Which one.
    pub key_id: SmolStr,
}

/// The stream of a tenant: `tenant-<id>`.
pub fn stream(tenant: &TenantId) -> SmolStr {
    format_smolstr!("tenant-{tenant}")
}
