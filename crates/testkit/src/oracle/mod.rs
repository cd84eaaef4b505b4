//! An independent judge of a run: it reads the log and the relays' own ledgers, and says what was lost, delivered twice,
//! ended without a reason or split wrongly.
//!
//! It shares no code with what it judges. It reads what `kite audit` prints, by docs/events.md, and what relay-sim shows
//! of its ledgers, by docs/relay-sim.md, and folds both by rules of its own. No read model is looked at; what read
//! models tell can be compared with [`Oracle::ends_of`].
//!
//! What law 4 permits is said as narrowly as it can be:
//! - *Delivered twice*: only a sending with `at_least_once`, and only where the earlier attempt was in doubt when the
//!   next one was routed.
//! - *Delivered, and not known to be*: only where nobody could have told. The relay gives no receipts and its answer was
//!   lost, or the recipient is one of those that the caller names as never reported. The outcome is `expired`; where
//!   `at_least_once` continued from the doubt, it is whatever came of the attempts after it.
//! - *Expired after a hand-over*: only once the receipt's time is over, and only where the relay never had the message,
//!   refused it in an answer that was lost, or could not tell.
//!
//! Deliberately absent: whether a failover that was possible was made (who was eligible then is not in the log), whether
//! a code's class is the right one (the dictionary's own tests), and policies that follow live figures.

mod books;
mod ends;
mod ledger;
mod log;
mod relays;
mod split;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use books::said::{ACCEPTED, DELIVERED, DELIVERED_BY_LEDGER, LEFT_IN_DOUBT, REFUSED, UNDELIVERED, UNKNOWN};
use books::{Books, FINAL, Heard, Intent, Message, RACE_MS, Sending, address_key};
use ends::Ending;
pub use ledger::LedgerEntry;
use log::{
    BreakerChanged, Channel, LotAccepted, MessagesFinished, MessagesRouted, MessagesSubmitted, OptOut,
    PolicyDefined, ReceiptStatus, ReceiptsRecorded, RelayDefined, RelayResponded, SendingAccepted, Seqs,
};
use relays::Relays;
use split::Asked;
pub use split::SplitKept;
use split::Splits;
pub use verdict::{Outcomes, Verdict};

/// What a look at one record came to. A verdict is read by a human, and nobody acts on which it is: so it is words.
type Checked<T = ()> = Result<T, String>;

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
    /// Nobody knows its result, or it was too old.
    Expired,
    /// Not delivered.
    Undelivered,
    /// Delivered.
    Delivered,
}

/// What became of a wish to cancel a sending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cancel {
    /// There was none.
    #[default]
    NotAsked,
    /// It came too late, or an earlier try without an answer had done it.
    Asked,
    /// It was answered as done.
    Acknowledged,
}

/// How the log ends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its sequence number in the sending.
    pub seq: u32,
    /// How; none: it has not ended.
    pub outcome: Option<Outcome>,
    /// How many attempts were routed.
    pub attempts: usize,
}

/// When advertisements are not handed over.
#[derive(Default)]
struct Nights {
    /// From and until, in milliseconds.
    windows: Vec<(i64, i64)>,
    /// How long a relay may have stood still before it looked at what it was handed.
    standstill_ms: i64,
}

impl Nights {
    fn is_at(&self, at_ms: i64) -> bool {
        self.windows.iter().any(|(from, until)| (*from..*until).contains(&at_ms))
    }

    /// Whether what a relay saw at this time was handed over at night.
    fn has_arrival(&self, at_ms: i64) -> bool {
        let is_in = |(from, until): &(i64, i64)| {
            (from + self.standstill_ms..until - ledger::CLOCKS_APART_MS).contains(&at_ms)
        };
        self.windows.iter().any(is_in)
    }
}

