//! The state of every message by the log, folded by rules of the oracle's own.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::log::{Channel, Class, Failover, LotAccepted, SendingAccepted, Seqs, Window};
use super::relays::Abilities;
use super::{Checked, Outcome};

/// How long a decision may take until it is in the log: what was allowed then may no longer be.
pub(super) const RACE_MS: i64 = 10_000;

/// What is known of an attempt.
pub(super) mod said {
    /// The intent is in the log and not taken back by a deferral.
    pub(in crate::oracle) const SUBMITTED: u16 = 1;
    /// The answer to the newest call was lost.
    pub(in crate::oracle) const UNKNOWN: u16 = 1 << 1;
    pub(in crate::oracle) const ACCEPTED: u16 = 1 << 2;
    pub(in crate::oracle) const REFUSED: u16 = 1 << 3;
    pub(in crate::oracle) const UNDELIVERED: u16 = 1 << 4;
    pub(in crate::oracle) const DELIVERED: u16 = 1 << 5;
    /// There was an intent, whatever came of it.
    pub(in crate::oracle) const EVER_SUBMITTED: u16 = 1 << 6;
    /// A call before the newest one may have been accepted.
    pub(in crate::oracle) const DOUBT: u16 = 1 << 7;
    /// When the attempt after it was routed, it was not known to have failed.
    pub(in crate::oracle) const LEFT_IN_DOUBT: u16 = 1 << 8;
    /// By the relay's own ledger: whether it came in, its result, and whether this recipient gets receipts.
    pub(in crate::oracle) const IN_LEDGER: u16 = 1 << 9;
    pub(in crate::oracle) const DELIVERED_BY_LEDGER: u16 = 1 << 10;
    pub(in crate::oracle) const REFUSED_BY_LEDGER: u16 = 1 << 11;
    pub(in crate::oracle) const UNDELIVERED_BY_LEDGER: u16 = 1 << 12;
    pub(in crate::oracle) const NEVER_REPORTED: u16 = 1 << 13;
}
use said::*;

/// What is known for good.
pub(super) const FINAL: u16 = REFUSED | UNDELIVERED | DELIVERED;

/// An attempt at a message.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    pub(super) relay: u16,
    pub(super) said: u16,
    /// The relay's code for the failure, by its number.
    pub(super) code: u16,
    pub(super) channel: Channel,
    /// What the failure means.
    class: Option<Class>,
    /// Of the first intent.
    pub(super) submitted_ms: i64,
    /// Of the newest.
    pub(super) receipt_by_ms: i64,
}

impl Attempt {
    pub(super) fn is(&self, what: u16) -> bool {
        self.said & what != 0
    }

    /// Handed over, and not known to have ended.
    pub(super) fn is_in_flight(&self) -> bool {
        self.is(SUBMITTED) && !self.is(FINAL)
    }
}

/// A message.
#[derive(Clone, Default)]
pub(super) struct Message {
    pub(super) exists: bool,
    pub(super) outcome: Option<Outcome>,
    pub(super) message_type: Option<Channel>,
    pub(super) attempts: Vec<Attempt>,
    /// Addresses, hashed: they are long and messages are many. 0: there is none.
    pub(super) to: u64,
    pub(super) email: u64,
}

/// What was promised of a sending.
pub(super) struct Seal {
    pub(super) tenant: String,
    pub(super) messages: u64,
    pub(super) lots: u32,
    pub(super) failover: Failover,
    pub(super) is_ad: bool,
    pub(super) window: Window,
    /// An advertisement to people who have not agreed to any at night.
    pub(super) sleeps_at_night: bool,
    pub(super) scheduled_ms: Option<i64>,
    pub(super) expires_ms: i64,
}

/// A sending.
#[derive(Default)]
pub(super) struct Sending {
    pub(super) seal: Option<Seal>,
    pub(super) cancelled_ms: Option<i64>,
    pub(super) is_completed: bool,
    pub(super) lots: u32,
    pub(super) messages: Vec<Message>,
}

/// All sendings, by id.
pub(super) type Books = HashMap<Box<str>, Sending>;

/// What a relay was called with.
pub(super) struct Intent {
    pub(super) number: u32,
    pub(super) relay: u16,
    pub(super) abilities: Abilities,
    pub(super) at_ms: i64,
    pub(super) receipt_by_ms: i64,
}

/// What was heard of an attempt.
pub(super) struct Heard {
    pub(super) number: u32,
    pub(super) relay: u16,
    pub(super) what: u16,
    /// Of a failure.
    pub(super) code: u16,
    pub(super) class: Option<Class>,
}

