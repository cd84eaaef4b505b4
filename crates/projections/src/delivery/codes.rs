//! Enums as small numbers in columns. The numbers are stored: a list may only grow at its end.

use kite_domain::failure::FailureClass;
use kite_domain::lot::{AttemptState, Outcome};
use kite_domain::relay::BillingMoment;
use kite_domain::sending::MessageClass;
use kite_domain::text::MessageType;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// An enum with a stored number for each of its values.
pub(super) trait Coded: Copy + PartialEq + 'static {
    /// In the order of their numbers, from 0.
    const VALUES: &'static [Self];

    fn code(self) -> i64 {
        Self::VALUES.iter().position(|value| *value == self).expect("the list holds every value (tested)")
            as i64
    }

    fn from_code(code: i64) -> Option<Self> {
        Self::VALUES.get(usize::try_from(code).ok()?).copied()
    }
}

impl Coded for MessageType {
    const VALUES: &'static [Self] = &[Self::Sms, Self::Lms, Self::Mms, Self::Email, Self::Alimtalk];
}

impl Coded for MessageClass {
    const VALUES: &'static [Self] = &[Self::Otp, Self::Notice, Self::Ad];
}

impl Coded for BillingMoment {
    const VALUES: &'static [Self] = &[Self::Accepted, Self::Delivered];
}

impl Coded for FailureClass {
    const VALUES: &'static [Self] = &[
        Self::RelayFault,
        Self::HandsetTemporary,
        Self::HandsetPermanent,
        Self::Sender,
        Self::Content,
        Self::Template,
        Self::OptOut,
        Self::AdRule,
        Self::Duplicate,
        Self::Balance,
        Self::Unknown,
        Self::Unclassified,
        Self::Reputation,
        Self::ChannelUnavailable,
    ];
}

impl Coded for AttemptState {
    const VALUES: &'static [Self] = &[
        Self::Routed,
        Self::Submitted,
        Self::Unknown,
        Self::Accepted,
        Self::Expired,
        Self::Refused,
        Self::Undelivered,
        Self::Delivered,
    ];
}

/// Where a message stands. The order of declaration is that of the stored numbers: a new value comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum MessageStatus {
    /// Accepted, without a route yet.
    Open,
    /// Its newest attempt has a relay and was not handed over.
    Routed,
    /// Handed over, without an answer yet.
    Submitted,
    /// The answer was lost.
    Unknown,
    /// The relay took it.
    Accepted,
    /// The newest attempt is over, and what follows is not decided yet.
    Failed,
    /// See [`Outcome::Delivered`].
    Delivered,
    /// See [`Outcome::Undelivered`].
    Undelivered,
    /// See [`Outcome::Expired`].
    Expired,
    /// See [`Outcome::Cancelled`].
    Cancelled,
    /// See [`Outcome::Refused`].
    Refused,
    /// It has a relay, and waits for its window to open.
    Held,
}

impl Coded for MessageStatus {
    const VALUES: &'static [Self] = Self::ALL;
}

impl MessageStatus {
    /// All of them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// From the message's outcome, or else from its newest attempt.
    pub fn of(outcome: Option<Outcome>, newest: Option<AttemptState>) -> Self {
        match (outcome, newest) {
            (Some(Outcome::Delivered), _) => Self::Delivered,
            (Some(Outcome::Undelivered), _) => Self::Undelivered,
            (Some(Outcome::Expired), _) => Self::Expired,
            (Some(Outcome::Cancelled), _) => Self::Cancelled,
            (Some(Outcome::Refused), _) => Self::Refused,
            (None, None) => Self::Open,
            (None, Some(AttemptState::Routed)) => Self::Routed,
            (None, Some(AttemptState::Submitted)) => Self::Submitted,
            (None, Some(AttemptState::Unknown)) => Self::Unknown,
            (None, Some(AttemptState::Accepted)) => Self::Accepted,
            (
                None,
                Some(
                    AttemptState::Expired
                    | AttemptState::Refused
                    | AttemptState::Undelivered
                    | AttemptState::Delivered,
                ),
            ) => Self::Failed,
        }
    }

    /// How the message ended, if it has.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Delivered => Some(Outcome::Delivered),
            Self::Undelivered => Some(Outcome::Undelivered),
            Self::Expired => Some(Outcome::Expired),
            Self::Cancelled => Some(Outcome::Cancelled),
            Self::Refused => Some(Outcome::Refused),
            Self::Open
            | Self::Routed
            | Self::Held
            | Self::Submitted
            | Self::Unknown
            | Self::Accepted
            | Self::Failed => None,
        }
    }

    /// The same for a message whose window is closed: what else would be handed over next is held.
    #[must_use]
    pub fn held(self) -> Self {
        if self == Self::Routed { Self::Held } else { self }
    }

    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Dimension, SendingState};
    use crate::parked::Cause;

    /// Serde's words for all of them, which are the same as the others.
    fn words<T: VariantArray + Serialize + Copy + Into<&'static str>>() -> Vec<&'static str> {
        let each = T::VARIANTS.iter().map(|value| {
            let word: &str = (*value).into();
            assert_eq!(serde_json::to_value(value).unwrap(), word);
            word
        });
        each.collect()
    }

    #[test]
    fn serde_says_the_same_words() {
        assert_eq!(
            words::<MessageStatus>(),
            [
                "open",
                "routed",
                "submitted",
                "unknown",
                "accepted",
                "failed",
                "delivered",
                "undelivered",
                "expired",
                "cancelled",
                "refused",
                "held",
            ]
        );
        assert_eq!(words::<SendingState>(), ["scheduled", "in_progress", "paused", "cancelled", "completed"]);
        assert_eq!(words::<Cause>(), ["unreadable", "unwritable", "behind"]);
        assert_eq!(words::<Dimension>(), ["relay", "channel", "type", "class", "hour", "day", "tenant"]);
    }

    #[test]
    fn every_value_has_a_number() {
        assert!(MessageType::ALL.iter().all(|value| MessageType::VALUES.contains(value)));
        assert!(MessageClass::ALL.iter().all(|value| MessageClass::VALUES.contains(value)));
        assert!(FailureClass::ALL.iter().all(|value| FailureClass::VALUES.contains(value)));
        for &status in MessageStatus::ALL {
            assert_eq!(MessageStatus::from_code(status.code()), Some(status));
        }
        for &outcome in Outcome::ALL {
            assert_eq!(MessageStatus::of(Some(outcome), None).outcome(), Some(outcome));
        }
        assert_eq!(AttemptState::VALUES, AttemptState::VARIANTS, "the numbers follow the rank");
        assert_eq!(AttemptState::from_code(8), None);
        assert_eq!(AttemptState::from_code(-1), None);
    }
}
