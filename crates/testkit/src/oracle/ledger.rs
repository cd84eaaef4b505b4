//! What a relay received by its own ledger, compared with what the log says was handed over.

use serde::Deserialize;

use super::books::said::*;
use super::books::{Attempt, Message, Seal, address_key};
use super::log::Channel;
use super::{Checked, Nights, Oracle};

/// How far the relays' clock may be from Kite's: theirs counts on from its start, whatever is done to the system's.
pub(super) const CLOCKS_APART_MS: i64 = 2_000;

/// A hand-over as the ledger of relay-sim shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct LedgerEntry {
    /// The relay.
    pub relay: String,
    /// The message: `<sending>-<sequence number>`.
    pub message: String,
    /// From 1.
    pub attempt: u32,
    /// The address.
    pub recipient: String,
    /// sms, lms or email.
    #[serde(rename = "type")]
    pub kind: String,
    /// accepted, refused, delivered or undelivered.
    pub status: String,
    /// Of the refusal or of the result; empty until there is one.
    pub code: String,
    /// How many times it came in under this reference.
    pub times_received: u32,
    /// How many times it was delivered under this reference.
    pub deliveries: u32,
    /// First arrival, microseconds since 1970.
    pub arrived_at_us: u64,
}

/// An entry with everything that it is compared with.
struct Look<'l> {
    entry: &'l LedgerEntry,
    relay: u16,
    sends_again: bool,
    /// Relays whose codes are not stored literally: mail servers, which answer in replies.
    translates_codes: bool,
    is_never_reported: bool,
    seal: Option<&'l Seal>,
    nights: &'l Nights,
    codes: &'l [Box<str>],
}

impl Oracle {
    /// Reads a hand-over of a relay's ledger; after the log.
    pub fn read_ledger(&mut self, entry: &LedgerEntry) {
        self.entries += 1;
        let relay = self.relays.number(&entry.relay);
        let abilities = self.relays.abilities(relay);
        let known = entry.message.rsplit_once('-').and_then(|(sending, seq)| {
            let seq: usize = seq.parse().ok()?;
            let sending = self.books.get_mut(sending)?;
            let message = sending.messages.get_mut(seq).filter(|message| message.exists)?;
            Some((sending.seal.as_ref(), message))
        });
        let noted = match known {
            None => Err("got it, and nobody sent it".to_owned()),
            Some((seal, message)) => {
                let look = Look {
                    entry,
                    relay,
                    sends_again: abilities.sends_again(),
                    translates_codes: !abilities.gives_receipts,
                    is_never_reported: self.silent_recipients.contains(&entry.recipient),
                    seal,
                    nights: &self.nights,
                    codes: &self.codes,
                };
                look.note(message)
            }
        };
        if let Err(what) = noted {
            self.violate(format!("relay {}: {}-{}: {what}", entry.relay, entry.message, entry.attempt));
        }
    }
}

impl Look<'_> {
    fn note(&self, message: &mut Message) -> Checked {
        let entry = self.entry;
        let (to, email) = (message.to, message.email);
        let attempt = message.attempts.get_mut((entry.attempt as usize).wrapping_sub(1));
        let attempt = attempt.filter(|attempt| attempt.relay == self.relay && attempt.is(EVER_SUBMITTED));
        let attempt = attempt.ok_or("has it without an intent in the log")?;
        if attempt.is(IN_LEDGER) {
            return Err("has it twice under one reference".to_owned());
        }
        attempt.said |= IN_LEDGER | if self.is_never_reported { NEVER_REPORTED } else { 0 };
        attempt.said |= if entry.deliveries > 0 { DELIVERED_BY_LEDGER } else { 0 };
        match entry.status.as_str() {
            "delivered" if entry.deliveries > 0 => {}
            "refused" => attempt.said |= REFUSED_BY_LEDGER,
            "undelivered" => attempt.said |= UNDELIVERED_BY_LEDGER,
            other => return Err(format!("has it as {other}, delivered {} times", entry.deliveries)),
        }
        self.check_address(attempt, to, email)?;
        self.check_times(attempt)?;
        let code = self.codes.get(usize::from(attempt.code)).map_or("", |code| code);
        if attempt.is(REFUSED | UNDELIVERED)
            && !attempt.is(DELIVERED)
            && !self.translates_codes
            && code != entry.code
        {
            return Err(format!("says {}, and the log {code}", entry.code));
        }
        if entry.deliveries > 1 {
            return Err("delivered it more than once under one reference".to_owned());
        }
        if entry.times_received > 1 && self.sends_again {
            return Err("was called again although it would send again".to_owned());
        }
        Ok(())
    }

    fn check_address(&self, attempt: &Attempt, to: u64, email: u64) -> Checked {
        let entry = self.entry;
        let channel = match entry.kind.as_str() {
            "sms" => Channel::Sms,
            "lms" => Channel::Lms,
            "email" => Channel::Email,
            other => return Err(format!("got it as {other}")),
        };
        if channel != attempt.channel {
            return Err(format!("got it as {}, and it was routed as {:?}", entry.kind, attempt.channel));
        }
        let recipient = address_key(&entry.recipient);
        // By e-mail, to the address to fail over to, or else to the only one.
        let is_right = match channel {
            Channel::Email if email != 0 => recipient == email,
            _ => recipient == to,
        };
        if is_right { Ok(()) } else { Err(format!("got it for {}, a wrong recipient", entry.recipient)) }
    }

    fn check_times(&self, attempt: &Attempt) -> Checked {
        let arrived_ms = (self.entry.arrived_at_us / 1_000) as i64;
        if arrived_ms + CLOCKS_APART_MS < attempt.submitted_ms {
            return Err("got it before its intent was written".to_owned());
        }
        let sleeps = self.seal.is_some_and(|seal| seal.sleeps_at_night);
        if sleeps && attempt.channel != Channel::Email && self.nights.has_arrival(arrived_ms) {
            return Err("got an advertisement at night".to_owned());
        }
        Ok(())
    }
}
