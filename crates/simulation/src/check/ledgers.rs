//! The log against the relays' own ledgers: the relay's answers in the log are what the relay did.

use kite_domain::ids::AttemptReference;
use kite_domain::lot::{RelayResponded, UnknownSet};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::slug::RelayId;

use super::message::State;
use super::{Checked, Checker, Told};
use crate::relays::{Entry, Fate, SimRelays};

impl Checker {
    /// What a relay knows of an attempt; none: nothing is compared with ledgers here.
    fn ledger(
        &self,
        told: &Told<'_>,
        (seq, attempt): (u32, u16),
        relay: &RelayId,
    ) -> Checked<Option<(AttemptReference, Option<Entry>)>> {
        let reference = AttemptReference { message: told.message(seq)?, attempt };
        let ledger = self.ledgers.as_ref().and_then(|ledgers| ledgers.get(relay));
        Ok(ledger.map(|ledger| (reference, ledger.entry(reference))))
    }

    pub(super) fn was_taken(&self, told: &Told<'_>, seq: u32, responded: &RelayResponded) -> Checked {
        match self.ledger(told, (seq, responded.attempt), &responded.relay)? {
            Some((reference, entry)) if !is_taken(entry.as_ref()) => {
                Err(format!("law 4: {} is said to have accepted {reference} and has not", responded.relay))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn was_not_taken(&self, told: &Told<'_>, seq: u32, responded: &RelayResponded) -> Checked {
        match self.ledger(told, (seq, responded.attempt), &responded.relay)? {
            Some((reference, entry)) if is_taken(entry.as_ref()) => {
                Err(format!("law 4: {reference} is as new, and {} has it", responded.relay))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn was_refused(
        &self,
        told: &Told<'_>,
        seq: u32,
        responded: &RelayResponded,
        code: &str,
    ) -> Checked {
        let Some((reference, entry)) = self.ledger(told, (seq, responded.attempt), &responded.relay)? else {
            return Ok(());
        };
        let refused = entry.as_ref().and_then(|entry| entry.refused.as_deref());
        if refused == Some(code) && !is_taken(entry.as_ref()) {
            return Ok(());
        }
        Err(format!("{} is said to have refused {reference} with {code}, not {refused:?}", responded.relay))
    }

    /// With what the relay has refused the message for now, last; none: it has not.
    pub(super) fn put_off_with(
        &self,
        told: &Told<'_>,
        seq: u32,
        responded: &RelayResponded,
    ) -> Checked<Option<String>> {
        let Some((_, entry)) = self.ledger(told, (seq, responded.attempt), &responded.relay)? else {
            return Ok(None);
        };
        let entry = entry.filter(|entry| entry.taken == 0);
        Ok(entry.and_then(|entry| entry.put_off).map(|(code, _)| code.to_string()))
    }

    /// Law 4: an intent counts as unanswered for its own process when the call is over, and for any process once its
    /// time is.
    pub(super) fn is_time_over(
        &self,
        seq: u32,
        set: &UnknownSet,
        responded: &RelayResponded,
        told: &Told<'_>,
    ) -> Checked {
        let message = self.message_at(told, seq)?;
        let attempt = usize::from(responded.attempt).checked_sub(1).and_then(|at| message.attempts.get(at));
        let Some(attempt) = attempt.filter(|attempt| attempt.state == State::Submitted) else {
            return Ok(());
        };
        let is_let_be = set.reason.starts_with("not called");
        let is_over = told.time().timestamp_millis() + 2 * self.clocks_off_ms >= attempt.answer_by_ms;
        if self.others == 0 || is_let_be || is_over {
            return Ok(());
        }
        let reference = AttemptReference { message: told.message(seq)?, attempt: responded.attempt };
        let ledger = self.ledgers.as_ref().and_then(|ledgers| ledgers.get(&responded.relay));
        match ledger.is_none_or(|ledger| ledger.call_is_over(reference)) {
            true => Ok(()),
            false => Err(format!("law 4: {reference} is taken for unanswered, and its call may still come")),
        }
    }

    /// What is refused, or counts as new, cannot come in later.
    pub(super) fn nothing_is_on_its_way(
        &self,
        told: &Told<'_>,
        seq: u32,
        responded: &RelayResponded,
    ) -> Checked {
        let reference = AttemptReference { message: told.message(seq)?, attempt: responded.attempt };
        let ledger = self.ledgers.as_ref().and_then(|ledgers| ledgers.get(&responded.relay));
        match ledger.is_some_and(|ledger| ledger.is_on_its_way(reference)) {
            true => Err(format!(
                "law 4: {reference} is refused or as new, and still on its way to {}",
                responded.relay
            )),
            false => Ok(()),
        }
    }

    /// Whether the relay refuses a second call with this reference as a duplicate.
    pub(super) fn says_duplicate(
        &self,
        told: &Told<'_>,
        seq: u32,
        responded: &RelayResponded,
    ) -> Checked<bool> {
        let Some((_, entry)) = self.ledger(told, (seq, responded.attempt), &responded.relay)? else {
            return Ok(true);
        };
        let ledger = self.ledgers.as_ref().and_then(|ledgers| ledgers.get(&responded.relay));
        let refuses_repeats = ledger.is_some_and(|ledger| ledger.traits.refuses_repeats);
        let was_duplicate = entry.as_ref().is_some_and(|entry| entry.refused.as_deref() == Some("1026"));
        Ok(was_duplicate || (refuses_repeats && is_taken(entry.as_ref())))
    }

    /// A receipt says what became of the message, unless the relay was told to lie.
    pub(super) fn has_ended_so(
        &self,
        told: &Told<'_>,
        (seq, attempt): (u32, u16),
        relay: &RelayId,
        (status, code): (ReceiptStatus, &str),
    ) -> Checked {
        let Some((reference, entry)) = self.ledger(told, (seq, attempt), relay)? else { return Ok(()) };
        if self.is_lie(relay, reference) {
            return Ok(());
        }
        let is_so = entry.filter(|entry| entry.taken > 0).is_some_and(|entry| match (status, entry.fate) {
            _ if entry.was_corrected => true,
            (ReceiptStatus::Delivered, Fate::Delivered) => true,
            (ReceiptStatus::Undelivered, Fate::Failed(fate)) => fate == code,
            _ => false,
        });
        if is_so { Ok(()) } else { Err(format!("{relay} never said {status:?} ({code}) of {reference}")) }
    }

    fn is_lie(&self, relay: &RelayId, reference: AttemptReference) -> bool {
        let ledger = self.ledgers.as_ref().and_then(|ledgers| ledgers.get(relay));
        ledger.is_some_and(|ledger| ledger.has_lied_about(&reference.to_string()))
    }

    /// Law 4, by the relays' own ledgers: a message reaches its recipient twice only where that was allowed, and never
    /// through the same relay.
    pub(crate) fn nothing_is_delivered_twice(&self, relays: &SimRelays) -> Checked {
        for deliveries in relays.delivered_twice() {
            let Some((_, reference)) = deliveries.first() else { continue };
            let terms =
                self.sendings.get(&reference.message.sending).and_then(|sending| sending.terms.as_ref());
            let is_allowed = terms.is_some_and(|terms| terms.failover.at_least_once);
            let is_by_one =
                deliveries.iter().enumerate().any(|(place, one)| deliveries[..place].contains(one));
            if !is_allowed || is_by_one {
                return Err(format!("law 4: delivered twice without leave: {deliveries:?}"));
            }
        }
        Ok(())
    }

    /// At the end: what the log says of each attempt is what its relay did.
    pub(crate) fn the_relays_agree(&self, relays: &SimRelays) -> Checked {
        for (id, sending) in &self.sendings {
            for (seq, message) in &sending.messages {
                for (number, attempt) in (1..).zip(&message.attempts) {
                    let message = kite_domain::ids::MessageId { sending: *id, seq: *seq };
                    let reference = AttemptReference { message, attempt: number };
                    let ledger = relays.get(&attempt.relay);
                    let entry = ledger.and_then(|relay| relay.entry(reference));
                    let is_taken = is_taken(entry.as_ref());
                    let is_wrong = match attempt.state {
                        State::Routed | State::Refused => is_taken,
                        State::Delivered | State::Undelivered => {
                            !is_taken && !self.is_lie(&attempt.relay, reference)
                        }
                        State::Accepted => !is_taken,
                        State::Submitted | State::Unknown | State::Expired => false,
                    };
                    if is_wrong {
                        let (state, relay) = (attempt.state, &attempt.relay);
                        return Err(format!("law 4: {reference} is {state:?}; taken by {relay}: {is_taken}"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_taken(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.taken > 0)
}
