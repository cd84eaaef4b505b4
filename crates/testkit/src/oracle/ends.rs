//! Whether a message may end as it does: first by the log at that moment, then by the relays' ledgers.

use super::books::said::*;
use super::books::{Attempt, Message, Sending};
use super::log::Window;
use super::relays::Relays;
use super::{Checked, Outcome};

/// What surrounds the end of a message.
pub(super) struct Ending<'e> {
    pub(super) outcome: Outcome,
    pub(super) reason: &'e str,
    pub(super) at_ms: i64,
    pub(super) is_cancelled: bool,
    pub(super) is_ad: bool,
    pub(super) window: Window,
    pub(super) expires_ms: i64,
    pub(super) is_night: bool,
    /// Whether an address has refused advertisements.
    pub(super) has_opted_out: &'e dyn Fn(u64) -> bool,
}

impl Message {
    /// An end that no receipt brought.
    pub(super) fn finish(&mut self, ending: &Ending<'_>) -> Checked {
        let newest = self.attempts.last();
        let corrects = self.outcome == Some(Outcome::Expired)
            && ending.outcome == Outcome::Undelivered
            && newest.is_some_and(|newest| newest.is(UNDELIVERED));
        if let Some(before) = self.outcome.filter(|_| !corrects) {
            return Err(format!("ends as {:?} after it was {before:?}", ending.outcome));
        }
        if !self.may_end(newest, ending) {
            return Err(format!("ends as {:?} ({}) without a reason for it", ending.outcome, ending.reason));
        }
        self.outcome = Some(ending.outcome);
        Ok(())
    }

    fn may_end(&self, newest: Option<&Attempt>, ending: &Ending<'_>) -> bool {
        let is_in_flight = newest.is_some_and(Attempt::is_in_flight);
        let has_failed = newest.is_some_and(|newest| newest.is(REFUSED | UNDELIVERED));
        match ending.outcome {
            Outcome::Delivered => false,
            Outcome::Undelivered => has_failed,
            Outcome::Expired if is_in_flight => {
                newest.is_some_and(|newest| newest.receipt_by_ms <= ending.at_ms)
            }
            Outcome::Expired => !has_failed && ending.expires_ms <= ending.at_ms,
            Outcome::Cancelled => ending.is_cancelled && !is_in_flight && !has_failed,
            Outcome::Refused => {
                let addresses = [self.to, self.email];
                let has_opted_out = addresses.into_iter().any(|address| (ending.has_opted_out)(address));
                let is_closed = ending.window == Window::Refuse && ending.is_night;
                ending.is_ad && !is_in_flight && !has_failed && (has_opted_out || is_closed)
            }
        }
    }
}

impl Attempt {
    /// That the relay's ledger agrees with the log about the attempt. A relay without receipts is a mail server,
    /// which refuses a recipient before it knows the reference: that is not in its ledger.
    pub(super) fn agrees(&self, relays: &Relays) -> Result<(), &'static str> {
        if self.is(ACCEPTED) && !self.is(IN_LEDGER) {
            return Err("was accepted by a relay that knows nothing of it");
        }
        if self.is(ACCEPTED) && self.is(REFUSED_BY_LEDGER) {
            return Err("was accepted by a relay that says it refused it");
        }
        if self.is(DELIVERED) && !self.is(DELIVERED_BY_LEDGER) {
            return Err("counts as delivered, and no relay delivered it");
        }
        if self.is(UNDELIVERED) && !self.is(UNDELIVERED_BY_LEDGER) {
            return Err("is undelivered at a relay that does not say so");
        }
        if self.is(REFUSED) && !self.is(REFUSED_BY_LEDGER) && !self.is_refused_unseen(relays) {
            return Err("was refused by a relay that does not say so");
        }
        if self.is(IN_LEDGER) && !self.is(SUBMITTED) {
            return Err("was taken back from a relay that has it");
        }
        Ok(())
    }

    /// Refused by a mail server before it knew the reference.
    pub(super) fn is_refused_unseen(&self, relays: &Relays) -> bool {
        self.is(REFUSED) && !self.is(IN_LEDGER) && !relays.abilities(self.relay).gives_receipts
    }
}

/// Whether nobody could have known that the relay has it: it gives no receipts and its answer was lost, or there is
/// never a receipt for this recipient.
fn is_untold(attempt: &Attempt, relays: &Relays) -> bool {
    let is_answered = attempt.is(ACCEPTED | REFUSED);
    let gives_receipts = relays.abilities(attempt.relay).gives_receipts;
    !attempt.is(DELIVERED) && (attempt.is(NEVER_REPORTED) || (!gives_receipts && !is_answered))
}

/// How a message that did not count as delivered ended, by the ledgers.
pub(super) enum Untold {
    /// No relay delivered it.
    NotDelivered,
    /// One did, and nobody could have told.
    Permitted,
}

/// Compares the end of a message that does not count as delivered with the ledgers.
pub(super) fn check_end(
    sending: &Sending,
    message: &Message,
    outcome: Outcome,
    relays: &Relays,
) -> Checked<Untold> {
    let places = message.attempts.len();
    let mut untold = Untold::NotDelivered;
    for (place, attempt) in message.attempts.iter().enumerate() {
        let is_newest = place + 1 == places;
        if !attempt.is(DELIVERED_BY_LEDGER) {
            continue;
        }
        // What came after a doubt decides, and nothing of it is delivered.
        let went_on = sending.is_at_least_once()
            && attempt.is(LEFT_IN_DOUBT)
            && matches!(outcome, Outcome::Undelivered | Outcome::Expired | Outcome::Cancelled);
        let ended = is_newest && outcome == Outcome::Expired;
        if !(is_untold(attempt, relays) && (went_on || ended)) {
            return Err(format!("was delivered, and counts as {outcome:?}"));
        }
        untold = Untold::Permitted;
    }
    if outcome == Outcome::Expired
        && let Some(newest) = message.attempts.last().filter(|newest| newest.is_in_flight())
    {
        // Whoever accepted it would have reported it, and whoever has a result has reported that.
        let would_be_told = newest.is(ACCEPTED | UNDELIVERED_BY_LEDGER | DELIVERED_BY_LEDGER);
        if would_be_told && !is_untold(newest, relays) {
            return Err("is expired, and its relay has reported it".to_owned());
        }
    }
    Ok(untold)
}
