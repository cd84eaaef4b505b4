//! A sender identity (발신번호): a number or address that may stand as the sender, registered relay by relay.
//!
//! Registration is compulsory in Korea, per number and per relay; a relay without it is not eligible.

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::digest::short_hash;
use crate::slug::{RelayId, TenantId};

/// What kind of sender it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderKind {
    /// A phone number, for sms and lms.
    Phone,
    /// An address, for e-mail.
    Email,
}

/// The sender may send through these relays. The newest registration of an address counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRegistered {
    /// Whose.
    pub tenant: TenantId,
    /// The canonical number or address.
    pub address: SmolStr,
    /// Which of the two.
    pub kind: SenderKind,
    /// The name that an advertisement must carry (상호).
    pub brand: Option<String>,
    /// The free number for refusing advertisements (080…).
    pub refusal_number: Option<SmolStr>,
    /// The relays that it is registered with.
    pub relays: Vec<RelayId>,
}

/// The sender may no longer send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderWithdrawn {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub address: SmolStr,
}

/// The longest name of a stream, in bytes.
const STREAM_BYTES_MAX: usize = 255;

/// The stream of a sender: `sender-<tenant>-<address>`, or `sender-<tenant>-<hash of the address>` where that would be
/// longer than the name of a stream may be. No address looks like a hash: it has an `@`, or at most 15 digits.
pub fn stream(tenant: &TenantId, address: &str) -> SmolStr {
    let name = format_smolstr!("sender-{tenant}-{address}");
    if name.len() <= STREAM_BYTES_MAX {
        return name;
    }
    format_smolstr!("sender-{tenant}-{}", short_hash(address, 16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::EmailAddress;

    /// An address of this many bytes.
    fn address(bytes: usize) -> String {
        let domain = format!("{}.{}.{}.kr", "b".repeat(61), "c".repeat(61), "d".repeat(61));
        let local = bytes - domain.len() - 1;
        EmailAddress::parse(&format!("{}@{domain}", "a".repeat(local))).unwrap().to_string()
    }

    #[test]
    fn the_stream_of_a_sender_names_it_where_it_can() {
        let tenant = TenantId::parse("acme").unwrap();
        assert_eq!(stream(&tenant, "025550100"), "sender-acme-025550100");
        assert_eq!(stream(&tenant, "news@example.com"), "sender-acme-news@example.com");
        let longest = address(255 - "sender-acme-".len());
        assert_eq!(stream(&tenant, &longest), format!("sender-acme-{longest}"));
    }

    #[test]
    fn a_name_that_would_be_too_long_is_a_hash_and_for_ever() {
        let tenant = TenantId::parse("acme").unwrap();
        let long = address(244);
        assert_eq!(stream(&tenant, &long), "sender-acme-78142a0d487cb0dc4f5946e20ac87346");
        assert_ne!(stream(&tenant, &long), stream(&tenant, &address(245)));
        let longest_tenant = TenantId::parse(&"t".repeat(32)).unwrap();
        assert!(stream(&longest_tenant, &address(250)).len() <= 255);
    }
}
