//! A sender identity (발신번호): a number or address that may stand as the sender, approved by the operator and registered
//! relay by relay.
//!
//! Registration is compulsory in Korea, per number and per relay, with documents that expire; a relay without it is not
//! eligible. So a tenant asks for a sender ([`SenderRequested`]), and the operator approves it with a document, an end and
//! the relays that it is registered with ([`SenderApproved`]), or refuses it. Only what is approved sends.
//!
//! An address belongs to one tenant unless the operator says otherwise, so what decides about it is the address, not one
//! tenant's part of it: all its events are in one stream, and [`SenderAddress`] decides with that stream's version.
//!
//! Deliberately absent: whether a relay exists, which is the directory's to know, and any look at the document.

mod address;
mod decide;
mod events;
mod identity;

pub use address::{Envelope, SenderAddress, Senders, about};
pub use decide::{APPROVAL_DAYS_MAX, Approval, SenderRefusal};
pub use events::{
    SenderApproved, SenderExpired, SenderKind, SenderRefused, SenderRegistered, SenderRequested, SenderTerms,
    SenderWithdrawn,
};
pub use identity::{SaidBy, SenderApproval, SenderEnd, SenderIdentity, SenderRequest, SenderStatus};

use smol_str::{SmolStr, format_smolstr};
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;
use url::Host;

use crate::digest::short_hash;

/// The longest name of a stream, in bytes.
const STREAM_BYTES_MAX: usize = 255;

/// What an address is known by: two that reach the same mailbox or phone have the same. A canonical number is its own; of an
/// e-mail address letter case does not count, and a domain is compared as a mail server is asked for it (RFC 5890).
pub fn key(address: &str) -> Cow<'_, str> {
    let Some((local, domain)) = address.rsplit_once('@') else { return Cow::Borrowed(address) };
    if address.is_ascii() {
        let is_lower = !address.bytes().any(|byte| byte.is_ascii_uppercase());
        return if is_lower { Cow::Borrowed(address) } else { Cow::Owned(address.to_ascii_lowercase()) };
    }
    let composed: String = local.nfc().collect();
    let local: String = composed.to_lowercase().nfc().collect();
    let domain = match Host::parse(domain) {
        Ok(Host::Domain(ascii)) => ascii,
        // Nothing that is stored, or a kind of address that is not taken: compared as it stands.
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => domain.to_lowercase(),
    };
    Cow::Owned(format!("{local}@{domain}"))
}

/// The stream of an address: `identity-<key>`, or `identity-<hash of the key>` where that would be longer than the name of a
/// stream may be. No key looks like a hash: it has an `@`, or at most 15 digits.
///
/// Before approvals there was one stream a tenant and address, `sender-<tenant>-<address>`; nothing is appended there any
/// more.
pub fn stream(address: &str) -> SmolStr {
    let key = key(address);
    let name = format_smolstr!("identity-{key}");
    if name.len() <= STREAM_BYTES_MAX {
        return name;
    }
    format_smolstr!("identity-{}", short_hash(&key, 16))
}

#[cfg(test)]
mod tests;
