//! What the oracle comes to.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::books::said::{DELIVERED, DELIVERED_BY_LEDGER, EVER_SUBMITTED};
use super::books::{Attempt, Message, Sending};
use super::ends::{Untold, check_end};
use super::{Cancel, Checked, Oracle, Outcome, SplitKept, may_be_double};

/// Of the messages that expired at a relay, so many are named.
const EXPIRED_NAMED_MAX: usize = 5;

/// How many messages ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Delivered.
    pub delivered: u64,
    /// Not delivered.
    pub undelivered: u64,
    /// Nobody knows, or too old.
    pub expired: u64,
    /// Cancelled in time.
    pub cancelled: u64,
    /// Forbidden by a rule.
    pub refused: u64,
}

/// The judgement.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// Sendings that are sealed.
    pub sendings: u64,
    /// Messages of them.
    pub messages: u64,
    /// How they ended.
    pub outcomes: Outcomes,
    /// Messages that were answered with 202 and are not in the log, or have no end in it.
    pub lost: u64,
    /// Messages delivered twice although law 4 forbids it.
    pub delivered_twice: u64,
    /// Messages delivered twice as law 4 permits.
    pub delivered_twice_permitted: u64,
    /// Messages that a relay delivered without anybody being able to know, as law 4 permits.
    pub delivered_untold: u64,
    /// Messages that expired after they were handed over, by the relay of the last attempt. Those of cancelled
    /// sendings are left out: they are not asked about, but only waited for.
    pub expired_at: BTreeMap<String, u64>,
    /// The first few of those, by relay.
    pub expired_messages: BTreeMap<String, Vec<String>>,
    /// Hand-overs that a mail server refused before it knew their reference: they are in no ledger, only counted there.
    pub refused_unseen: u64,
    /// Times that a message was held for the end of a night.
    pub held: u64,
    /// First routes while a relay that has a share was left out of the split.
    pub split_with_left_out: u64,
    /// Hand-overs in the relays' ledgers.
    pub ledger_entries: u64,
    /// Every split.
    pub splits: Vec<SplitKept>,
    /// Everything that is wrong, up to a limit.
    pub violations: Vec<String>,
    /// How many there are.
    pub violations_total: u64,
}

impl Verdict {
    /// Counts a message that expired after it was handed over.
    fn expired(&mut self, relay: &str, message: String) {
        *self.expired_at.entry(relay.to_owned()).or_default() += 1;
        let named = self.expired_messages.entry(relay.to_owned()).or_default();
        if named.len() < EXPIRED_NAMED_MAX {
            named.push(message);
        }
    }

    /// Whether everything holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.delivered_twice == 0 && self.violations_total == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcomes { delivered, undelivered, expired, cancelled, refused } = self.outcomes;
        writeln!(
            formatter,
            "{} messages in {} sendings: {delivered} delivered, {undelivered} undelivered, {expired} expired, {cancelled} cancelled, {refused} refused",
            self.messages, self.sendings
        )?;
        writeln!(
            formatter,
            "lost {}, delivered twice {} (and {} as law 4 permits), delivered and never told {}; {} hand-overs in the ledgers",
            self.lost,
            self.delivered_twice,
            self.delivered_twice_permitted,
            self.delivered_untold,
            self.ledger_entries
        )?;
        writeln!(
            formatter,
            "held at night {}; expired without an answer at {:?}, such as {:?}",
            self.held, self.expired_at, self.expired_messages
        )?;
        for split in &self.splits {
            writeln!(
                formatter,
                "split {}: {} messages, at most {:.4} off",
                split.split, split.messages, split.off_max
            )?;
        }
        writeln!(
            formatter,
            "{} of them were split while a relay with a share was left out",
            self.split_with_left_out
        )?;
        self.violations.iter().try_for_each(|violation| writeln!(formatter, "does not hold: {violation}"))?;
        let untold = self.violations_total - self.violations.len() as u64;
        if untold > 0 { writeln!(formatter, "and {untold} more that do not hold") } else { Ok(()) }
    }
}

impl Message {
    /// The attempt that it expired after; none where that is as it should be in a cancelled sending.
    fn expired_after(&self, sending: &Sending) -> Option<&Attempt> {
        let is_counted = self.outcome == Some(Outcome::Expired) && !sending.is_cancelled();
        self.attempts.last().filter(|last| is_counted && last.is(EVER_SUBMITTED))
    }
}

