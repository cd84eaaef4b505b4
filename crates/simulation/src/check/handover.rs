//! Hand-overs and their answers: only what may go goes, and every answer is to an intent.

use kite_domain::lot::{MessagesSubmitted, RelayResponded};
use kite_domain::relay::ReceiptMode;
use kite_domain::sending::{MessageClass, SendingAccepted};

use super::message::{MessageState, State};
use super::{Checked, Checker, Told};

/// Never asked about, never handed over again.
const NEVER_MS: i64 = i64::MAX;

impl Checker {
    pub(super) fn submitted(&mut self, submitted: &MessagesSubmitted, told: &Told<'_>) -> Checked {
        let terms = self.terms_of(told)?;
        let time = told.time();
        if terms.expires_at <= time {
            return Err("handed over after the end of its lifetime".to_owned());
        }
        if self.sending(terms.sending)?.cancelled.is_some_and(|(at, _)| at <= self.process_began_at)
            || self.books.is_cancelled_before(terms.sending, time)
        {
            return Err("handed over although its sending was cancelled".to_owned());
        }
        let can_repeat = self
            .relays
            .get(&submitted.relay)
            .and_then(|relay| relay.profile.as_ref())
            .is_some_and(|profile| profile.deduplicates || profile.answers_status);
        for seq in &submitted.messages {
            if terms.class == MessageClass::Ad {
                self.refuses_nobody(seq, &terms, time)?;
            }
            let message = self.message_of(told, seq)?;
            if message.outcome.is_some() {
                return Err(format!("message {seq} is handed over although it is {:?}", message.outcome));
            }
            let newest = message.attempts.len();
            let Some(attempt) = message.attempts.last_mut() else {
                return Err(format!("message {seq} is handed over without a route"));
            };
            if newest != usize::from(submitted.attempt) || attempt.relay != submitted.relay {
                return Err(format!(
                    "law 4: message {seq} is handed over for another attempt than its newest"
                ));
            }
            match attempt.state {
                State::Routed => {}
                State::Unknown if can_repeat => attempt.is_in_doubt = true,
                other => {
                    return Err(format!(
                        "law 4: message {seq} is handed over to {} from {other:?}",
                        attempt.relay
                    ));
                }
            }
            attempt.state = State::Submitted;
            attempt.intents += 1;
            attempt.receipt_by_ms = submitted.receipt_by.timestamp_millis();
            attempt.not_before_ms = 0;
        }
        Ok(())
    }

    fn refuses_nobody(
        &self,
        seq: u32,
        terms: &SendingAccepted,
        time: chrono::DateTime<chrono::Utc>,
    ) -> Checked {
        let recipient = self.sending(terms.sending)?.recipients.get(&seq);
        for address in recipient.into_iter().flat_map(|one| std::iter::once(&one.to).chain(&one.email)) {
            if self.people.is_known(&terms.tenant, address, time, self.process_began_at) {
                return Err(format!("law 9: an advertisement for {address}, who refused (message {seq})"));
            }
        }
        Ok(())
    }

    pub(super) fn responded(&mut self, responded: &RelayResponded, told: &Told<'_>) -> Checked {
        let number = responded.attempt;
        let is_final_relay = self
            .relays
            .get(&responded.relay)
            .and_then(|relay| relay.profile.as_ref())
            .is_some_and(|profile| profile.receipts == ReceiptMode::None);
        if let Some(accepted) = &responded.accepted {
            if accepted.is_final && !is_final_relay {
                return Err("accepted is not final at a relay with receipts".to_owned());
            }
            let state = if accepted.is_final { State::Delivered } else { State::Accepted };
            for seq in &accepted.messages {
                self.handed_over(told, seq, responded)?.raise(number, state, None);
            }
        }
        for set in &responded.refused {
            for seq in &set.messages {
                self.handed_over(told, seq, responded)?.raise(number, State::Refused, Some(set.class));
            }
        }
        if let Some(unknown) = &responded.unknown {
            let inquire_ms = unknown.inquire_at.map_or(NEVER_MS, |at| at.timestamp_millis());
            for seq in &unknown.messages {
                let message = self.handed_over(told, seq, responded)?;
                if let Some(attempt) = message.attempt(number).filter(|one| one.state <= State::Unknown) {
                    attempt.state = State::Unknown;
                    attempt.not_before_ms = inquire_ms;
                }
            }
        }
        if let Some(deferred) = &responded.deferred {
            for seq in &deferred.messages {
                let message = self.handed_over(told, seq, responded)?;
                if let Some(attempt) = message.attempt(number).filter(|one| one.state <= State::Unknown) {
                    if attempt.is_in_doubt {
                        return Err(format!("law 4: message {seq} is as new although an answer was lost"));
                    }
                    attempt.state = State::Routed;
                    attempt.not_before_ms = deferred.until.timestamp_millis();
                }
            }
        }
        Ok(())
    }

    fn handed_over(
        &mut self,
        told: &Told<'_>,
        seq: u32,
        responded: &RelayResponded,
    ) -> Result<&mut MessageState, String> {
        let message = self.message_of(told, seq)?;
        let attempt = message.attempt(responded.attempt).filter(|one| one.relay == responded.relay);
        match attempt.map(|attempt| attempt.intents) {
            None => Err(format!("a response of {} for an attempt that it never had", responded.relay)),
            Some(0) => Err(format!("a response of {} without an intent", responded.relay)),
            Some(_) => Ok(message),
        }
    }
}
