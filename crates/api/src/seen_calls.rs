//! Calls of relays with receipts that were recorded lately. Bounded; what is forgotten is harmless, because receipts are recorded once however
//! often they come.

use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use smol_str::{SmolStr, format_smolstr};
use std::collections::{HashSet, VecDeque};

/// The calls of five minutes, in which a signature is valid, at fifty per second; 2 MB in memory.
const REMEMBERED_MAX: usize = 16_384;

/// The calls.
#[derive(Debug, Default)]
pub(crate) struct SeenCalls {
    inner: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    calls: HashSet<SmolStr>,
    oldest_first: VecDeque<SmolStr>,
}

fn key(relay: &RelayId, call: &str) -> SmolStr {
    format_smolstr!("{relay}/{call}")
}

impl SeenCalls {
    /// Whether this call of this relay was recorded.
    pub(crate) fn has(&self, relay: &RelayId, call: &str) -> bool {
        self.inner.lock().calls.contains(&key(relay, call))
    }

    /// It is recorded.
    pub(crate) fn remember(&self, relay: &RelayId, call: &str) {
        let key = key(relay, call);
        let mut inner = self.inner.lock();
        if !inner.calls.insert(key.clone()) {
            return;
        }
        inner.oldest_first.push_back(key);
        if inner.oldest_first.len() > REMEMBERED_MAX
            && let Some(oldest) = inner.oldest_first.pop_front()
        {
            inner.calls.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_relay_and_forgotten_oldest_first() {
        let (alpha, beta) = (RelayId::from_trusted("alpha"), RelayId::from_trusted("beta"));
        let seen = SeenCalls::default();
        seen.remember(&alpha, "first");
        assert!(seen.has(&alpha, "first") && !seen.has(&beta, "first"));
        (0..REMEMBERED_MAX).for_each(|count| seen.remember(&alpha, &format!("call {count}")));
        assert!(!seen.has(&alpha, "first"));
        assert!(seen.has(&alpha, "call 0"));
    }
}