/// A short name for an address.
pub(super) fn address_key(address: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(address.as_bytes());
    hasher.finish().max(1)
}

impl Sending {
    pub(super) fn sealed(&mut self, accepted: SendingAccepted) -> Checked {
        if self.seal.is_some() {
            return Err("is sealed twice".to_owned());
        }
        let is_ad = accepted.class == "ad";
        let ad = accepted.ad;
        self.seal = Some(Seal {
            tenant: accepted.tenant,
            messages: accepted.messages,
            lots: accepted.lots,
            failover: accepted.failover,
            is_ad,
            window: ad.as_ref().map(|ad| ad.window).unwrap_or_default(),
            sleeps_at_night: is_ad && !ad.is_some_and(|ad| ad.night_consent),
            scheduled_ms: accepted.scheduled_at,
            expires_ms: accepted.expires_at,
        });
        Ok(())
    }

    pub(super) fn lot(&mut self, lot: &LotAccepted) -> Checked {
        self.lots += 1;
        let mut seqs: Vec<(u32, Channel)> = Vec::with_capacity(lot.personal.recipients.len());
        for group in &lot.groups {
            seqs.extend(group.messages.iter().map(|seq| (seq, group.message_type)));
        }
        seqs.sort_unstable_by_key(|(seq, _)| *seq);
        if seqs.len() != lot.personal.recipients.len() {
            let recipients = lot.personal.recipients.len();
            return Err(format!("has a lot of {} messages to {recipients} recipients", seqs.len()));
        }
        for ((seq, message_type), recipient) in seqs.into_iter().zip(&lot.personal.recipients) {
            let place = seq as usize;
            if self.messages.len() <= place {
                self.messages.resize_with(place + 1, Message::default);
            }
            let message = &mut self.messages[place];
            if std::mem::replace(&mut message.exists, true) {
                return Err(format!("has message {seq} in two lots"));
            }
            message.message_type = Some(message_type);
            message.to = address_key(&recipient.to);
            message.email = recipient.email.as_deref().map_or(0, address_key);
        }
        Ok(())
    }

    pub(super) fn cancelled(&mut self, at_ms: i64) -> Checked {
        if self.cancelled_ms.replace(at_ms).is_some() || self.is_completed {
            return Err("is cancelled twice, or after it was completed".to_owned());
        }
        Ok(())
    }

    pub(super) fn completed(&mut self) -> Checked {
        let is_repeated = std::mem::replace(&mut self.is_completed, true);
        let open = self.all().filter(|message| message.outcome.is_none()).count();
        if is_repeated || open > 0 {
            return Err(format!("is completed twice, or with {open} open messages"));
        }
        Ok(())
    }

    /// Those messages that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| message.exists)
    }

    /// Does something to each of the messages; the first that does not fit ends it.
    pub(super) fn each(&mut self, seqs: &Seqs, mut change: impl FnMut(&mut Message) -> Checked) -> Checked {
        for seq in seqs.iter() {
            let message = self.messages.get_mut(seq as usize).filter(|message| message.exists);
            let message = message.ok_or_else(|| format!("has no message {seq}"))?;
            change(message).map_err(|what| format!("message {seq}: {what}"))?;
        }
        Ok(())
    }

    pub(super) fn is_at_least_once(&self) -> bool {
        self.seal.as_ref().is_some_and(|seal| seal.failover.at_least_once)
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled_ms.is_some()
    }
}

impl Message {
    /// Law 4: at most one attempt in flight, and failover from an unknown one only if that was requested. The class
    /// of a failure says what may follow it.
    pub(super) fn routed(&mut self, number: u32, relay: u16, channel: Channel, terms: Failover) -> Checked {
        if number as usize != self.attempts.len() + 1 {
            return Err(format!("is routed as attempt {number} after {}", self.attempts.len()));
        }
        if let Some(outcome) = self.outcome {
            return Err(format!("is routed again after it was {outcome:?}"));
        }
        if number > terms.attempts_max {
            return Err(format!("is routed as attempt {number} of {} at most", terms.attempts_max));
        }
        if self.attempts.iter().any(|attempt| attempt.relay == relay) {
            return Err("is routed to the same relay a second time".to_owned());
        }
        match self.attempts.last_mut() {
            None if self.message_type != Some(channel) => {
                return Err(format!("is a {:?} and routed as {channel:?}", self.message_type));
            }
            None => self.attempts.reserve_exact(1),
            Some(last) => last.followed(number, channel, terms)?,
        }
        self.attempts.push(Attempt {
            relay,
            said: 0,
            code: 0,
            channel,
            class: None,
            submitted_ms: 0,
            receipt_by_ms: 0,
        });
        Ok(())
    }

