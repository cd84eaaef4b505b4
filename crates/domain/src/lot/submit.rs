//! The hand-over: the last check of what may have changed since the route was made, and the intent.

use chrono::{DateTime, Utc};
use smol_str::SmolStr;

use super::doubt::unknown_at;
use super::failover::{Aftermath, RoutingContext};
use super::message::{AttemptState, Message, Outcome};
use super::state::NEVER_MS;
use super::{Lot, MessagesHeld, MessagesSubmitted, UnknownSet};
use crate::event::Event;
use crate::mutation::{self, Mutation};
use crate::sending::{MessageClass, SendingAccepted, WindowAction};
use crate::seq_set::SeqSet;
use crate::slug::RelayId;
use crate::text::MessageType;

/// What the relay worker knows at hand-over that the lot does not.
pub struct Handover<'h> {
    /// The relay.
    pub relay: &'h RelayId,
    /// Which attempt.
    pub attempt: u16,
    /// Whether the sending was cancelled.
    pub is_cancelled: bool,
    /// Whether the sending is paused. Then nothing is handed over, not even again, and nothing is recorded except
    /// what has ended: the messages stay where they are until the sending is resumed.
    pub is_paused: bool,
    /// Whether the relay is asked again about messages whose answer was lost. Then nothing is recorded here about
    /// messages that may not be handed over again: the worker records when it asks next. Nor about those whose last
    /// repeat was refused, until that counts.
    pub is_asked_again: bool,
    /// How long the relay has for its receipt.
    pub receipt_deadline: chrono::Duration,
    /// See [`MessagesSubmitted::answer_by`].
    pub answer_by: DateTime<Utc>,
    /// See [`MessagesSubmitted::holder`].
    pub holder: Option<SmolStr>,
    /// Until when the night window is closed for a message, by its sequence number; none: it is open.
    pub closed_until: &'h dyn Fn(u32) -> Option<DateTime<Utc>>,
    /// Why the sending's sender on a channel may not be used any more, in one word; none: it may.
    pub unsendable: &'h dyn Fn(MessageType) -> Option<&'static str>,
    /// Whether an address has refused advertisements.
    pub has_opted_out: &'h dyn Fn(&str) -> bool,
    /// The current state of the relays, and at which of them the sender is registered now.
    pub context: &'h RoutingContext<'h>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What a hand-over comes to.
#[derive(Debug, Default)]
pub struct Submission {
    /// To be appended before the relay is called.
    pub events: Vec<Event>,
    /// What to call the relay with, once they are.
    pub messages: SeqSet,
    /// What may not go to this relay, and waits for another one. It is checked again after a while.
    pub waiting: SeqSet,
}

/// What the last look at a message comes to.
enum Clearance {
    Go,
    Hold(DateTime<Utc>),
    /// The sending is paused: when it is resumed, its work is derived again.
    Wait,
    End(Outcome, &'static str),
    /// The sender is not registered with this relay any more. Another may carry the message.
    NotHere,
}

/// Why a message is not handed to a relay that the approval of its sender does not name any more.
const NOT_AT_RELAY: &str = "sender_not_at_relay";

impl Lot {
    /// Checks at the last moment what may have changed since the route was made, and states the intent to hand over
    /// what is left. `candidates` are messages routed to this relay for this attempt, or unknown there and to be
    /// handed over again under the same reference.
    ///
    /// The relay may already have an unknown message. So a reason that would end a new message only keeps an unknown
    /// one from being handed over again: it is asked about until the relay is believed not to have it, or continues
    /// waiting for its receipt or its deadline.
    pub fn submit(
        &self,
        terms: &SendingAccepted,
        candidates: &SeqSet,
        handover: &Handover<'_>,
    ) -> Submission {
        let mut messages = SeqSet::default();
        let mut waiting = SeqSet::default();
        let mut held = MessagesHeld {
            messages: SeqSet::default(),
            reason: "night window".to_owned(),
            until_ms: Vec::new(),
        };
        let mut left_alone: Vec<UnknownSet> = Vec::new();
        let mut aftermath = Aftermath::default();
        for seq in candidates {
            let Some((message, state)) = self.awaiting(seq, handover.relay, handover.attempt) else {
                continue;
            };
            let is_asked_about = state == AttemptState::Unknown
                && (handover.is_asked_again || self.refusal_of(seq, handover.attempt).is_some());
            match self.clearance(seq, message, terms, handover) {
                Clearance::Go => messages.push(seq),
                Clearance::Wait => {}
                Clearance::Hold(_) | Clearance::End(..) | Clearance::NotHere if is_asked_about => {}
                Clearance::Hold(until) => {
                    held.messages.push(seq);
                    held.until_ms.push(until.timestamp_millis());
                }
                Clearance::End(Outcome::Cancelled, _) if state == AttemptState::Routed => {
                    self.finish_cancelled(seq, &mut aftermath);
                }
                Clearance::End(outcome, reason) if state == AttemptState::Routed => {
                    let (reason, class) = match outcome {
                        Outcome::Expired => self.end_of_life(seq),
                        _ => (reason.into(), None),
                    };
                    aftermath.finish(seq, outcome, reason, class);
                }
                Clearance::End(_, reason) => leave_alone(&mut left_alone, seq, reason),
                Clearance::NotHere if state == AttemptState::Routed => {
                    let code = NOT_AT_RELAY.into();
                    if aftermath.take_to_registered(self, seq, code, terms, handover.context) {
                        waiting.push(seq);
                    }
                }
                Clearance::NotHere => leave_alone(&mut left_alone, seq, NOT_AT_RELAY),
            }
        }
        let mut events = Vec::new();
        if !messages.is_empty() {
            events.push(
                MessagesSubmitted {
                    relay: handover.relay.clone(),
                    attempt: handover.attempt,
                    messages: messages.clone(),
                    receipt_by: handover.now + handover.receipt_deadline,
                    answer_by: Some(handover.answer_by),
                    holder: handover.holder.clone(),
                }
                .into(),
            );
        }
        if !held.messages.is_empty() {
            events.push(held.into());
        }
        let told = |unknown| unknown_at(handover.relay.clone(), handover.attempt, unknown);
        events.extend(left_alone.into_iter().map(told));
        events.extend(aftermath.into_events());
        Submission { events, messages, waiting }
    }

