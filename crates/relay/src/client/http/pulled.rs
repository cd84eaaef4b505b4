//! Pulled receipts as the relay protocol writes them.

use kite_domain::not_understood::Misread;
use kite_domain::receipt::{RawReceipt, WrittenReceipt, read_receipt};
use kite_domain::strict_json;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Pulled<T> {
    #[serde(default)]
    lease: String,
    receipts: Vec<T>,
}

/// An answer to a call for receipts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Understood {
    /// Names them in the acknowledgement.
    pub(crate) lease: String,
    /// Those that are understood, in their order.
    pub(crate) receipts: Vec<RawReceipt>,
    /// Those that are not.
    pub(crate) misread: Vec<Misread>,
}

/// Reads the answer. A receipt that cannot be read does not affect the others.
///
/// # Errors
/// It is not JSON, or has no list of receipts.
pub(crate) fn read(body: &[u8]) -> Result<Understood, serde_json::Error> {
    if let Ok(Pulled { lease, receipts }) = strict_json::from_slice::<Pulled<WrittenReceipt>>(body)
        && let Some(receipts) = receipts.into_iter().map(WrittenReceipt::understood).collect()
    {
        return Ok(Understood { lease, receipts, misread: Vec::new() });
    }
    // Only now is the slower way worth its cost.
    let Pulled { lease, receipts: written } = strict_json::from_slice::<Pulled<Box<RawValue>>>(body)?;
    let mut understood = Understood { lease, ..Understood::default() };
    for (row, one) in (0..).zip(&written) {
        match read_receipt(row, one.get()) {
            Ok(receipt) => understood.receipts.push(receipt),
            Err(misread) => understood.misread.push(misread),
        }
    }
    Ok(understood)
}