    pub(super) fn submitted(&mut self, intent: &Intent) -> Checked {
        let Intent { number, relay, abilities, at_ms, receipt_by_ms } = *intent;
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
        if attempt.is(ACCEPTED | FINAL) {
            return Err(format!("attempt {number} is handed over again after it was answered"));
        }
        if attempt.is_in_flight() {
            if abilities.sends_again() {
                return Err(format!(
                    "attempt {number} is handed over again to a relay that would send it twice"
                ));
            }
            attempt.said |= DOUBT;
        }
        if !attempt.is(EVER_SUBMITTED) {
            attempt.submitted_ms = at_ms;
        }
        attempt.receipt_by_ms = receipt_by_ms;
        attempt.said &= !UNKNOWN;
        attempt.said |= SUBMITTED | EVER_SUBMITTED;
        Ok(())
    }

    pub(super) fn hear(&mut self, heard: &Heard) -> Checked {
        let Heard { number, relay, what, code, class } = *heard;
        let attempt = self.heard_of(number, relay)?;
        attempt.said |= what;
        if what & (REFUSED | UNDELIVERED) != 0 {
            (attempt.code, attempt.class) = (code, class);
        }
        if what & DELIVERED != 0 {
            self.outcome = Some(Outcome::Delivered);
        }
        Ok(())
    }

    /// The relay certainly did not accept it: by its answer to the only call, or because it was asked and never had
    /// it.
    pub(super) fn deferred(&mut self, number: u32, relay: u16, abilities: Abilities) -> Checked {
        let attempt = self.heard_of(number, relay)?;
        if attempt.is(ACCEPTED | FINAL) {
            return Ok(());
        }
        let was_asked = attempt.is(UNKNOWN) && abilities.answers_status;
        if attempt.is(DOUBT) && !was_asked {
            return Err(format!("attempt {number} is as new although an earlier call may have been taken"));
        }
        attempt.said &= !(SUBMITTED | UNKNOWN | DOUBT);
        Ok(())
    }

    fn heard_of(&mut self, number: u32, relay: u16) -> Checked<&mut Attempt> {
        let attempt = self.attempt(number)?;
        if attempt.relay != relay {
            return Err(format!("attempt {number} is answered by a relay that never had it"));
        }
        if !attempt.is(EVER_SUBMITTED) {
            return Err(format!("attempt {number} is answered without an intent"));
        }
        Ok(attempt)
    }

    fn attempt(&mut self, number: u32) -> Checked<&mut Attempt> {
        let place = (number as usize).checked_sub(1);
        let attempt = place.and_then(|place| self.attempts.get_mut(place));
        attempt.ok_or_else(|| format!("has no attempt {number}"))
    }
}

impl Attempt {
    /// Whether another attempt may come after it, over this channel.
    fn followed(&mut self, number: u32, channel: Channel, terms: Failover) -> Checked {
        if self.is(DELIVERED) {
            return Err("is routed again after it was delivered".to_owned());
        }
        if self.is_in_flight() {
            if !terms.at_least_once {
                return Err(format!("goes on from attempt {} which is in flight", number - 1));
            }
            self.said |= LEFT_IN_DOUBT;
        }
        let class = match self.class {
            Some(class) if self.is(FINAL) => class,
            None if self.is(FINAL) => Class::Unclassified,
            // Taken away from a relay that takes nothing at the moment.
            _ if !self.is(SUBMITTED) => Class::RelayFault,
            _ => Class::Unknown,
        };
        let may_follow = match channel == self.channel {
            true => terms.relays && helps_another_relay(class, terms),
            false => {
                terms.email
                    && self.is(SUBMITTED)
                    && channel == Channel::Email
                    && helps_another_channel(class, terms)
            }
        };
        if may_follow { Ok(()) } else { Err(format!("goes on over {channel:?} after {class:?}")) }
    }
}

/// Another relay helps where the failure was the relay's.
fn helps_another_relay(class: Class, terms: Failover) -> bool {
    match class {
        Class::RelayFault | Class::Reputation | Class::Balance | Class::Sender => true,
        Class::Unknown => terms.at_least_once,
        _ => false,
    }
}

/// E-mail helps where the failure was the phone's, or no relay is left.
fn helps_another_channel(class: Class, terms: Failover) -> bool {
    match class {
        Class::RelayFault | Class::Reputation | Class::HandsetPermanent => true,
        Class::HandsetTemporary | Class::Unclassified => terms.email_after_temporary,
        Class::Unknown => terms.at_least_once,
        _ => false,
    }
}
