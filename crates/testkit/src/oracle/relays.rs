//! What the log says of the relays themselves.

use std::collections::BTreeMap;

use super::log::Profile;

/// How long a router may use what it saw of a breaker before. Milliseconds.
const NOTICE_MS: i64 = 10_000;

/// What a relay can do, by its definition.
#[derive(Clone, Copy, Default)]
pub(super) struct Abilities {
    pub(super) deduplicates: bool,
    pub(super) answers_status: bool,
    pub(super) gives_receipts: bool,
}

impl Abilities {
    /// Whether handing over again under the same reference sends twice, and the relay cannot be asked before.
    pub(super) fn sends_again(self) -> bool {
        !self.deduplicates && !self.answers_status
    }
}

impl From<&Profile> for Abilities {
    fn from(profile: &Profile) -> Self {
        Self {
            deduplicates: profile.deduplicates,
            answers_status: profile.answers_status,
            gives_receipts: profile.receipts != "none",
        }
    }
}

/// Relays by number: names are long and messages are many.
#[derive(Default)]
pub(super) struct Relays {
    numbers: BTreeMap<String, u16>,
    relays: Vec<Relay>,
}

#[derive(Default)]
struct Relay {
    abilities: Abilities,
    is_tripped: bool,
    /// When the breaker was last seen to be tripped, once it is no longer.
    tripped_until_ms: Option<i64>,
}

impl Relays {
    pub(super) fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.relays.len() as u16;
        self.numbers.insert(name.to_owned(), number);
        self.relays.push(Relay::default());
        number
    }

    pub(super) fn define(&mut self, profile: &Profile) {
        let number = self.number(&profile.relay);
        self.relays[usize::from(number)].abilities = profile.into();
    }

    pub(super) fn abilities(&self, number: u16) -> Abilities {
        self.relays[usize::from(number)].abilities
    }

    pub(super) fn breaker_changed(&mut self, name: &str, to: &str, at_ms: i64) {
        let number = self.number(name);
        let relay = &mut self.relays[usize::from(number)];
        let was_tripped = std::mem::replace(&mut relay.is_tripped, to == "tripped");
        if was_tripped && !relay.is_tripped {
            relay.tripped_until_ms = Some(at_ms);
        }
    }

    /// Whether a router could know it to be tripped at this time.
    pub(super) fn is_tripped(&self, name: &str, at_ms: i64) -> bool {
        self.numbers.get(name).is_some_and(|number| {
            let relay = &self.relays[usize::from(*number)];
            relay.is_tripped || relay.tripped_until_ms.is_some_and(|until_ms| at_ms <= until_ms + NOTICE_MS)
        })
    }

    pub(super) fn name(&self, number: u16) -> &str {
        self.numbers.iter().find(|(_, known)| **known == number).map_or("", |(name, _)| name)
    }
}
