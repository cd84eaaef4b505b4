//! A sender identity (발신번호): a number or address that may stand as the sender, registered relay by relay.
//!
//! Registration is compulsory in Korea, per number and per relay; a relay without it is not eligible.

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

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

/// The stream of a sender: `sender-<tenant>-<address>`.
pub fn stream(tenant: &TenantId, address: &str) -> SmolStr {
    format_smolstr!("sender-{tenant}-{address}")
}
