//! Why an attempt failed, and what may be tried next.
//!
//! A relay's own code is turned into a [`FailureClass`] by the code dictionary ([`crate::codes`]). Every decision
//! about a failure depends on the class, never on a code. The answers follow one rule each:
//! - another relay helps only if the failure was the relay's: a handset that is off is off for every relay, and
//!   sending what one relay refused as spam through another evades a filter, which is itself unlawful;
//! - another channel helps only if the failure was the address's;
//! - an attempt whose answer was lost has not failed: it fails over only if sending twice was allowed (law 4).
//!
//! Deliberately absent: what a policy allows (which classes qualify, how long to wait), which relays are left, and
//! the decision itself. This file says what is possible; a policy can only narrow it.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// Why an attempt did not succeed. Closed: whatever a relay may say is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum FailureClass {
    /// The relay or its network: no route, queue full, connection refused, a time-out before acceptance.
    RelayFault,
    /// The recipient's device for now: off, out of coverage, busy, memory full. The relay has already retried.
    HandsetTemporary,
    /// The recipient's address for good: no such number or mailbox, suspended, refuses.
    HandsetPermanent,
    /// The sender's number or address: not registered, forged, blocked.
    Sender,
    /// The relay's standing with the recipient's provider: its address is blocked, greylisted or slowed down. The same
    /// message through another relay may pass.
    Reputation,
    /// What was sent: taken for spam, too large, not allowed.
    Content,
    /// What was sent does not match the approved Kakao template.
    Template,
    /// The recipient is not to be reached over this channel (no user of KakaoTalk, or blocks it there), and is over others.
    ChannelUnavailable,
    /// The recipient refused advertisements.
    OptOut,
    /// An advertisement outside its hours, or not marked as one.
    AdRule,
    /// The relay has seen this message before.
    Duplicate,
    /// No balance left, or the contract does not cover it.
    Balance,
    /// No answer after the hand-over: the message may or may not be on its way.
    Unknown,
    /// A code that the dictionary does not hold, or with which the relay itself gives no reason. Never guessed.
    Unclassified,
}

/// Whether a failed attempt may go to another relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayFailover {
    /// At once.
    AtOnce,
    /// Only to a relay at which the sender is registered.
    OnlyWhereRegistered,
    /// Only if the policy allows a message to be delivered twice (`at_least_once`).
    OnlyAtLeastOnce,
    /// Not at all.
    Never,
}

/// Whether a failed message may go over another channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelFailover {
    /// Once the relays of this channel are used up.
    AfterRelays,
    /// If the policy names this class.
    ByPolicy,
    /// To e-mail; never to a channel that needs the same phone.
    EmailOnly,
    /// From Kakao to a plain text message.
    TextMessageOnly,
    /// After the wait that the policy names.
    AfterWait,
    /// Not at all.
    Never,
}

/// Whether an operator has to do something before the same failure stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alert {
    /// Nobody needs to act.
    None,
    /// An operator or the tenant has to act: register, pay, or name the code.
    Operator,
}

impl FailureClass {
    /// Every class, in the order of the table in the messaging facts.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Whether another relay may try the same message over the same channel.
    pub fn another_relay(self) -> RelayFailover {
        match self {
            Self::RelayFault | Self::Reputation | Self::Balance => RelayFailover::AtOnce,
            Self::Sender => RelayFailover::OnlyWhereRegistered,
            Self::Unknown => RelayFailover::OnlyAtLeastOnce,
            Self::HandsetTemporary
            | Self::HandsetPermanent
            | Self::Content
            | Self::Template
            | Self::ChannelUnavailable
            | Self::OptOut
            | Self::AdRule
            | Self::Duplicate
            | Self::Unclassified => RelayFailover::Never,
        }
    }

