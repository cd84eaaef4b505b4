//! The receipts of a simulated relay.

use chrono::DateTime;
use kite_domain::ids::AttemptReference;
use kite_domain::receipt::{RawReceipt, ReceiptStatus};
use kite_domain::relay::ReceiptMode;
use smol_str::SmolStr;

use super::{Action, Inner, ReceiptFault, SimRelay, status_of};

const HOUR_MS: i64 = 3_600_000;
/// Pulled receipts that are not acknowledged come again after this.
pub(crate) const LEASE_MS: i64 = 120_000;

impl SimRelay {
    pub(crate) fn arm_receipts(&self, fault: ReceiptFault, count: u8) {
        let mut inner = self.inner.lock();
        (0..count).for_each(|_| inner.receipt_faults.push_back(fault));
    }

    /// Decides when the receipts of a message come that was just taken.
    pub(super) fn plan_receipts(&self, inner: &mut Inner, reference: AttemptReference, now_ms: i64) {
        if self.traits.receipts == ReceiptMode::None {
            return;
        }
        let fault = inner.receipt_faults.pop_front();
        let Some(entry) = inner.ledger.get(&reference) else { return };
        let (status, code) = status_of(&entry.fate);
        let usual = now_ms + 20 + self.sim.below(self.receipt_ms_max) as i64;
        let receipt = |status, code: SmolStr, at_ms: i64| RawReceipt {
            reference: reference.to_string().into(),
            relay_reference: Some(self.relay_reference(reference)),
            status,
            code,
            at: DateTime::from_timestamp_millis(at_ms).unwrap_or_default(),
        };
        let said = receipt(status, code, now_ms);
        let mut report = |at_ms, receipt| inner.act_at(at_ms, Action::Report(vec![receipt]));
        match fault {
            None => report(usual, said.clone()),
            Some(ReceiptFault::Early) => report(now_ms, said.clone()),
            Some(ReceiptFault::Late) => {
                report(now_ms + HOUR_MS + self.sim.below(20) as i64 * HOUR_MS, said.clone());
            }
            Some(ReceiptFault::Twice) => {
                report(usual, said.clone());
                report(usual + self.sim.below(60_000) as i64, said.clone());
            }
            Some(ReceiptFault::Never) => {}
            Some(ReceiptFault::Corrected) => {
                let before = receipt(ReceiptStatus::Undelivered, "3012".into(), now_ms);
                report(usual, before);
                let after = receipt(ReceiptStatus::Delivered, "4000".into(), now_ms + 1);
                report(usual + 1_000 + self.sim.below(60_000) as i64, after);
            }
        }
        if let Some(entry) = inner.ledger.get_mut(&reference) {
            entry.over = (fault.is_none() && self.sim.per_cent(50)).then_some(said);
            entry.was_corrected = fault == Some(ReceiptFault::Corrected);
        }
    }

    /// A receipt for something that is not ours, or not this relay's.
    pub(crate) fn report_foreign(&self, reference: SmolStr) {
        self.inner.lock().lies.insert(reference.clone());
        let receipt = RawReceipt {
            reference,
            relay_reference: None,
            status: ReceiptStatus::Delivered,
            code: "4000".into(),
            at: self.sim.now(),
        };
        self.act_at(self.sim.now_ms(), Action::Report(vec![receipt]));
    }

    /// Whether it was told to speak of this reference.
    pub(crate) fn has_lied_about(&self, reference: &str) -> bool {
        self.inner.lock().lies.contains(reference)
    }

    /// Puts receipts where they are asked for.
    pub(crate) fn keep(&self, receipts: Vec<RawReceipt>) {
        self.inner.lock().inbox.extend(receipts);
    }

    /// Hands out receipts under a lease; those of leases that are over come again.
    pub(super) fn lease(&self, limit: u32) -> (String, Vec<RawReceipt>) {
        let now_ms = self.sim.now_ms();
        let mut inner = self.inner.lock();
        let over: Vec<String> = inner
            .leases
            .iter()
            .filter(|(_, (until, _))| *until <= now_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            if let Some((_, receipts)) = inner.leases.remove(&id) {
                inner.inbox.extend(receipts);
            }
        }
        let count = inner.inbox.len().min(limit as usize);
        if count == 0 {
            return (String::new(), Vec::new());
        }
        let receipts: Vec<RawReceipt> = inner.inbox.drain(..count).collect();
        inner.leases_made += 1;
        let id = format!("lease-{}", inner.leases_made);
        inner.leases.insert(id.clone(), (now_ms + LEASE_MS, receipts.clone()));
        (id, receipts)
    }

    /// The receipts of a lease will not come again.
    pub(super) fn forget_lease(&self, lease: &str) -> Vec<RawReceipt> {
        self.inner.lock().leases.remove(lease).map(|(_, receipts)| receipts).unwrap_or_default()
    }

    /// Receipts that nobody has fetched and acknowledged yet.
    pub(crate) fn unfetched(&self) -> usize {
        let inner = self.inner.lock();
        inner.inbox.len() + inner.leases.values().map(|(_, receipts)| receipts.len()).sum::<usize>()
    }
}
