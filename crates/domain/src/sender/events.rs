//! The events of sender identities. Actor and time are in their envelopes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

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

/// What a tenant asks for, and what the operator approves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderTerms {
    /// The number or address, in canonical form and as it is sent with.
    pub address: SmolStr,
    /// Which of the two.
    pub kind: SenderKind,
    /// The name that an advertisement must carry (상호).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// The free number for refusing advertisements (080…).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal_number: Option<SmolStr>,
    /// The relays that it is to be, or is, registered with.
    pub relays: Vec<RelayId>,
}

/// The sender may send through these relays. The newest registration of an address counts.
///
/// As it was before the operator was asked: it counts as approved, without an end. Nobody writes it any more.
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

/// A tenant asks to send with an address. What was approved before continues until there is an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRequested {
    /// Whose.
    pub tenant: TenantId,
    /// What is asked for. `relays` are those that the tenant would like; there may be none.
    #[serde(flatten)]
    pub terms: SenderTerms,
}

/// The operator approves it: it may send through these relays, until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderApproved {
    /// Whose.
    pub tenant: TenantId,
    /// What is approved. `relays` are those that it is registered with.
    #[serde(flatten)]
    pub terms: SenderTerms,
    /// The document that it is based on (통신서비스 이용증명원 and the like), by the operator's own reference.
    pub document: String,
    /// It sends before this time.
    pub expires_at: DateTime<Utc>,
    /// The operator knows that another tenant has the address too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// The operator refuses what was asked for. What was approved before continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRefused {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub address: SmolStr,
    /// Why, in the operator's words.
    pub reason: String,
}

/// The time of an approval is over. It has not sent since `expires_at`, whenever this is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderExpired {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub address: SmolStr,
    /// The end of the approval that is meant.
    pub expires_at: DateTime<Utc>,
}

/// The sender may no longer send, and is not asked for any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderWithdrawn {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub address: SmolStr,
    /// Why, if anybody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl SenderRegistered {
    /// What was registered.
    pub fn terms(&self) -> SenderTerms {
        SenderTerms {
            address: self.address.clone(),
            kind: self.kind,
            brand: self.brand.clone(),
            refusal_number: self.refusal_number.clone(),
            relays: self.relays.clone(),
        }
    }
}
