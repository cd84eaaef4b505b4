//! A sender identity (발신번호): a number or address from which messages may be sent, approved by the operator and
//! registered relay by relay.
//!
//! Registration is compulsory in Korea, per number and per relay, with documents that expire; a relay without it is
//! not eligible. So a tenant asks for a sender ([`SenderRequested`]), and the operator approves it with a document,
//! an expiry and the relays at which it is registered ([`SenderApproved`]), or refuses it. Only an approved sender
//! can be used.
//!
//! An address belongs to one tenant unless the operator says otherwise. So decisions are made on the address, not on
//! one tenant's part of it: all its events are in one stream, and [`SenderAddress`] decides with that stream's
//! version.
//!
//! Deliberately absent: whether a relay exists, which the directory knows, and any look at the document.

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

use crate::address::identity;
use crate::digest::short_hash;

/// The longest name of a stream, in bytes.
const STREAM_BYTES_MAX: usize = 255;

/// The stream of an address: `identity-` and the text that it is compared by ([`identity()`]), or the hash of that
/// text if it is too long for the name of a stream. No such text looks like a hash: it has an `@`, or at most 15
/// digits.
///
/// Before approvals there was one stream per tenant and address, `sender-<tenant>-<address>`; nothing is appended
/// there any more.
pub fn stream(address: &str) -> SmolStr {
    let key = identity(address);
    let name = format_smolstr!("identity-{key}");
    if name.len() <= STREAM_BYTES_MAX {
        return name;
    }
    format_smolstr!("identity-{}", short_hash(&key, 16))
}

#[cfg(test)]
mod tests;
