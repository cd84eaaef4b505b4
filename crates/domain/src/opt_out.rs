//! A refusal of advertisements (수신거부). It binds the tenant over all relays and channels, for ads only.

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::digest::short_hash;
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
    format_smolstr!("opt-out-{tenant}-{}", short_hash(address, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_refusal_is_for_ever() {
        let tenant = TenantId::parse("acme").unwrap();
        assert_eq!(stream(&tenant, "01012345678"), "opt-out-acme-e60124f2fe2045215abda1ae");
    }
}
