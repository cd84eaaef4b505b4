//! Receipts that fit no message yet.

use kite_domain::receipt::{ParkedReceiptsSettled, ReceiptsParked};
use smol_str::SmolStr;

use super::rows::{RECEIPTS_OF, ReceiptRow};
use crate::engine::{Record, Rows, Tables};
use crate::error::ApplyError;
use crate::sql::json;

/// Past this many, what is remembered starts again.
const KEPT_MAX: usize = 4_096;

/// The parked receipts.
#[derive(Debug)]
pub(super) struct Receipts(Rows<ReceiptRow>);

impl Default for Receipts {
    fn default() -> Self {
        Self(Rows::keeping(KEPT_MAX))
    }
}

impl Receipts {
    /// The first to say something is kept.
    pub(super) fn park(
        &mut self,
        tables: Tables<'_>,
        parked: &ReceiptsParked,
        parked_ms: i64,
    ) -> Result<(), ApplyError> {
        let relay = SmolStr::new(parked.relay.as_str());
        let key = |reference: &SmolStr, status: String| (relay.clone(), reference.clone(), status.into());
        let keys = parked.receipts.iter().map(|receipt| key(&receipt.reference, json(&receipt.status)));
        let keys: Vec<<ReceiptRow as Record>::Key> = keys.collect();
        self.0.prefetch(tables, keys.iter().cloned())?;
        for (key, receipt) in keys.into_iter().zip(&parked.receipts) {
            if self.0.get(tables, &key)?.is_some() {
                continue;
            }
            let row = ReceiptRow {
                code: receipt.code.clone(),
                relay_reference: receipt.relay_reference.clone(),
                at_ms: receipt.at.timestamp_millis(),
                parked_ms,
            };
            self.0.put(tables, key, row)?;
        }
        Ok(())
    }

    /// They are matched, or given up.
    pub(super) fn settle(
        &mut self,
        tables: Tables<'_>,
        settled: &ParkedReceiptsSettled,
    ) -> Result<(), ApplyError> {
        let relay = SmolStr::new(settled.relay.as_str());
        for one in settled.matched.iter().chain(&settled.given_up) {
            let key = |status: SmolStr| (relay.clone(), one.reference.clone(), status);
            let keys = match one.status {
                Some(status) => vec![key(json(&status).into())],
                None => self.0.among(
                    tables,
                    &RECEIPTS_OF,
                    |cells| {
                        cells.put(&relay);
                        cells.put(&one.reference);
                    },
                    // Every status is a short word.
                    key(SmolStr::default())..=key("\u{10ffff}".into()),
                )?,
            };
            for key in keys {
                self.0.remove(tables, &key)?;
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, tables: Tables<'_>) -> Result<(), ApplyError> {
        self.0.flush(tables)
    }
}
