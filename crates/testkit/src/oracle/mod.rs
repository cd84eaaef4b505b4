//! An independent judge of a run: it reads the log and the relays' own ledgers, and says what was lost, delivered twice
//! or split wrongly.
//!
//! It shares no code with what it judges. It reads what `kite audit` prints, by docs/events.md, and what relay-sim shows
//! of its ledgers, by docs/relay-protocol.md, and folds both by rules of its own. No read model is looked at.
//!
//! What law 4 permits is said as narrowly as it can be:
//! - *Delivered twice*: only a sending with `at_least_once`, and only where the earlier attempt was in doubt when the
//!   next one was routed.
//! - *Delivered, and not known to be*: only where nobody could have told. The relay gives no receipts and its answer was
//!   lost, or the recipient is one of those that the caller names as never reported. The outcome is `expired`.

mod books;
mod log;
mod split;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use books::said::{
    ACCEPTED, DELIVERED, DELIVERED_BY_LEDGER, EVER_SUBMITTED, IN_LEDGER, LEFT_IN_DOUBT, REFUSED, SILENT,
    UNDELIVERED, UNKNOWN,
};
use books::{Books, Message, Sending};
use log::{
    LotAccepted, MessagesFinished, MessagesRouted, MessagesSubmitted, PolicyDefined, ReceiptStatus,
    ReceiptsRecorded, RelayDefined, RelayResponded, Relays, SendingAccepted, Seqs,
};
pub use split::SplitKept;
use split::Splits;
pub use verdict::{Outcomes, Verdict};

/// Violations that are kept word by word; the others are counted.
const VIOLATIONS_MAX: usize = 40;

/// How a message ended, worst known first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Cancelled before it was handed over.
    Cancelled,
    /// A rule forbade it.
    Refused,
    /// Nobody knows what became of it, or it was too old.
    Expired,
    /// Not delivered.
    Undelivered,
    /// Delivered.
    Delivered,
}

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
    /// How many times it came in under this reference.
    pub times_received: u32,
    /// How many times it was delivered under this reference.
    pub deliveries: u32,
}

/// Reads a log and ledgers, then judges.
#[derive(Default)]
pub struct Oracle {
    claims: HashMap<Box<str>, u64>,
    silent_recipients: BTreeSet<String>,
    nights: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    relays: Relays,
    books: Books,
    splits: Splits,
    entries: u64,
    held: u64,
    violations: Vec<String>,
    violations_total: u64,
}

impl Oracle {
    /// A sending that was answered with 202, and its number of messages.
    pub fn claim(&mut self, sending: &str, messages: u64) {
        self.claims.insert(sending.into(), messages);
    }

    /// The relays never report what became of a message to this recipient.
    pub fn never_reported(&mut self, recipient: &str) {
        self.silent_recipients.insert(recipient.to_owned());
    }

    /// Between these times no advertisement may be handed over by phone to one who has not agreed to it.
    pub fn night(&mut self, from: DateTime<Utc>, until: DateTime<Utc>) {
        self.nights.push((from, until));
    }

