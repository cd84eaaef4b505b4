//! Receipts as the relay protocol writes them.

use chrono::{DateTime, Utc};
use kite_domain::receipt::{
    CODE_LENGTH_MAX, RELAY_REFERENCE_LENGTH_MAX, RawReceipt, ReceiptStatus, bounded, bounded_time,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use smol_str::SmolStr;

/// No reference of ours is longer; a longer one is cut, and stays unknown.
const REFERENCE_LENGTH_MAX: usize = 64;

/// A receipt, or something in its place that is none.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum WireEntry {
    /// A receipt.
    Receipt(WireReceipt),
    /// Whatever else.
    Unreadable(IgnoredAny),
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireReceipt {
    reference: SmolStr,
    #[serde(default)]
    relay_reference: Option<SmolStr>,
    status: SmolStr,
    #[serde(default)]
    code: SmolStr,
    #[serde(default)]
    at: Option<DateTime<Utc>>,
}

/// Receipts in our words. What is no receipt, or says neither delivered nor undelivered, says nothing and is left out,
/// with a line in the log: refusing the whole call would only make the relay repeat it for ever. A receipt without a
/// time has the time 1970, so that nothing is made of its speed.
pub(crate) fn understand(entries: Vec<WireEntry>) -> Vec<RawReceipt> {
    let one = |entry: WireEntry| {
        let WireEntry::Receipt(receipt) = entry else {
            tracing::warn!("what is no receipt was left out");
            return None;
        };
        let status = match receipt.status.as_str() {
            "delivered" => ReceiptStatus::Delivered,
            "undelivered" => ReceiptStatus::Undelivered,
            other => {
                tracing::warn!(status = other, "a receipt that says nothing was left out");
                return None;
            }
        };
        let reference = bounded(receipt.reference, REFERENCE_LENGTH_MAX);
        let relay_reference = receipt.relay_reference.map(|text| bounded(text, RELAY_REFERENCE_LENGTH_MAX));
        let code = bounded(receipt.code, CODE_LENGTH_MAX);
        Some(RawReceipt {
            reference,
            relay_reference,
            status,
            code,
            at: bounded_time(receipt.at.unwrap_or_default()),
        })
    };
    entries.into_iter().filter_map(one).collect()
}
