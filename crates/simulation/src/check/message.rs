//! One message as the log tells of it.

use kite_domain::failure::FailureClass;
use kite_domain::lot::Outcome;
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;

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

/// One attempt.
#[derive(Debug, Clone)]
pub(crate) struct AttemptState {
    pub(crate) relay: RelayId,
    pub(crate) channel: MessageType,
    pub(crate) state: State,
    pub(crate) intents: u32,
    /// An earlier call had no answer, and nothing since says that it was not taken.
    pub(crate) is_in_doubt: bool,
    pub(crate) receipt_by_ms: i64,
    pub(crate) not_before_ms: i64,
    /// Why it failed, once it has.
    pub(crate) failure: Option<FailureClass>,
    pub(crate) routed_at_ms: i64,
}

/// One message.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageState {
    pub(crate) attempts: Vec<AttemptState>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) held_until_ms: i64,
}

impl MessageState {
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
    pub(crate) fn raise(&mut self, number: u16, state: State, failure: Option<FailureClass>) {
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
}

/// Whether another relay may try after such a failure, as the messaging facts have it; written out again, so that a
/// change there is a change here.
pub(crate) fn may_change_relay(class: FailureClass, at_least_once: bool) -> bool {
    match class {
        FailureClass::RelayFault | FailureClass::Balance | FailureClass::Sender => true,
        FailureClass::Unknown => at_least_once,
        FailureClass::HandsetTemporary
        | FailureClass::HandsetPermanent
        | FailureClass::Content
        | FailureClass::Template
        | FailureClass::OptOut
        | FailureClass::AdRule
        | FailureClass::Duplicate
        | FailureClass::Unclassified => false,
    }
}

/// Whether e-mail may follow after such a failure.
pub(crate) fn may_change_channel(class: FailureClass, at_least_once: bool) -> bool {
    match class {
        FailureClass::RelayFault
        | FailureClass::HandsetTemporary
        | FailureClass::HandsetPermanent
        | FailureClass::Unclassified => true,
        FailureClass::Unknown => at_least_once,
        FailureClass::Sender
        | FailureClass::Balance
        | FailureClass::Content
        | FailureClass::Template
        | FailureClass::OptOut
        | FailureClass::AdRule
        | FailureClass::Duplicate => false,
    }
}