impl Oracle {
    /// Judges. Everything must be over: the log read to its end, the ledgers complete, no receipt on its way.
    #[must_use]
    pub fn judge(mut self) -> Verdict {
        let mut verdict = Verdict {
            ledger_entries: self.entries,
            held: self.held,
            split_with_left_out: self.splits.with_left_out,
            ..Verdict::default()
        };
        let books = std::mem::take(&mut self.books);
        let mut sealed: Vec<_> = books.iter().filter(|(_, sending)| sending.seal.is_some()).collect();
        sealed.sort_by_key(|(id, _)| *id);
        for (id, sending) in sealed {
            verdict.sendings += 1;
            self.check_seal(id, sending, &mut verdict);
            if !sending.is_completed {
                self.violate(format!("sending {id}: is over and was never completed"));
            }
            for (seq, message) in sending.messages.iter().enumerate().filter(|(_, message)| message.exists) {
                verdict.messages += 1;
                let checked = self.check(sending, message, &mut verdict);
                if let Some(last) = message.expired_after(sending) {
                    verdict.expired(self.relays.name(last.relay), format!("{id}-{seq}"));
                }
                if let Err(what) = checked {
                    self.violate(format!("message {id}-{seq}: {what}"));
                }
            }
        }
        for (id, (messages, _)) in std::mem::take(&mut self.claims) {
            if books.get(&id).is_none_or(|sending| sending.seal.is_none()) {
                verdict.lost += messages;
                self.violate(format!("sending {id}: got a 202 and is not in the log"));
            }
        }
        verdict.splits = self.splits.kept();
        for split in verdict.splits.iter().filter(|split| !split.is_exact) {
            self.violate(format!("split {}: {} messages off", split.split, split.off_max));
        }
        verdict.violations = self.violations;
        verdict.violations_total = self.violations_total;
        verdict
    }

    fn check_seal(&mut self, id: &str, sending: &Sending, verdict: &mut Verdict) {
        let Some(seal) = &sending.seal else { return };
        let messages = sending.all().count() as u64;
        if (seal.lots, seal.messages) != (sending.lots, messages) {
            self.violate(format!(
                "sending {id}: sealed with {} messages in {} lots, {messages} in {} are there",
                seal.messages, seal.lots, sending.lots
            ));
        }
        let Some((claimed, cancel)) = self.claims.get(id).copied() else {
            return self.violate(format!("sending {id}: sealed, and nobody has a 202 for it"));
        };
        if claimed != seal.messages {
            verdict.lost += claimed.saturating_sub(seal.messages);
            self.violate(format!("sending {id}: a 202 for {claimed} messages, {} in the log", seal.messages));
        }
        match (cancel, sending.is_cancelled()) {
            (Cancel::Acknowledged, false) => {
                self.violate(format!(
                    "sending {id}: its cancellation was acknowledged and is not in the log"
                ));
            }
            (Cancel::NotAsked, true) => {
                self.violate(format!("sending {id}: is cancelled, and nobody asked for it"));
            }
            (Cancel::Acknowledged, true) | (Cancel::NotAsked, false) | (Cancel::Asked, _) => {}
        }
    }

    fn check(&self, sending: &Sending, message: &Message, verdict: &mut Verdict) -> Checked {
        let outcomes = &mut verdict.outcomes;
        let Some(outcome) = message.outcome else {
            verdict.lost += 1;
            return Err("has no end".to_owned());
        };
        match outcome {
            Outcome::Delivered => outcomes.delivered += 1,
            Outcome::Undelivered => outcomes.undelivered += 1,
            Outcome::Expired => outcomes.expired += 1,
            Outcome::Cancelled => outcomes.cancelled += 1,
            Outcome::Refused => outcomes.refused += 1,
        }
        message.attempts.iter().try_for_each(|attempt| attempt.agrees(&self.relays))?;
        let unseen = message.attempts.iter().filter(|attempt| attempt.is_refused_unseen(&self.relays));
        verdict.refused_unseen += unseen.count() as u64;
        let delivered = message.attempts.iter().filter(|attempt| attempt.is(DELIVERED_BY_LEDGER));
        if delivered.count() > 1 {
            if !may_be_double(sending, message) {
                verdict.delivered_twice += 1;
                return Err("was delivered twice".to_owned());
            }
            verdict.delivered_twice_permitted += 1;
        }
        if outcome == Outcome::Delivered {
            let is_true = message.attempts.iter().any(|attempt| attempt.is(DELIVERED));
            return if is_true { Ok(()) } else { Err("counts as delivered by no attempt".to_owned()) };
        }
        match check_end(sending, message, outcome, &self.relays)? {
            Untold::NotDelivered => {}
            Untold::Permitted => verdict.delivered_untold += 1,
        }
        Ok(())
    }
}