    /// Reads an event as `kite audit` prints it. The events of a log have to come in its order, all of them.
    ///
    /// # Errors
    /// When the line is not an event, or an event that matters here is not of the shape that is documented.
    pub fn read_event(&mut self, line: &str) -> anyhow::Result<()> {
        let line: log::Line<'_> = serde_json::from_str(line)?;
        let data = line.data.get();
        let sending = sending_of(&line.stream);
        match &*line.kind {
            "relay-defined" => {
                let defined: RelayDefined = serde_json::from_str(data)?;
                self.relays.define(&defined.profile);
            }
            "policy-defined" => {
                let defined: PolicyDefined = serde_json::from_str(data)?;
                self.splits.define(defined);
            }
            "sending-accepted" => {
                let accepted: SendingAccepted = serde_json::from_str(data)?;
                self.with(sending, |sending, _| sending.sealed(accepted));
            }
            "sending-cancelled" => self.with(sending, |sending, _| {
                sending.is_cancelled = true;
                Ok(())
            }),
            "lot-accepted" => {
                let lot: LotAccepted = serde_json::from_str(data)?;
                self.with(sending, |sending, _| sending.lot(&lot));
            }
            "messages-routed" => self.routed(sending, &serde_json::from_str(data)?),
            "messages-submitted" => self.submitted(sending, &serde_json::from_str(data)?, line.time),
            "relay-responded" => self.responded(sending, &serde_json::from_str(data)?),
            "receipts-recorded" => self.receipts(sending, &serde_json::from_str(data)?),
            "messages-held" => {
                let held: log::Named = serde_json::from_str(data)?;
                self.held += held.messages.iter().count() as u64;
            }
            "messages-finished" => {
                let finished: MessagesFinished = serde_json::from_str(data)?;
                self.each(sending, &finished.messages, |message| {
                    message.finish(finished.outcome);
                    Ok(())
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a hand-over of a relay's ledger; after the log.
    pub fn read_ledger(&mut self, entry: &LedgerEntry) {
        self.entries += 1;
        let relay = self.relays.number(&entry.relay);
        let abilities = self.relays.abilities(relay);
        let is_silent = !abilities.gives_receipts || self.silent_recipients.contains(&entry.recipient);
        let note = |message: &mut Message| {
            let attempt = message.attempts.get_mut((entry.attempt as usize).wrapping_sub(1));
            let attempt = attempt.filter(|attempt| attempt.relay == relay && attempt.is(EVER_SUBMITTED));
            let attempt = attempt.ok_or("has it without an intent in the log")?;
            attempt.said |= IN_LEDGER | if is_silent { SILENT } else { 0 };
            attempt.said |= if entry.deliveries > 0 { DELIVERED_BY_LEDGER } else { 0 };
            if entry.deliveries > 1 {
                return Err("delivered it more than once under one reference");
            }
            let sends_again = !abilities.deduplicates && !abilities.answers_status;
            if entry.times_received > 1 && sends_again {
                return Err("was called again although it would send again");
            }
            Ok(())
        };
        let known = entry.message.rsplit_once('-').and_then(|(sending, seq)| {
            let seq: usize = seq.parse().ok()?;
            self.books.get_mut(sending)?.messages.get_mut(seq).filter(|message| message.exists)
        });
        let noted = known.map_or(Err("got it, and nobody sent it"), note);
        if let Err(what) = noted {
            self.violate(format!("relay {}: {}-{}: {what}", entry.relay, entry.message, entry.attempt));
        }
    }

    /// How many messages were made to wait for the end of a night.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    fn violate(&mut self, what: String) {
        self.violations_total += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    fn with(&mut self, id: &str, change: impl FnOnce(&mut Sending, &mut Relays) -> Result<(), String>) {
        let sending = match self.books.get_mut(id) {
            Some(sending) => sending,
            None => self.books.entry(id.into()).or_default(),
        };
        if let Err(what) = change(sending, &mut self.relays) {
            self.violate(format!("sending {id}: {what}"));
        }
    }

    fn each(&mut self, id: &str, seqs: &Seqs, change: impl FnMut(&mut Message) -> Result<(), String>) {
        self.with(id, |sending, _| sending.each(seqs, change));
    }

    fn routed(&mut self, id: &str, event: &MessagesRouted) {
        self.with(id, |sending, relays| {
            if sending.seal.is_none() {
                return Err("is routed without its seal".to_owned());
            }
            let at_least_once = sending.is_at_least_once();
            event.routes.iter().try_for_each(|route| {
                let relay = relays.number(&route.relay);
                sending.each(&route.messages, |message| message.routed(route.attempt, relay, at_least_once))
            })
        });
        let seal = self.books.get(id).and_then(|sending| sending.seal.as_ref());
        if let Some(seal) = seal
            && let Err(what) = self.splits.routed(&seal.tenant, event)
        {
            self.violate(format!("sending {id}: {what}"));
        }
    }

    fn submitted(&mut self, id: &str, event: &MessagesSubmitted, time: DateTime<Utc>) {
        let relay = self.relays.number(&event.relay);
        let abilities = self.relays.abilities(relay);
        // Relays that give no receipts are mail servers, and e-mail is exempt.
        let is_night = abilities.gives_receipts
            && self.nights.iter().any(|(from, until)| *from <= time && time < *until);
        self.with(id, |sending, _| {
            if is_night && sending.seal.as_ref().is_some_and(|seal| seal.sleeps_at_night) {
                return Err(format!("is an advertisement and handed over at {time}, at night"));
            }
            sending.each(&event.messages, |message| message.submitted(event.attempt, relay, abilities))
        });
    }

    fn responded(&mut self, id: &str, event: &RelayResponded) {
        if let Some(accepted) = &event.accepted {
            let what = if accepted.is_final { ACCEPTED | DELIVERED } else { ACCEPTED };
            self.each(id, &accepted.messages, |message| message.hear(event.attempt, what));
        }
        for refused in &event.refused {
            self.each(id, &refused.messages, |message| message.hear(event.attempt, REFUSED));
        }
        if let Some(unknown) = &event.unknown {
            self.each(id, &unknown.messages, |message| message.hear(event.attempt, UNKNOWN));
        }
        if let Some(deferred) = &event.deferred {
            self.each(id, &deferred.messages, |message| message.deferred(event.attempt));
        }
    }

    fn receipts(&mut self, id: &str, event: &ReceiptsRecorded) {
        for set in &event.sets {
            let what = match set.status {
                ReceiptStatus::Delivered => DELIVERED,
                ReceiptStatus::Undelivered => UNDELIVERED,
            };
            self.each(id, &set.messages, |message| message.hear(set.attempt, what));
        }
    }
}

/// The sending of a stream `sending-<id>` or `lot-<id>-<number>`; empty for any other.
fn sending_of(stream: &str) -> &str {
    if let Some(id) = stream.strip_prefix("sending-") {
        return id;
    }
    let lot = stream.strip_prefix("lot-").and_then(|rest| rest.rsplit_once('-'));
    lot.map_or("", |(id, _)| id)
}

/// Whether the message was delivered twice in a way that law 4 permits.
fn may_be_double(sending: &Sending, message: &Message) -> bool {
    let mut delivered = message.attempts.iter().filter(|attempt| attempt.is(DELIVERED_BY_LEDGER)).peekable();
    let mut earlier_in_doubt = true;
    while let Some(attempt) = delivered.next() {
        earlier_in_doubt &= delivered.peek().is_none() || attempt.is(LEFT_IN_DOUBT);
    }
    sending.is_at_least_once() && earlier_in_doubt
}