/// Reads a log and ledgers, then judges.
#[derive(Default)]
pub struct Oracle {
    claims: HashMap<Box<str>, (u64, Cancel)>,
    silent_recipients: BTreeSet<String>,
    nights: Nights,
    relays: Relays,
    books: Books,
    splits: Splits,
    /// Relays' codes; a number names one.
    codes: Vec<Box<str>>,
    /// By tenant and address: since when.
    opt_outs: HashMap<(String, u64), i64>,
    entries: u64,
    held: u64,
    violations: Vec<String>,
    violations_total: u64,
}

impl Oracle {
    /// A sending that was answered with 202, its number of messages, and whether it was then cancelled.
    pub fn claim(&mut self, sending: &str, messages: u64, cancel: Cancel) {
        if self.claims.insert(sending.into(), (messages, cancel)).is_some() {
            self.violate(format!("sending {sending}: two requests were answered with it"));
        }
    }

    /// The relays never report the result of a message to this recipient.
    pub fn never_reported(&mut self, recipient: &str) {
        self.silent_recipients.insert(recipient.to_owned());
    }

    /// Between these times no advertisement may be handed over by phone to one who has not agreed to it.
    pub fn night(&mut self, from: DateTime<Utc>, until: DateTime<Utc>) {
        self.nights.windows.push((from.timestamp_millis(), until.timestamp_millis()));
    }

    /// Relays may have stood still for so long: what arrived in the first moments of a night was handed over before it.
    pub fn relays_stand_still(&mut self, at_most: TimeDelta) {
        self.nights.standstill_ms = at_most.num_milliseconds();
    }

    /// Reads an event as `kite audit` prints it. The events of a log have to come in its order, all of them.
    ///
    /// # Errors
    /// When the line is not an event, or an event that matters here is not of the shape that is documented.
    pub fn read_event(&mut self, line: &str) -> anyhow::Result<()> {
        let line: log::Line<'_> = serde_json::from_str(line)?;
        let data = line.data.get();
        let at_ms = line.time.timestamp_millis();
        let id = sending_of(&line.stream);
        match &*line.kind {
            "relay-defined" => {
                let defined: RelayDefined = serde_json::from_str(data)?;
                self.relays.define(&defined.profile);
            }
            "relay-breaker-changed" => {
                let changed: BreakerChanged = serde_json::from_str(data)?;
                self.relays.breaker_changed(&changed.relay, &changed.to, at_ms);
            }
            "policy-defined" => {
                let defined: PolicyDefined = serde_json::from_str(data)?;
                self.splits.define(defined);
            }
            "opt-out-recorded" => {
                let OptOut { tenant, personal } = serde_json::from_str(data)?;
                self.opt_outs.insert((tenant, address_key(&personal.address)), at_ms);
            }
            "opt-out-withdrawn" => {
                let OptOut { tenant, personal } = serde_json::from_str(data)?;
                self.opt_outs.remove(&(tenant, address_key(&personal.address)));
            }
            "sending-accepted" => {
                let accepted: SendingAccepted = serde_json::from_str(data)?;
                self.with(id, |sending| sending.sealed(accepted));
            }
            "sending-cancelled" => self.with(id, |sending| sending.cancelled(at_ms)),
            "sending-completed" => self.with(id, Sending::completed),
            "lot-accepted" => {
                let lot: LotAccepted = serde_json::from_str(data)?;
                self.with(id, |sending| sending.lot(&lot));
            }
            "messages-routed" => self.routed(id, &serde_json::from_str(data)?, at_ms),
            "messages-submitted" => self.submitted(id, &serde_json::from_str(data)?, at_ms),
            "relay-responded" => self.responded(id, &serde_json::from_str(data)?),
            "receipts-recorded" => self.receipts(id, &serde_json::from_str(data)?),
            "messages-held" => {
                let held: log::Named = serde_json::from_str(data)?;
                self.held += held.messages.iter().count() as u64;
            }
            "messages-finished" => self.finished(id, &serde_json::from_str(data)?, at_ms),
            _ => {}
        }
        Ok(())
    }