    /// Whether the message may go over another channel once no relay of this one is left to try.
    pub fn another_channel(self) -> ChannelFailover {
        match self {
            Self::RelayFault | Self::Reputation => ChannelFailover::AfterRelays,
            Self::HandsetTemporary | Self::Unclassified => ChannelFailover::ByPolicy,
            Self::HandsetPermanent => ChannelFailover::EmailOnly,
            Self::Template | Self::ChannelUnavailable => ChannelFailover::TextMessageOnly,
            Self::Unknown => ChannelFailover::AfterWait,
            Self::Sender | Self::Content | Self::OptOut | Self::AdRule | Self::Duplicate | Self::Balance => {
                ChannelFailover::Never
            }
        }
    }

    /// Whether somebody has to act. A relay's fault raises no alert: the breaker handles it.
    pub fn alert(self) -> Alert {
        match self {
            Self::Sender | Self::Reputation | Self::Balance | Self::Unclassified => Alert::Operator,
            Self::RelayFault
            | Self::HandsetTemporary
            | Self::HandsetPermanent
            | Self::Content
            | Self::Template
            | Self::ChannelUnavailable
            | Self::OptOut
            | Self::AdRule
            | Self::Duplicate
            | Self::Unknown => Alert::None,
        }
    }

    /// Whether anything may be tried next, on another relay or another channel.
    pub fn is_failover_eligible(self) -> bool {
        self.another_relay() != RelayFailover::Never || self.another_channel() != ChannelFailover::Never
    }

    /// Whether the failure counts against the relay (for its breaker and its figures) and not against the recipient,
    /// the sender or the text.
    pub fn is_relay_fault(self) -> bool {
        self == Self::RelayFault
    }

    /// The word used in events, in the API and in the code dictionary.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_messaging_facts_row_by_row() {
        use FailureClass as Class;
        let table = [
            // class, another relay?, another channel?, alert?
            (Class::RelayFault, RelayFailover::AtOnce, ChannelFailover::AfterRelays, Alert::None),
            (Class::HandsetTemporary, RelayFailover::Never, ChannelFailover::ByPolicy, Alert::None),
            (Class::HandsetPermanent, RelayFailover::Never, ChannelFailover::EmailOnly, Alert::None),
            (Class::Sender, RelayFailover::OnlyWhereRegistered, ChannelFailover::Never, Alert::Operator),
            (Class::Reputation, RelayFailover::AtOnce, ChannelFailover::AfterRelays, Alert::Operator),
            (Class::Content, RelayFailover::Never, ChannelFailover::Never, Alert::None),
            (Class::Template, RelayFailover::Never, ChannelFailover::TextMessageOnly, Alert::None),
            (Class::ChannelUnavailable, RelayFailover::Never, ChannelFailover::TextMessageOnly, Alert::None),
            (Class::OptOut, RelayFailover::Never, ChannelFailover::Never, Alert::None),
            (Class::AdRule, RelayFailover::Never, ChannelFailover::Never, Alert::None),
            (Class::Duplicate, RelayFailover::Never, ChannelFailover::Never, Alert::None),
            (Class::Balance, RelayFailover::AtOnce, ChannelFailover::Never, Alert::Operator),
            (Class::Unknown, RelayFailover::OnlyAtLeastOnce, ChannelFailover::AfterWait, Alert::None),
            (Class::Unclassified, RelayFailover::Never, ChannelFailover::ByPolicy, Alert::Operator),
        ];
        assert_eq!(table.map(|row| row.0), FailureClass::ALL);
        for (class, relay, channel, alert) in table {
            assert_eq!(class.another_relay(), relay, "{class}: another relay");
            assert_eq!(class.another_channel(), channel, "{class}: another channel");
            assert_eq!(class.alert(), alert, "{class}: alert");
        }
    }

    #[test]
    fn what_must_never_be_tried_again_is_not_eligible() {
        let finished: Vec<_> =
            FailureClass::ALL.iter().copied().filter(|class| !class.is_failover_eligible()).collect();
        assert_eq!(
            finished,
            [FailureClass::Content, FailureClass::OptOut, FailureClass::AdRule, FailureClass::Duplicate]
        );
    }
}
