//! A refusal of advertisements (수신거부). It binds the tenant over all relays and channels, for ads only.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smol_str::{SmolStr, format_smolstr};

use crate::slug::TenantId;

/// The one who refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutPerson {
    /// The canonical number or address.
    pub address: SmolStr,
}

/// A recipient refuses advertisements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutRecorded {
    /// Whose advertisements.
    pub tenant: TenantId,
    /// How the refusal came, in the words of whoever recorded it: `080`, `web`, `customer centre`.
    pub source: String,
    /// Who.
    pub personal: OptOutPerson,
}

/// The recipient agrees to advertisements again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOutWithdrawn {
    /// Whose advertisements.
    pub tenant: TenantId,
    /// Who.
    pub personal: OptOutPerson,
}

/// The stream of a refusal: `opt-out-<tenant>-<hash of the address>`; the address itself is personal.
pub fn stream(tenant: &TenantId, address: &str) -> SmolStr {
    let hash = Sha256::digest(address.as_bytes());
    let short = hash.iter().take(12).fold(String::with_capacity(24), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    });
    format_smolstr!("opt-out-{tenant}-{short}")
}