    /// The message and the state of its newest attempt, if this relay may take it now for this attempt.
    fn awaiting(&self, seq: u32, relay: &RelayId, number: u16) -> Option<(&Message, AttemptState)> {
        let message = self.message(seq).filter(|message| message.outcome.is_none())?;
        let last = message.attempts.last()?;
        let is_this = message.attempts_made() == number && self.relay_of(last) == relay;
        let may_go = match last.state {
            AttemptState::Routed => true,
            AttemptState::Unknown => last.not_before_ms != NEVER_MS,
            AttemptState::Submitted
            | AttemptState::Accepted
            | AttemptState::Expired
            | AttemptState::Refused
            | AttemptState::Undelivered
            | AttemptState::Delivered => false,
        };
        (is_this && may_go).then_some((message, last.state))
    }

    fn clearance(
        &self,
        seq: u32,
        message: &Message,
        terms: &SendingAccepted,
        handover: &Handover<'_>,
    ) -> Clearance {
        if handover.is_cancelled && !mutation::is_active(Mutation::CancelIgnoredAtHandover) {
            return Clearance::End(Outcome::Cancelled, "cancelled");
        }
        if terms.expires_at <= handover.now {
            return Clearance::End(Outcome::Expired, "lifetime");
        }
        if handover.is_paused && !mutation::is_active(Mutation::PauseIgnoredAtHandover) {
            return Clearance::Wait;
        }
        // 발신번호 사전등록제: what is not approved now is not sent with, whatever it was when the sending was accepted.
        let channel = message.attempts.last().map_or(message.message_type, |attempt| attempt.channel);
        if let Some(reason) = (handover.unsendable)(channel) {
            return Clearance::End(Outcome::Refused, reason);
        }
        let is_registered = handover.context.registered(channel).contains(handover.relay);
        if !is_registered && !mutation::is_active(Mutation::ApprovalOfAnotherRelay) {
            return Clearance::NotHere;
        }
        match terms.class {
            MessageClass::Ad => self.ad_clearance(seq, message, terms, handover),
            MessageClass::Otp | MessageClass::Notice => Clearance::Go,
        }
    }

    /// 정보통신망법 제50조: not to a recipient who refused, over any channel; not at night without consent to that, except by
    /// e-mail.
    fn ad_clearance(
        &self,
        seq: u32,
        message: &Message,
        terms: &SendingAccepted,
        handover: &Handover<'_>,
    ) -> Clearance {
        let refuses = self.recipient(seq).is_some_and(|recipient| {
            let mut addresses = std::iter::once(&recipient.to).chain(&recipient.email);
            addresses.any(|address| (handover.has_opted_out)(address))
        });
        if refuses && !mutation::is_active(Mutation::OptOutCheckOnlyAtAcceptance) {
            return Clearance::End(Outcome::Refused, "opt_out");
        }
        let is_email = message.attempts.last().is_some_and(|attempt| attempt.channel == MessageType::Email);
        let ad = terms.ad.as_ref();
        let is_unbound = is_email || ad.is_some_and(|ad| ad.night_consent);
        if is_unbound || mutation::is_active(Mutation::NightCheckOnlyAtAcceptance) {
            return Clearance::Go;
        }
        match ((handover.closed_until)(seq), ad.map(|ad| ad.window).unwrap_or_default()) {
            (None, _) => Clearance::Go,
            (Some(until), WindowAction::Hold) => Clearance::Hold(until),
            (Some(_), WindowAction::Refuse) => Clearance::End(Outcome::Refused, "night_window"),
        }
    }
}

/// An unknown message that may not be handed over again and is not asked about either: all it can do is wait.
fn leave_alone(sets: &mut Vec<UnknownSet>, seq: u32, why: &str) {
    let reason = format!("not handed over again: {why}");
    match sets.iter_mut().find(|set| set.reason == reason) {
        Some(set) => set.messages.push(seq),
        None => {
            sets.push(UnknownSet {
                messages: std::iter::once(seq).collect(),
                reason,
                inquire_at: None,
                round: 0,
                duplicate_code: None,
                refusal: None,
                receipt_by: None,
            });
        }
    }
}
