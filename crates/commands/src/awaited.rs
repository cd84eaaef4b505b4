//! Messages that wait for relays which take nothing at the moment. The router and relay workers note them; they
//! decide how soon such a relay is tried again.
//!
//! Only a hint in memory: a missing note is made again by the next worker that has to wait, and a stale one costs a
//! look.

use chrono::{DateTime, Utc};
use kite_domain::breaker::Awaiting;
use kite_domain::sending::MessageClass;
use kite_domain::slug::RelayId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Awaited(Arc<Mutex<HashMap<RelayId, ByClass>>>);

type ByClass = BTreeMap<MessageClass, Noted>;

#[derive(Debug, Clone, Copy)]
struct Noted {
    expires_at: DateTime<Utc>,
    /// If it still waits, it is noted again before this time.
    valid_until: DateTime<Utc>,
}

impl Awaited {
    /// Messages of this class wait for the relay, and are useful until they expire. The caller notes it again before
    /// `valid_until`, for as long as it is true.
    pub fn note(&self, relay: &RelayId, waiting: Awaiting, valid_until: DateTime<Utc>, now: DateTime<Utc>) {
        if waiting.expires_at <= now {
            return;
        }
        let mut relays = self.0.lock();
        if !relays.contains_key(relay) {
            relays.insert(relay.clone(), ByClass::new());
        }
        let Some(classes) = relays.get_mut(relay) else { return };
        let fresh = Noted { expires_at: waiting.expires_at, valid_until };
        let noted = classes.entry(waiting.class).or_insert(fresh);
        *noted = match noted.is_valid(now) {
            true => Noted {
                expires_at: noted.expires_at.min(waiting.expires_at),
                valid_until: noted.valid_until.max(valid_until),
            },
            false => fresh,
        };
    }

    /// What waits for the relay now, at most one of each class.
    pub fn of(&self, relay: &RelayId, now: DateTime<Utc>) -> Vec<Awaiting> {
        let mut relays = self.0.lock();
        let Some(classes) = relays.get_mut(relay) else { return Vec::new() };
        classes.retain(|_, noted| noted.is_valid(now));
        classes
            .iter()
            .map(|(class, noted)| Awaiting { class: *class, expires_at: noted.expires_at })
            .collect()
    }
}

impl Noted {
    fn is_valid(self, now: DateTime<Utc>) -> bool {
        self.valid_until > now && self.expires_at > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn the_first_to_expire_of_each_class_is_kept_for_as_long_as_it_is_said() {
        let awaited = Awaited::default();
        let alpha = RelayId::from_trusted("alpha");
        let waiting = |class, expires_s| Awaiting { class, expires_at: at(expires_s) };
        awaited.note(&alpha, waiting(MessageClass::Otp, 600), at(15), at(0));
        awaited.note(&alpha, waiting(MessageClass::Otp, 100), at(10), at(0));
        awaited.note(&alpha, waiting(MessageClass::Ad, 9_000), at(10), at(0));
        assert_eq!(
            awaited.of(&alpha, at(1)),
            [waiting(MessageClass::Otp, 100), waiting(MessageClass::Ad, 9_000)]
        );
        assert_eq!(awaited.of(&alpha, at(10)), [waiting(MessageClass::Otp, 100)]);
        assert_eq!(awaited.of(&alpha, at(15)), []);
        awaited.note(&alpha, waiting(MessageClass::Otp, 500), at(30), at(16));
        assert_eq!(
            awaited.of(&alpha, at(16)),
            [waiting(MessageClass::Otp, 500)],
            "the old word is forgotten"
        );
        awaited.note(&alpha, waiting(MessageClass::Otp, 5), at(30), at(16));
        assert_eq!(awaited.of(&alpha, at(17)), [waiting(MessageClass::Otp, 500)], "over already");
        assert_eq!(awaited.of(&RelayId::from_trusted("beta"), at(0)), []);
    }
}
