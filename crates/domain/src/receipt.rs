//! Receipts that cannot be placed: kept, tried again, and settled. Those that can are events of their lot.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::slug::RelayId;

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptStatus {
    /// It is on the handset, or in the mailbox.
    Delivered,
    /// It never will be.
    Undelivered,
}

/// A receipt as the relay gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawReceipt {
    /// Our reference, as the relay repeats it; may be no reference of ours at all.
    pub reference: SmolStr,
    /// The relay's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_reference: Option<SmolStr>,
    /// What it says.
    pub status: ReceiptStatus,
    /// The relay's code.
    #[serde(default)]
    pub code: SmolStr,
    /// When, by the relay's clock.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub at: DateTime<Utc>,
}

/// Receipts for references that nobody knows (yet).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsParked {
    /// Who sent them.
    pub relay: RelayId,
    /// As they came.
    pub receipts: Vec<RawReceipt>,
}

/// Parked receipts found their message, or were given up after the longest deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedReceiptsSettled {
    /// Who sent them.
    pub relay: RelayId,
    /// The references that were matched; the lot has their receipts now.
    pub matched: Vec<SmolStr>,
    /// The references that were given up.
    pub given_up: Vec<SmolStr>,
}

/// The stream of a relay's parked receipts: `receipts-<relay>`.
pub fn parked_stream(relay: &RelayId) -> SmolStr {
    format_smolstr!("receipts-{relay}")
}
