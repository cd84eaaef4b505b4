//! One message within a lot: its attempts, and its outcome.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::address::PhoneKind;
use crate::text::MessageType;

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Cancelled before it was handed over, or before it was handed over again after a failure.
    Cancelled,
    /// Not handed over, or not again after a failure, because a rule forbids it (opt-out, night window).
    Refused,
    /// Too old to be handed over, or no receipt came in time: its result is not known.
    Expired,
    /// A relay says that it cannot be delivered, and nobody is left to try.
    Undelivered,
    /// A relay says that it was delivered. Nothing undoes this.
    Delivered,
}

impl Outcome {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// The state of an attempt. Ordered by rank: what is known only ever grows, whatever the order of arrival. The one
/// step back is from submitted or unknown to routed, when the relay certainly did not accept the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum AttemptState {
    /// Assigned to a relay, not handed over.
    Routed,
    /// About to be handed over, or handed over without an answer yet.
    Submitted,
    /// The answer was lost: the relay may or may not have accepted it.
    Unknown,
    /// The relay took it.
    Accepted,
    /// Given up waiting.
    Expired,
    /// The relay did not take it.
    Refused,
    /// The relay could not deliver it.
    Undelivered,
    /// The relay delivered it.
    Delivered,
}

impl AttemptState {
    /// Whether the relay may have the message: handed over and not known to have ended.
    pub fn is_in_flight(self) -> bool {
        match self {
            Self::Submitted | Self::Unknown | Self::Accepted => true,
            Self::Routed | Self::Expired | Self::Refused | Self::Undelivered | Self::Delivered => false,
        }
    }

    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// One hand-over of a message to one relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Place in the lot's list of relays.
    pub(super) relay: u16,
    /// Place in the lot's list of fallback orders.
    pub(super) fallbacks: u16,
    /// The channel.
    pub channel: MessageType,
    /// Where it stands.
    pub state: AttemptState,
    /// Deadline of the receipt once handed over, in milliseconds since 1970; else 0.
    pub(super) receipt_by_ms: i64,
    /// Not to be handed over, or asked about, before; 0: at once. `i64::MAX`: not to be asked about at all.
    pub(super) not_before_ms: i64,
    /// What an earlier call left open.
    pub(super) doubt: Doubt,
    /// After its answer was lost: the round of the next question, or of the repeat that it was handed over for.
    pub(super) round: u8,
}

/// What an earlier call for an attempt left open, until something is known of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Nothing: there was none, or it was not taken.
    None,
    /// It had no answer.
    NoAnswer,
    /// It had none, and a repeated call was refused as a duplicate.
    Duplicate,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type: the channel of its first attempt.
    pub message_type: MessageType,
    /// Message parts.
    pub parts: u16,
    /// The kind of number that it goes to.
    pub reach: Option<PhoneKind>,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
}

impl Message {
    /// The attempt of this number, from 1.
    pub fn attempt(&self, number: u16) -> Option<&Attempt> {
        self.attempts.get(usize::from(number).checked_sub(1)?)
    }

    /// The number of the newest attempt; 0: there is none.
    pub fn attempts_made(&self) -> u16 {
        u16::try_from(self.attempts.len()).unwrap_or(u16::MAX)
    }

    /// Whether more than one relay says that it delivered the message.
    pub fn is_delivered_twice(&self) -> bool {
        self.attempts.iter().filter(|attempt| attempt.state == AttemptState::Delivered).count() > 1
    }

    /// Whether nothing of it was ever handed over, or the newest attempt was not.
    pub fn is_not_handed_over(&self) -> bool {
        self.attempts.last().is_none_or(|attempt| attempt.state == AttemptState::Routed)
    }
}

/// How many messages ended how, and how many have not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutcomeCounts {
    /// Not final.
    pub open: u32,
    /// See [`Outcome::Delivered`].
    pub delivered: u32,
    /// See [`Outcome::Undelivered`].
    pub undelivered: u32,
    /// See [`Outcome::Expired`].
    pub expired: u32,
    /// See [`Outcome::Cancelled`].
    pub cancelled: u32,
    /// See [`Outcome::Refused`].
    pub refused: u32,
}

impl OutcomeCounts {
    /// The count of an outcome; none: of the open ones.
    pub fn of(&mut self, outcome: Option<Outcome>) -> &mut u32 {
        match outcome {
            None => &mut self.open,
            Some(Outcome::Delivered) => &mut self.delivered,
            Some(Outcome::Undelivered) => &mut self.undelivered,
            Some(Outcome::Expired) => &mut self.expired,
            Some(Outcome::Cancelled) => &mut self.cancelled,
            Some(Outcome::Refused) => &mut self.refused,
        }
    }

    /// All together: the number of messages.
    pub fn total(&self) -> u32 {
        self.open + self.delivered + self.undelivered + self.expired + self.cancelled + self.refused
    }
}
