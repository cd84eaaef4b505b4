//! Results and receipts in time: a schedule in buckets of the flush time, leases of pulled receipts, and the wire
//! form. There is no timer per message; one task per relay empties the buckets.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, SecondsFormat};
use serde::{Serialize, Serializer};
use tokio::sync::Notify;

use crate::decide::Delivery;
use crate::wire;

/// A delivery report.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) reference: Box<str>,
    pub(crate) relay_reference: u64,
    pub(crate) delivered: bool,
    pub(crate) code: Arc<str>,
    pub(crate) at_ms: u64,
    /// Told when the client has taken it.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Holds an answer back until the client has accepted the receipts that must come first.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: AtomicUsize,
    opened: Notify,
}

impl Gate {
    /// Adds one receipt to a call's gate, which is made when it is the first.
    pub(crate) fn enter(gate: &mut Option<Arc<Self>>) -> Arc<Self> {
        let gate = gate.get_or_insert_with(Arc::default);
        gate.waiting.fetch_add(1, Ordering::AcqRel);
        gate.clone()
    }

    pub(crate) fn leave(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.opened.notify_one();
        }
    }

    /// Returns when every receipt was taken.
    pub(crate) async fn passed(&self) {
        while self.waiting.load(Ordering::Acquire) > 0 {
            self.opened.notified().await;
        }
    }
}

/// Something that will happen to a message.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) reference: Box<str>,
    pub(crate) relay_reference: u64,
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) what: What,
}

/// What will happen.
#[derive(Debug)]
pub(crate) enum What {
    /// It reaches its final result.
    Result { position: u32, delivery: Delivery },
    /// A receipt that was held back goes out.
    Report(Receipt),
}

impl Due {
    pub(crate) fn report(receipt: Receipt) -> Self {
        Self { reference: "".into(), relay_reference: 0, gate: None, what: What::Report(receipt) }
    }
}

/// What will happen, in buckets by time.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    buckets: BTreeMap<u64, Vec<Due>>,
    count: usize,
    earliest_is_new: bool,
}

impl Schedule {
    /// Adds something at a time, rounded up to a multiple of `flush_ms`.
    pub(crate) fn add(&mut self, due_ms: u64, flush_ms: u64, due: Due) {
        let bucket = if due.gate.is_some() { due_ms } else { due_ms.next_multiple_of(flush_ms) };
        self.earliest_is_new |= self.buckets.first_key_value().is_none_or(|(first, _)| bucket < *first);
        self.buckets.entry(bucket).or_default().push(due);
        self.count += 1;
    }

    /// Whether something was added since the last call that is earlier than all before.
    pub(crate) fn is_earliest_new(&mut self) -> bool {
        std::mem::take(&mut self.earliest_is_new)
    }

    /// The next bucket that is due.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Option<(u64, Vec<Due>)> {
        let first = self.buckets.first_entry().filter(|first| *first.key() <= now_ms)?;
        let (at_ms, due) = first.remove_entry();
        self.count -= due.len();
        let at_ms = if at_ms == 0 { now_ms } else { at_ms };
        Some((at_ms, due))
    }

    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.buckets.first_key_value().map(|(first, _)| *first)
    }

    /// Makes everything due.
    pub(crate) fn hurry(&mut self) {
        let all: Vec<Due> = std::mem::take(&mut self.buckets).into_values().flatten().collect();
        if !all.is_empty() {
            self.buckets.insert(0, all);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

/// Receipts that were pulled and not yet acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    granted: HashMap<String, (u64, Vec<Receipt>)>,
    next: u64,
}

impl Leases {
    /// A lease without receipts; acknowledging it does nothing.
    pub(crate) fn empty(&self) -> String {
        "empty".to_owned()
    }

    /// Hands out receipts; those of expired leases come first.
    pub(crate) fn grant(
        &mut self,
        ready: &mut VecDeque<Receipt>,
        limit: usize,
        now_ms: u64,
        lease_ms: u64,
    ) -> (String, Vec<Receipt>) {
        for (_, (_, receipts)) in self.granted.extract_if(|_, (expires_ms, _)| *expires_ms <= now_ms) {
            for receipt in receipts.into_iter().rev() {
                ready.push_front(receipt);
            }
        }
        let count = limit.min(ready.len());
        if count == 0 {
            return (self.empty(), Vec::new());
        }
        let receipts: Vec<Receipt> = ready.drain(..count).collect();
        self.next += 1;
        let lease = format!("lease-{}", self.next);
        self.granted.insert(lease.clone(), (now_ms + lease_ms, receipts.clone()));
        (lease, receipts)
    }

    /// Ends a lease and returns how many receipts it had.
    pub(crate) fn acknowledge(&mut self, lease: &str) -> usize {
        self.granted.remove(lease).map_or(0, |(_, receipts)| receipts.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.granted.values().map(|(_, receipts)| receipts.len()).sum()
    }
}

/// The relay's own reference: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayReference(pub(crate) u64);

impl Serialize for RelayReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

/// Writes times as RFC 3339 in UTC with milliseconds; calls for the same second are cheap.
#[derive(Default)]
pub(crate) struct TimeWriter {
    second: Option<u64>,
    text: String,
}

impl TimeWriter {
    pub(crate) fn write(&mut self, at_ms: u64) -> &str {
        let second = at_ms / 1_000;
        if self.second != Some(second) {
            let time = DateTime::from_timestamp(second as i64, 0).unwrap_or_default();
            self.text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
            self.second = Some(second);
        }
        self.text.truncate("2026-01-01T00:00:00".len());
        let millis = at_ms % 1_000;
        self.text.push('.');
        for digit in [millis / 100, millis / 10 % 10, millis % 10] {
            self.text.push(char::from(b'0' + digit as u8));
        }
        self.text.push('Z');
        &self.text
    }
}

/// `"receipts":[…]` members as a JSON array.
pub(crate) fn write_receipts(receipts: &[Receipt], body: &mut Vec<u8>) {
    let mut times = TimeWriter::default();
    body.push(b'[');
    for (position, receipt) in receipts.iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        wire::member(body, b'{', "reference", &receipt.reference);
        wire::relay_reference(body, receipt.relay_reference);
        wire::member(body, b',', "status", if receipt.delivered { "delivered" } else { "undelivered" });
        wire::member(body, b',', "code", &receipt.code);
        wire::member(body, b',', "at", times.write(receipt.at_ms));
        body.push(b'}');
    }
    body.push(b']');
}

/// Body of a push.
pub(crate) fn push_body(receipts: &[Receipt]) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + receipts.len() * 200);
    body.extend_from_slice(b"{\"receipts\":");
    write_receipts(receipts, &mut body);
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::TimeWriter;

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        let mut times = TimeWriter::default();
        assert_eq!(times.write(1_767_225_600_007), "2026-01-01T00:00:00.007Z");
        assert_eq!(times.write(1_767_225_600_990), "2026-01-01T00:00:00.990Z");
        assert_eq!(times.write(1_767_225_661_120), "2026-01-01T00:01:01.120Z");
    }
}