    /// How the log ends each message of a sending so far.
    pub fn ends_of(&self, sending: &str) -> impl Iterator<Item = End> {
        let messages = self.books.get(sending).into_iter().flat_map(|sending| sending.messages.iter());
        messages.enumerate().filter(|(_, message)| message.exists).map(|(seq, message)| End {
            seq: seq as u32,
            outcome: message.outcome,
            attempts: message.attempts.len(),
        })
    }

    /// Hand-overs so far, and how many of them have no answer of any kind in the log.
    #[must_use]
    pub fn unanswered(&self) -> (u64, u64) {
        let messages = self.books.values().flat_map(Sending::all);
        let attempts = messages.flat_map(|message| &message.attempts);
        attempts.filter(|attempt| attempt.is(books::said::EVER_SUBMITTED)).fold(
            (0, 0),
            |(all, open), attempt| {
                let waits = attempt.is(books::said::SUBMITTED) && !attempt.is(ACCEPTED | UNKNOWN | FINAL);
                (all + 1, open + u64::from(waits))
            },
        )
    }

    fn violate(&mut self, what: String) {
        self.violations_total += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    fn with(&mut self, id: &str, change: impl FnOnce(&mut Sending) -> Checked) {
        let sending = match self.books.get_mut(id) {
            Some(sending) => sending,
            None => self.books.entry(id.into()).or_default(),
        };
        if let Err(what) = change(sending) {
            self.violate(format!("sending {id}: {what}"));
        }
    }

    fn routed(&mut self, id: &str, event: &MessagesRouted, at_ms: i64) {
        let Self { books, relays, splits, .. } = self;
        let sending = books.entry(id.into()).or_default();
        let checked = check_routed(sending, relays, event, at_ms).and_then(|()| {
            let tenant = sending.seal.as_ref().map_or("", |seal| &seal.tenant);
            splits.routed(&Asked { tenant, at_ms, relays }, event)
        });
        if let Err(what) = checked {
            self.violate(format!("sending {id}: {what}"));
        }
    }

    fn submitted(&mut self, id: &str, event: &MessagesSubmitted, at_ms: i64) {
        let relay = self.relays.number(&event.relay);
        let abilities = self.relays.abilities(relay);
        let is_night = self.nights.is_at(at_ms);
        let Self { books, opt_outs, .. } = self;
        let sending = books.entry(id.into()).or_default();
        let checked = check_submitted(sending, opt_outs, event, is_night, at_ms).and_then(|()| {
            let intent =
                Intent { number: event.attempt, relay, abilities, at_ms, receipt_by_ms: event.receipt_by };
            sending.each(&event.messages, |message| message.submitted(&intent))
        });
        if let Err(what) = checked {
            self.violate(format!("sending {id}: {what}"));
        }
    }

    fn responded(&mut self, id: &str, event: &RelayResponded) {
        let (number, relay) = (event.attempt, self.relays.number(&event.relay));
        let abilities = self.relays.abilities(relay);
        let heard = |what| Heard { number, relay, what, code: 0, class: None };
        if let Some(accepted) = &event.accepted {
            if accepted.is_final && abilities.gives_receipts {
                self.violate(format!(
                    "sending {id}: {} has accepted for good, and gives receipts",
                    event.relay
                ));
            }
            let what = if accepted.is_final { ACCEPTED | DELIVERED } else { ACCEPTED };
            self.each(id, &accepted.messages, |message| message.hear(&heard(what)));
        }
        for refused in &event.refused {
            let code = self.code(&refused.code);
            let heard = Heard { number, relay, what: REFUSED, code, class: Some(refused.class) };
            self.each(id, &refused.messages, |message| message.hear(&heard));
        }
        if let Some(unknown) = &event.unknown {
            self.each(id, &unknown.messages, |message| message.hear(&heard(UNKNOWN)));
        }
        for deferred in event.deferred.iter().chain(&event.refused_for_now) {
            self.each(id, &deferred.messages, |message| message.deferred(number, relay, abilities));
        }
    }

    fn receipts(&mut self, id: &str, event: &ReceiptsRecorded) {
        let relay = self.relays.number(&event.relay);
        for set in &event.sets {
            let what = match set.status {
                ReceiptStatus::Delivered => DELIVERED,
                ReceiptStatus::Undelivered => UNDELIVERED,
            };
            let code = self.code(&set.code);
            let heard = Heard { number: set.attempt, relay, what, code, class: set.class };
            self.each(id, &set.messages, |message| message.hear(&heard));
        }
    }

    fn finished(&mut self, id: &str, event: &MessagesFinished, at_ms: i64) {
        let is_night = self.nights.is_at(at_ms);
        let Self { books, opt_outs, .. } = self;
        let sending = books.entry(id.into()).or_default();
        let Some(seal) = &sending.seal else {
            return self.violate(format!("sending {id}: ends without its seal"));
        };
        let tenant = seal.tenant.clone();
        let has_opted_out = |address| opt_outs.contains_key(&(tenant.clone(), address));
        let ending = Ending {
            outcome: event.outcome,
            reason: &event.reason,
            at_ms,
            is_cancelled: sending.cancelled_ms.is_some(),
            is_ad: seal.is_ad,
            window: seal.window,
            expires_ms: seal.expires_ms,
            is_night,
            has_opted_out: &has_opted_out,
        };
        if let Err(what) = sending.each(&event.messages, |message| message.finish(&ending)) {
            self.violate(format!("sending {id}: {what}"));
        }
    }

    fn each(&mut self, id: &str, seqs: &Seqs, change: impl FnMut(&mut Message) -> Checked) {
        self.with(id, |sending| sending.each(seqs, change));
    }

    fn code(&mut self, code: &str) -> u16 {
        let known = self.codes.iter().position(|known| **known == *code);
        known.unwrap_or_else(|| {
            self.codes.push(code.into());
            self.codes.len() - 1
        }) as u16
    }
}

fn check_routed(sending: &mut Sending, relays: &mut Relays, event: &MessagesRouted, at_ms: i64) -> Checked {
    let seal = sending.seal.as_ref().ok_or("is routed without its seal")?;
    let is_first = event.routes.iter().any(|route| route.attempt == 1);
    if is_first && seal.scheduled_ms.is_some_and(|scheduled_ms| at_ms < scheduled_ms) {
        return Err("is routed before its time".to_owned());
    }
    let terms = seal.failover;
    event.routes.iter().try_for_each(|route| {
        let relay = relays.number(&route.relay);
        sending.each(&route.messages, |message| message.routed(route.attempt, relay, route.channel, terms))
    })
}

/// What forbids a hand-over as such: the time, a cancellation, the law on advertisements.
fn check_submitted(
    sending: &Sending,
    opt_outs: &HashMap<(String, u64), i64>,
    event: &MessagesSubmitted,
    is_night: bool,
    at_ms: i64,
) -> Checked {
    let seal = sending.seal.as_ref().ok_or("is handed over without its seal")?;
    if at_ms > seal.expires_ms + RACE_MS {
        return Err("is handed over after the end of its lifetime".to_owned());
    }
    if sending.cancelled_ms.is_some_and(|cancelled_ms| at_ms > cancelled_ms + RACE_MS) {
        return Err("is handed over although it was cancelled".to_owned());
    }
    if !seal.is_ad {
        return Ok(());
    }
    for seq in event.messages.iter() {
        let Some(message) = sending.messages.get(seq as usize) else { continue };
        let channel = message.attempts.last().map(|attempt| attempt.channel);
        if is_night && seal.sleeps_at_night && channel != Some(Channel::Email) {
            return Err(format!("message {seq}: is an advertisement and handed over at night"));
        }
        let mut addresses = [message.to, message.email].into_iter();
        let since_ms = |address| opt_outs.get(&(seal.tenant.clone(), address)).copied();
        if addresses.any(|address| since_ms(address).is_some_and(|since_ms| at_ms > since_ms + RACE_MS)) {
            return Err(format!("message {seq}: is an advertisement to one who refused"));
        }
    }
    Ok(())
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
