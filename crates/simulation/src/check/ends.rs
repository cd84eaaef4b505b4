//! How messages end: by receipts, by time, by rule.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use kite_domain::failure::FailureClass;
use kite_domain::ids::{AttemptReference, MessageId};
use kite_domain::lot::{MessagesFinished, MessagesHeld, Outcome, ReceiptsRecorded};
use kite_domain::receipt::ReceiptStatus;
use kite_domain::relay::BreakerPhase;
use kite_domain::sending::{MessageClass, SendingAccepted, WindowAction};
use kite_domain::text::MessageType;

use super::message::{MessageState, NEVER_MS, State};
use super::noted::notice;
use super::{Checked, Checker, RelayState, Told};

/// How long before the night nothing is handed over any more: a call takes its time.
const LEAD: TimeDelta = TimeDelta::seconds(44);
/// What waits for the morning is spread over this.
const SPREAD_MS: i64 = 600_000;
/// A relay that can be asked is asked at least this often, however long the process was away and however time leaps.
const QUESTION_MAX: TimeDelta = TimeDelta::hours(13);

/// Forbidden from 21:00 up to 08:00 in Seoul, which is UTC+9.
pub(super) fn is_night(at: DateTime<Utc>) -> bool {
    let hour = (at.hour() + 9) % 24;
    !(8..21).contains(&hour)
}

/// Whether a process that decided at most a moment before this time may have found that a hand-over would be at
/// night.
pub(super) fn may_be_night(at: DateTime<Utc>) -> bool {
    is_night(at - notice()) || is_night(at) || is_night(at + LEAD)
}

/// Whether the hours of the night bind a message.
pub(super) fn is_bound(terms: &SendingAccepted, channel: MessageType) -> bool {
    let has_consent = terms.ad.as_ref().is_some_and(|ad| ad.night_consent);
    terms.class == MessageClass::Ad && !has_consent && channel != MessageType::Email
}

impl Checker {
    pub(super) fn receipts(&mut self, recorded: &ReceiptsRecorded, told: &Told<'_>) -> Checked {
        for set in &recorded.sets {
            let state = match set.status {
                ReceiptStatus::Delivered => State::Delivered,
                ReceiptStatus::Undelivered => State::Undelivered,
            };
            let is_failure = set.status == ReceiptStatus::Undelivered;
            let class = is_failure.then(|| self.class_told(&recorded.relay, &set.code));
            if class != set.class {
                let (code, relay) = (&set.code, &recorded.relay);
                return Err(format!("{:?} ({code}) of {relay} is taken for {:?}", set.status, set.class));
            }
            for seq in &set.messages {
                let message = self.message_mut(told, seq)?;
                let attempt = message.attempt(set.attempt).filter(|one| one.relay == recorded.relay);
                if attempt.is_none_or(|attempt| attempt.intents == 0) {
                    return Err(format!("a receipt for message {seq} from a relay that never had it"));
                }
                message.raise(set.attempt, state, class.map(|class| (set.code.clone(), class)));
                let said = (set.status, set.code.as_str());
                self.has_ended_so(told, (seq, set.attempt), &recorded.relay, said)?;
            }
        }
        Ok(())
    }

    /// Only advertisements are held, at night, until the next morning.
    pub(super) fn held(&mut self, held: &MessagesHeld, told: &Told<'_>) -> Checked {
        if held.messages.is_empty() {
            return Ok(());
        }
        let terms = self.terms_of(told)?;
        let at = told.time();
        let may_hold = terms.ad.as_ref().is_some_and(|ad| ad.window == WindowAction::Hold);
        for (seq, until_ms) in held.messages.iter().zip(&held.until_ms) {
            let message = self.message_mut(told, seq)?;
            let newest = message.newest();
            let waits = newest.is_some_and(|newest| {
                matches!(newest.state, State::Routed | State::Unknown) && is_bound(&terms, newest.channel)
            });
            let morning_ms = morning_after(at - notice()).timestamp_millis();
            let is_morning = (morning_ms..=morning_ms + SPREAD_MS).contains(until_ms);
            if !may_hold || !waits || !may_be_night(at) || !is_morning || message.outcome.is_some() {
                return Err(format!("message {seq} is held until {until_ms} ({newest:?})"));
            }
            message.held_until_ms = *until_ms;
        }
        Ok(())
    }

