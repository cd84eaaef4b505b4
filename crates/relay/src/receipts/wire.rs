//! Receipts as the relay protocol writes them.

use chrono::{DateTime, Utc};
use kite_domain::receipt::{RawReceipt, ReceiptStatus};
use serde::Deserialize;
use smol_str::SmolStr;

/// No reference of ours is longer; a longer one is cut, and stays unknown.
const REFERENCE_LENGTH_MAX: usize = 64;

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

/// Receipts in our words. One that says neither delivered nor undelivered says nothing and is left out, with a line
/// in the log: refusing the whole call would only make the relay repeat it for ever. A receipt without a time has the
/// time 1970, so that nothing is made of its speed.
pub(crate) fn understand(receipts: Vec<WireReceipt>) -> Vec<RawReceipt> {
    let one = |receipt: WireReceipt| {
        let status = match receipt.status.as_str() {
            "delivered" => ReceiptStatus::Delivered,
            "undelivered" => ReceiptStatus::Undelivered,
            other => {
                tracing::warn!(status = other, "a receipt that says nothing was left out");
                return None;
            }
        };
        let reference = match receipt.reference.char_indices().nth(REFERENCE_LENGTH_MAX) {
            Some((end, _)) => receipt.reference[..end].into(),
            None => receipt.reference,
        };
        let (relay_reference, code) = (receipt.relay_reference, receipt.code);
        Some(RawReceipt { reference, relay_reference, status, code, at: receipt.at.unwrap_or_default() })
    };
    receipts.into_iter().filter_map(one).collect()
}
