//! Whether this program is too old for its log: a newer one writes events to it that this one does not understand.
//!
//! Such a program does not stop, and guesses nothing. It continues with what it understands, leaves the rest to
//! others, and reports it.

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::event::DecodeError;
use parking_lot::Mutex;
use smol_str::{SmolStr, format_smolstr};
use std::collections::BTreeMap;
use std::sync::Arc;

/// More kinds than these are not named.
const NAMED_MAX: usize = 20;

/// A program that is too old leaves work that only one process does to others for every second half of this time, so
/// that newer ones can take it. Longer than twice the time between two looks of another process.
const TURN: TimeDelta = TimeDelta::seconds(20);

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TooOld(Arc<Mutex<Met>>);

#[derive(Debug, Default)]
struct Met {
    /// By kind and version, with the stream that it was first met in.
    kinds: BTreeMap<(SmolStr, u16), SmolStr>,
    since: DateTime<Utc>,
}

impl TooOld {
    /// An event that could not be read. Logs it the first time that its kind and version is met.
    pub(crate) fn note(&self, stream: &str, error: &DecodeError, now: DateTime<Utc>) {
        let DecodeError::UnknownKind { kind, version } = error else { return };
        let mut met = self.0.lock();
        let key = (SmolStr::from(kind), *version);
        if met.kinds.len() >= NAMED_MAX || met.kinds.contains_key(&key) {
            return;
        }
        if met.kinds.is_empty() {
            met.since = now;
        }
        met.kinds.insert(key, stream.into());
        metrics::gauge!("kite_too_old").set(1.0);
        tracing::error!(
            kind,
            version,
            stream,
            "this program is too old for its log: a newer one wrote what it does not understand, and does that work; upgrade this one"
        );
    }

    /// Whether there is anything of that.
    pub fn is_so(&self) -> bool {
        !self.0.lock().kinds.is_empty()
    }

    /// Until when this process leaves work that only one process does to others; none: it may do it. If there are no
    /// others, it does what it can, half of the time.
    pub fn gives_way_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let met = self.0.lock();
        if met.kinds.is_empty() {
            return None;
        }
        let of_turn_ms = (now - met.since).num_milliseconds().rem_euclid(TURN.num_milliseconds());
        let left = TURN / 2 - TimeDelta::milliseconds(of_turn_ms);
        (left > TimeDelta::zero()).then(|| now + left)
    }

    /// What is not understood; none: this program understands everything that it has read.
    pub fn in_words(&self) -> Option<String> {
        let met = self.0.lock();
        let one = |((kind, version), stream): (&(SmolStr, u16), &SmolStr)| {
            format_smolstr!("{kind} of schema version {version} (first in {stream})")
        };
        let named: Vec<SmolStr> = met.kinds.iter().map(one).collect();
        (!named.is_empty()).then(|| {
            format!(
                "too old for its log, and leaves to others what it does not understand: {}",
                named.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kite_domain::event::Event;

    #[test]
    fn what_a_newer_program_wrote_makes_it_too_old_and_damage_does_not() {
        let too_old = TooOld::default();
        let at = |seconds: i64| DateTime::from_timestamp(1_000 + seconds, 0).unwrap();
        too_old.note("lot-x", &Event::from_json("lot-accepted", 1, b"[").unwrap_err(), at(0));
        assert!(!too_old.is_so() && too_old.in_words().is_none() && too_old.gives_way_until(at(0)).is_none());
        for stream in ["lot-x", "lot-y"] {
            too_old.note(stream, &Event::from_json("of-tomorrow", 3, b"{}").unwrap_err(), at(0));
        }
        assert!(too_old.is_so());
        let until = [0, 9, 10, 19, 20, 25, 30].map(|seconds| too_old.gives_way_until(at(seconds)));
        assert_eq!(until, [Some(at(10)), Some(at(10)), None, None, Some(at(30)), Some(at(30)), None]);
        let words = too_old.in_words().unwrap();
        assert!(words.ends_with("understand: of-tomorrow of schema version 3 (first in lot-x)"), "{words}");
    }
}