    pub(super) fn finished(&mut self, finished: &MessagesFinished, told: &Told<'_>) -> Checked {
        let terms = self.terms_of(told)?;
        for seq in &finished.messages {
            let id = told.message(seq)?;
            let message = self.message_at(told, seq)?;
            let corrects = message.outcome == Some(Outcome::Expired)
                && finished.outcome == Outcome::Undelivered
                && message.newest().is_some_and(|newest| newest.state == State::Undelivered);
            if message.outcome.is_some() && !corrects {
                return Err(wrong_end(id, message, finished));
            }
            if !self.may_end(message, id, finished, told, &terms)? {
                return Err(wrong_end(id, message, finished));
            }
            if !corrects {
                self.nobody_is_owed(id, finished, told, &terms)?;
            }
            let message = self.message_mut(told, seq)?;
            if finished.outcome == Outcome::Expired
                && let Some(attempt) = message.attempts.last_mut()
                && attempt.state.is_in_flight()
            {
                attempt.state = State::Expired;
            }
            message.end(finished.outcome);
        }
        Ok(())
    }

    fn may_end(
        &self,
        message: &MessageState,
        id: MessageId,
        finished: &MessagesFinished,
        told: &Told<'_>,
        terms: &SendingAccepted,
    ) -> Checked<bool> {
        let at = told.time();
        let newest = message.newest();
        let is_here = newest.is_none_or(|newest| newest.state == State::Routed);
        let reason = finished.reason.as_str();
        Ok(match finished.outcome {
            Outcome::Cancelled => {
                is_here && reason == "cancelled" && self.sending(terms.sending)?.cancelled.is_some()
            }
            Outcome::Expired if is_here => {
                let put_off = newest.and_then(|newest| newest.put_off.as_ref());
                let (code, class) =
                    put_off.map_or(("lifetime", None), |put| (put.code.as_str(), Some(put.class)));
                terms.expires_at <= at && (reason, finished.class) == (code, class)
            }
            Outcome::Expired => {
                let newest = newest.filter(|newest| {
                    newest.state.is_in_flight() && newest.receipt_by_ms <= at.timestamp_millis()
                });
                if newest.is_some() {
                    self.was_asked(message, id, at)?;
                }
                newest.is_some() && reason == "no_receipt"
            }
            Outcome::Refused => {
                let is_bound = newest.is_some_and(|newest| is_bound(terms, newest.channel));
                let refuses_night = terms.ad.as_ref().is_some_and(|ad| ad.window == WindowAction::Refuse);
                let channel = newest.map_or(message.channel, |newest| newest.channel);
                let is_due = match reason {
                    "sender_not_requested"
                    | "sender_requested"
                    | "sender_refused"
                    | "sender_expired"
                    | "sender_withdrawn" => self.senders.may_not_send(terms, channel, at),
                    "sender_not_at_relay" => newest.is_some_and(|newest| {
                        !self.senders.must_send(terms, newest.channel, &newest.relay, at)
                    }),
                    "opt_out" => terms.class == MessageClass::Ad && self.may_have_refused(id, terms, at),
                    "night_window" => is_bound && refuses_night && may_be_night(at),
                    _ => false,
                };
                is_due && is_here && newest.is_some()
            }
            Outcome::Undelivered => newest.is_some_and(|newest| {
                let failure = newest.failure.as_ref();
                matches!(newest.state, State::Refused | State::Undelivered)
                    && failure.is_some_and(|(code, class)| code == reason && finished.class == Some(*class))
            }),
            Outcome::Delivered => false,
        })
    }

