//! Calls of relays with receipts that were recorded lately. Bounded; what is forgotten is harmless, because receipts are recorded once however
//! often they come.

use hashlink::LinkedHashSet;
use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use smol_str::{SmolStr, format_smolstr};

/// The calls of five minutes, in which a signature is valid, at fifty per second; 2 MB in memory.
const REMEMBERED_MAX: usize = 16_384;

/// The calls, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct SeenCalls(Mutex<LinkedHashSet<SmolStr>>);

fn key(relay: &RelayId, call: &str) -> SmolStr {
    format_smolstr!("{relay}/{call}")
}

impl SeenCalls {
    /// Whether this call of this relay was recorded.
    pub(crate) fn has(&self, relay: &RelayId, call: &str) -> bool {
        self.0.lock().contains(&key(relay, call))
    }

    /// It is recorded.
    pub(crate) fn remember(&self, relay: &RelayId, call: &str) {
        let mut calls = self.0.lock();
        // One that comes again keeps its place.
        calls.replace(key(relay, call));
        if calls.len() > REMEMBERED_MAX {
            calls.pop_front();
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
        (0..REMEMBERED_MAX - 1).for_each(|count| seen.remember(&alpha, &format!("call {count}")));
        assert!(seen.has(&alpha, "first"));
        seen.remember(&alpha, "first");
        seen.remember(&alpha, "last");
        assert!(!seen.has(&alpha, "first"), "the oldest, although it came again");
        assert!(seen.has(&alpha, "call 0"));
    }
}
