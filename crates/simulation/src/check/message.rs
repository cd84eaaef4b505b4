//! One message as the log tells of it.

use kite_domain::address::PhoneKind;
use kite_domain::failure::FailureClass;
use kite_domain::lot::Outcome;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use smol_str::SmolStr;

/// Where an attempt stands. The order is the rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Routed,
    Submitted,
    Unknown,
    Accepted,
    Expired,
    Refused,
    Undelivered,
    Delivered,
}

impl State {
    /// Whether the relay may have it, and has not said how it ended.
    pub(super) fn is_in_flight(self) -> bool {
        matches!(self, Self::Submitted | Self::Unknown | Self::Accepted)
    }
}

/// Never asked about, never handed over again.
pub(super) const NEVER_MS: i64 = i64::MAX;

/// One attempt.
#[derive(Debug, Clone)]
pub(crate) struct AttemptState {
    pub(crate) relay: RelayId,
    pub(crate) channel: MessageType,
    pub(crate) state: State,
    pub(crate) intents: u32,
    /// When the first intent was written, and the newest.
    pub(crate) first_submitted_at_ms: i64,
    pub(crate) submitted_at_ms: i64,
    /// Until when the answer to the newest call is to be in.
    pub(crate) answer_by_ms: i64,
    /// How often it came in at the relay.
    pub(crate) arrivals: u32,
    /// An earlier call had no answer, and nothing since says that it was not taken.
    pub(crate) is_in_doubt: bool,
    /// Of the next question, while it is unknown.
    pub(crate) round: u8,
    pub(crate) receipt_by_ms: i64,
    pub(crate) not_before_ms: i64,
    /// Why it failed, once it has: the relay's code and what it means.
    pub(crate) failure: Option<(SmolStr, FailureClass)>,
    /// The relay has refused it for now.
    pub(crate) put_off: Option<PutOff>,
    pub(crate) routed_at_ms: i64,
    /// Who is next on the channel.
    pub(crate) fallbacks: Vec<RelayId>,
}

/// What a relay has refused for now.
#[derive(Debug, Clone)]
pub(crate) struct PutOff {
    pub(crate) times: u16,
    pub(crate) since_ms: i64,
    /// The newest word.
    pub(crate) code: SmolStr,
    pub(crate) class: FailureClass,
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct MessageState {
    /// The channel of its first attempt.
    pub(crate) channel: MessageType,
    /// The kind of its number; none for e-mail.
    pub(crate) reach: Option<PhoneKind>,
    pub(crate) attempts: Vec<AttemptState>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) held_until_ms: i64,
}

impl MessageState {
    pub(super) fn new(channel: MessageType, reach: Option<PhoneKind>) -> Self {
        Self { channel, reach, attempts: Vec::new(), outcome: None, held_until_ms: 0 }
    }

    pub(crate) fn attempt(&mut self, number: u16) -> Option<&mut AttemptState> {
        self.attempts.get_mut(usize::from(number).checked_sub(1)?)
    }

    pub(crate) fn newest(&self) -> Option<&AttemptState> {
        self.attempts.last()
    }

    /// The rank of an outcome: what is delivered stays delivered.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        let rank = |outcome: Outcome| match outcome {
            Outcome::Cancelled => 1,
            Outcome::Refused => 2,
            Outcome::Expired => 3,
            Outcome::Undelivered => 4,
            Outcome::Delivered => 5,
        };
        if self.outcome.is_none_or(|known| rank(known) < rank(outcome)) {
            self.outcome = Some(outcome);
        }
    }

    /// What is known of an attempt only grows.
    pub(crate) fn raise(&mut self, number: u16, state: State, failure: Option<(SmolStr, FailureClass)>) {
        if let Some(attempt) = self.attempt(number)
            && attempt.state < state
        {
            attempt.state = state;
            attempt.failure = failure;
        }
        if state == State::Delivered {
            self.end(Outcome::Delivered);
        }
    }

    /// Whether more than one relay says that it delivered it.
    pub(super) fn is_delivered_twice(&self) -> bool {
        self.attempts.iter().filter(|attempt| attempt.state == State::Delivered).count() > 1
    }

    /// The number of its newest attempt; 0: there is none.
    pub(super) fn attempts_made(&self) -> u16 {
        self.attempts.len() as u16
    }
}