    fn may_have_refused(&self, id: MessageId, terms: &SendingAccepted, at: DateTime<Utc>) -> bool {
        let recipient = self.sendings.get(&id.sending).and_then(|sending| sending.recipients.get(&id.seq));
        let addresses = recipient.into_iter().flat_map(|one| std::iter::once(&one.to).chain(&one.email));
        addresses.into_iter().any(|address| self.people.may_refuse(&terms.tenant, address, at))
    }

    /// A failure ends a message only if no relay is left that may try.
    fn nobody_is_owed(
        &self,
        id: MessageId,
        finished: &MessagesFinished,
        told: &Told<'_>,
        terms: &SendingAccepted,
    ) -> Checked {
        let newest = self.message(id).and_then(MessageState::newest);
        let class = match finished.outcome {
            Outcome::Undelivered => {
                newest.and_then(|newest| newest.failure.as_ref()).map(|failure| failure.1)
            }
            Outcome::Expired if finished.reason == "no_receipt" => {
                let is_cancelled = self.sending(id.sending)?.cancelled.is_some();
                (!is_cancelled).then_some(FailureClass::Unknown)
            }
            Outcome::Cancelled | Outcome::Refused | Outcome::Expired | Outcome::Delivered => None,
        };
        let owed = match finished.reason.as_str() {
            "sender_not_at_relay" => {
                let message = self.message(id);
                message.and_then(|message| self.registered_and_untried(message, terms, told.time()).pop())
            }
            _ => class.and_then(|class| self.owed(id, class, terms, told.time())),
        };
        match owed {
            Some(relay) => {
                Err(format!("message {} ends as {:?}, and {relay} is left", id.seq, finished.outcome))
            }
            None => Ok(()),
        }
    }

    /// No message stops waiting for a relay that could have been asked for long.
    fn was_asked(&self, message: &MessageState, id: MessageId, at: DateTime<Utc>) -> Checked {
        let Some(newest) = message.newest().filter(|newest| newest.state == State::Unknown) else {
            return Ok(());
        };
        // Where it can only be handed over again, nobody asks while it is paused.
        let sending = self.sending(id.sending)?;
        if sending.paused.is_some() || sending.resumed_at.is_some_and(|since| since > at - QUESTION_MAX) {
            return Ok(());
        }
        let reference = AttemptReference { message: id, attempt: message.attempts_made() };
        let is_due = newest.not_before_ms != NEVER_MS
            && newest.not_before_ms.max(message.held_until_ms) < (at - QUESTION_MAX).timestamp_millis();
        let works = |relay: &RelayState| {
            relay.can_be_asked()
                && relay.is_suspended.throughout(at - QUESTION_MAX, |is_suspended| !is_suspended)
                && relay.is_unattended.throughout(at - QUESTION_MAX, |is_unattended| !is_unattended)
                && relay.phase.throughout(at - QUESTION_MAX, |phase| *phase == BreakerPhase::Passing)
        };
        if is_due && self.relays.get(&newest.relay).is_some_and(works) {
            return Err(format!("{} could be asked about {reference} and was not", newest.relay));
        }
        Ok(())
    }
}

fn wrong_end(id: MessageId, message: &MessageState, finished: &MessagesFinished) -> String {
    format!(
        "law 5: message {} ({:?}, newest attempt {:?}) ends as {:?} ({})",
        id.seq,
        message.outcome,
        message.newest(),
        finished.outcome,
        finished.reason
    )
}

/// The next 08:00 in Seoul.
pub(super) fn morning_after(at: DateTime<Utc>) -> DateTime<Utc> {
    let since_eight = (at.timestamp() + 3_600).rem_euclid(86_400);
    DateTime::from_timestamp(at.timestamp() + 86_400 - since_eight, 0).unwrap_or(at)
}
