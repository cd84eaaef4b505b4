//! What the log says of every message, folded by rules of the oracle's own.

use std::collections::HashMap;

use super::Outcome;
use super::log::{Abilities, LotAccepted, SendingAccepted, Seqs};

/// What is known of an attempt.
pub(super) mod said {
    /// The intent is in the log and not taken back by a deferral.
    pub(in crate::oracle) const SUBMITTED: u16 = 1;
    /// The answer was lost.
    pub(in crate::oracle) const UNKNOWN: u16 = 1 << 1;
    pub(in crate::oracle) const ACCEPTED: u16 = 1 << 2;
    pub(in crate::oracle) const REFUSED: u16 = 1 << 3;
    pub(in crate::oracle) const UNDELIVERED: u16 = 1 << 4;
    pub(in crate::oracle) const DELIVERED: u16 = 1 << 5;
    /// There was an intent, whatever came of it.
    pub(in crate::oracle) const EVER_SUBMITTED: u16 = 1 << 6;
    /// By the relay's own ledger: it came in; it was delivered; no receipt will ever tell.
    pub(in crate::oracle) const IN_LEDGER: u16 = 1 << 7;
    pub(in crate::oracle) const DELIVERED_BY_LEDGER: u16 = 1 << 8;
    pub(in crate::oracle) const SILENT: u16 = 1 << 9;
    /// When the attempt after it was routed, it was not known to have failed.
    pub(in crate::oracle) const LEFT_IN_DOUBT: u16 = 1 << 10;
}
use said::*;

/// An attempt at a message.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    pub(super) relay: u16,
    pub(super) said: u16,
}

impl Attempt {
    pub(super) fn is(&self, what: u16) -> bool {
        self.said & what != 0
    }

    /// Handed over, and not known to have ended.
    pub(super) fn is_in_flight(&self) -> bool {
        self.is(SUBMITTED) && !self.is(REFUSED | UNDELIVERED | DELIVERED)
    }
}

/// A message.
#[derive(Clone, Default)]
pub(super) struct Message {
    pub(super) exists: bool,
    pub(super) outcome: Option<Outcome>,
    pub(super) attempts: Vec<Attempt>,
}

/// What was promised of a sending.
pub(super) struct Seal {
    pub(super) tenant: String,
    pub(super) messages: u64,
    pub(super) lots: u32,
    pub(super) at_least_once: bool,
    /// An advertisement to people who have not agreed to any at night.
    pub(super) sleeps_at_night: bool,
}

/// A sending.
#[derive(Default)]
pub(super) struct Sending {
    pub(super) seal: Option<Seal>,
    pub(super) is_cancelled: bool,
    pub(super) lots: u32,
    pub(super) messages: Vec<Message>,
}

/// All sendings, by id.
pub(super) type Books = HashMap<Box<str>, Sending>;

impl Sending {
    pub(super) fn sealed(&mut self, accepted: SendingAccepted) -> Result<(), String> {
        if self.seal.is_some() {
            return Err("is sealed twice".to_owned());
        }
        self.seal = Some(Seal {
            tenant: accepted.tenant,
            messages: accepted.messages,
            lots: accepted.lots,
            at_least_once: accepted.failover.at_least_once,
            sleeps_at_night: accepted.class == "ad" && !accepted.ad.is_some_and(|ad| ad.night_consent),
        });
        Ok(())
    }

    pub(super) fn lot(&mut self, lot: &LotAccepted) -> Result<(), String> {
        self.lots += 1;
        for seq in lot.groups.iter().flat_map(|group| group.messages.iter()) {
            let place = seq as usize;
            if self.messages.len() <= place {
                self.messages.resize_with(place + 1, Message::default);
            }
            if std::mem::replace(&mut self.messages[place].exists, true) {
                return Err(format!("has message {seq} in two lots"));
            }
        }
        Ok(())
    }

    /// Does something to each of the messages; the first that does not fit ends it.
    pub(super) fn each(
        &mut self,
        seqs: &Seqs,
        mut change: impl FnMut(&mut Message) -> Result<(), String>,
    ) -> Result<(), String> {
        for seq in seqs.iter() {
            let message = self.messages.get_mut(seq as usize).filter(|message| message.exists);
            let message = message.ok_or_else(|| format!("has no message {seq}"))?;
            change(message).map_err(|what| format!("message {seq}: {what}"))?;
        }
        Ok(())
    }

    pub(super) fn is_at_least_once(&self) -> bool {
        self.seal.as_ref().is_some_and(|seal| seal.at_least_once)
    }
}

impl Message {
    /// Law 4: at most one attempt in flight, and on from an unknown one only where that was asked for.
    pub(super) fn routed(&mut self, number: u32, relay: u16, at_least_once: bool) -> Result<(), String> {
        if number as usize != self.attempts.len() + 1 {
            return Err(format!("is routed as attempt {number} after {}", self.attempts.len()));
        }
        if let Some(outcome) = self.outcome {
            return Err(format!("is routed again after it was {outcome:?}"));
        }
        if let Some(last) = self.attempts.last_mut() {
            if last.is(DELIVERED) {
                return Err("is routed again after it was delivered".to_owned());
            }
            if last.is_in_flight() {
                if !at_least_once {
                    return Err(format!("goes on from attempt {} which is in flight", number - 1));
                }
                last.said |= LEFT_IN_DOUBT;
            }
        }
        self.attempts.push(Attempt { relay, said: 0 });
        Ok(())
    }

    pub(super) fn submitted(&mut self, number: u32, relay: u16, abilities: Abilities) -> Result<(), String> {
        if let Some(outcome) = self.outcome {
            return Err(format!("is handed over after it was {outcome:?}"));
        }
        let is_newest = number as usize == self.attempts.len();
        let attempt = self.attempt(number)?;
        if attempt.relay != relay || !is_newest {
            return Err(format!(
                "attempt {number} is handed over to a relay that it was not routed to, or too late"
            ));
        }
        if attempt.is_in_flight() && !abilities.deduplicates && !abilities.answers_status {
            return Err(format!("attempt {number} is handed over again to a relay that would send it twice"));
        }
        attempt.said |= SUBMITTED | EVER_SUBMITTED;
        Ok(())
    }

    pub(super) fn hear(&mut self, number: u32, what: u16) -> Result<(), String> {
        let attempt = self.attempt(number)?;
        if !attempt.is(EVER_SUBMITTED) {
            return Err(format!("attempt {number} is answered without an intent"));
        }
        attempt.said |= what;
        if what & DELIVERED != 0 {
            self.finish(Outcome::Delivered);
        }
        Ok(())
    }

    /// The relay certainly did not take it.
    pub(super) fn deferred(&mut self, number: u32) -> Result<(), String> {
        let attempt = self.attempt(number)?;
        attempt.said &= !(SUBMITTED | UNKNOWN);
        Ok(())
    }

    /// By rank: what says more stays.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.outcome = self.outcome.max(Some(outcome));
    }

    fn attempt(&mut self, number: u32) -> Result<&mut Attempt, String> {
        let place = (number as usize).checked_sub(1);
        let attempt = place.and_then(|place| self.attempts.get_mut(place));
        attempt.ok_or_else(|| format!("has no attempt {number}"))
    }
}
