//! The vocabulary of the API: the closed enums of the domain, as the words that stand on the wire and in the OpenAPI document.

use serde::{Deserialize, Serialize};
use strum::Display;
use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $domain:path { $($(#[$word_doc:meta])* $word:ident),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, Display)]
        #[cfg_attr(test, derive(strum::VariantArray))]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        pub enum $name { $($(#[$word_doc])* $word),* }

        impl From<$domain> for $name {
            fn from(word: $domain) -> Self {
                use $domain as Domain;
                match word { $(Domain::$word => Self::$word),* }
            }
        }

        impl From<$name> for $domain {
            fn from(word: $name) -> Self {
                use $domain as Domain;
                match word { $($name::$word => Domain::$word),* }
            }
        }
    )*

    /// Every word, as it is displayed and as serde writes it.
    #[cfg(test)]
    fn all() -> Vec<(String, serde_json::Value)> {
        let mut all = Vec::new();
        $(all.extend(<$name as strum::VariantArray>::VARIANTS.iter().map(|word| {
            (word.to_string(), serde_json::to_value(word).expect("a word is JSON"))
        }));)*
        all
    }};
}

words! {
    /// What a tenant's key may do.
    ScopeWord = kite_domain::keys::Scope {
        /// Create sendings, and pause, resume and cancel them.
        Send,
        /// Read sendings, messages, figures, the address book.
        Read,
        /// Change the address book, templates, senders, refusals and policies.
        Manage,
    }
    /// What an operator's key may do. Each role includes the ones before it.
    OperatorRoleWord = kite_domain::keys::Role {
        /// Look at everything, change nothing.
        Auditor,
        /// Run the platform: relays, tenants' limits, pauses. No tenants, no keys.
        Operator,
        /// Everything.
        Administrator,
    }
    /// How urgent a message is, and which rules apply to it.
    ClassWord = kite_domain::sending::MessageClass {
        /// A one-time password or the like: late is worse than never.
        Otp,
        /// Information that the recipient expects.
        Notice,
        /// An advertisement: consent, marking, night window.
        Ad,
    }
    /// A channel, which is also the type of a message on it.
    ChannelWord = kite_domain::text::MessageType {
        /// A short text message.
        Sms,
        /// A long text message.
        Lms,
        /// A text message with images; not offered yet.
        Mms,
        /// An e-mail.
        Email,
        /// A Kakao notification; not offered yet.
        Alimtalk,
    }
    /// The type that is asked for.
    RequestedTypeWord = kite_domain::text::RequestedType {
        /// Whatever the address and the text need.
        Auto,
        /// An sms and nothing else.
        Sms,
        /// An lms, even if the text would fit into an sms.
        Lms,
        /// Not offered yet.
        Mms,
        /// An e-mail.
        Email,
        /// Not offered yet.
        Alimtalk,
    }
    /// The most expensive type that a text may be promoted to.
    MaxTypeWord = kite_domain::text::MaxType {
        /// At most an sms.
        Sms,
        /// At most an lms.
        Lms,
        /// No bound.
        Mms,
    }
    /// What to do with an advertisement while its window is closed.
    WindowWord = kite_domain::sending::WindowAction {
        /// Wait until it opens.
        Hold,
        /// Finish the message as refused.
        Refuse,
    }
    /// What kind of sender it is.
    SenderKindWord = kite_domain::sender::SenderKind {
        /// A phone number, for sms and lms.
        Phone,
        /// An address, for e-mail.
        Email,
    }
    /// Where a sender identity stands.
    SenderStatusWord = kite_domain::sender::SenderStatus {
        /// The operator has not answered yet.
        Requested,
        /// It may send.
        Approved,
        /// The operator does not want it.
        Refused,
        /// It could send once; its time is over.
        Expired,
        /// The tenant, or the operator, took it back.
        Withdrawn,
    }
    /// A kind of phone number.
    PhoneKindWord = kite_domain::address::PhoneKind {
        /// 010, 011, 016 to 019.
        KoreanMobile,
        /// An area code and a number.
        KoreanLandline,
        /// 070.
        InternetPhone070,
        /// 030.
        UnifiedMessaging030,
        /// 050x.
        Personal050,
        /// 080.
        TollFree080,
        /// 15xx, 16xx, 18xx.
        Representative,
        /// Of another country.
        International,
    }
    /// When a relay charges.
    BillingWord = kite_domain::relay::BillingMoment {
        /// As soon as it accepts.
        Accepted,
        /// Only once it is delivered.
        Delivered,
    }
    /// How receipts come.
    ReceiptModeWord = kite_domain::relay::ReceiptMode {
        /// The relay calls.
        Push,
        /// Kite asks.
        Pull,
        /// There are none.
        None,
    }
    /// Where a circuit breaker stands.
    BreakerWord = kite_domain::relay::BreakerPhase {
        /// Everything goes through.
        Passing,
        /// Nothing does.
        Tripped,
        /// A few do, to see.
        Probing,
    }
    /// Why nobody works for a relay.
    UnattendedWord = kite_domain::relay::UnattendedCause {
        /// No client can be built from its definition.
        Unusable,
        /// Its workers have ended, and end again whenever they are restarted.
        WorkersGone,
    }
    /// How the unreadable words of a relay came.
    SaidHowWord = kite_domain::not_understood::SaidHow {
        /// As a pushed receipt.
        Pushed,
        /// As a pulled receipt.
        Pulled,
        /// In answer to a hand-over.
        Responded,
        /// In answer to a status query.
        Answered,
    }
    /// Why they were not understood.
    MisreadReasonWord = kite_domain::not_understood::MisreadReason {
        /// It is no JSON.
        NoJson,
        /// There is something else where an object belongs.
        NoObject,
        /// A field is missing.
        Missing,
        /// A field has the wrong type.
        WrongType,
        /// A word that the protocol does not have.
        UnknownWord,
        /// A time that is not valid, or has no UTC offset.
        NoTime,
        /// A reference that is longer than any of ours.
        TooLong,
    }
    /// What came of a step of a check.
    CheckVerdictWord = kite_commands::relay_desk::CheckVerdict {
        /// It held.
        Held,
        /// It did not, and nothing after it was tried.
        Failed,
    }
    /// Whether an SMTP connection is encrypted.
    SmtpSecurityWord = kite_domain::relay::SmtpSecurity {
        /// STARTTLS if the server offers it. If it does not, messages are sent unencrypted, but credentials are not:
        /// with credentials, messages wait until it does.
        Opportunistic,
        /// STARTTLS, or no connection.
        Required,
        /// TLS from the first byte.
        Wrapped,
        /// Never; for a server on the same machine.
        Plain,
    }
    /// What a receipt says.
    ReceiptStatusWord = kite_domain::receipt::ReceiptStatus {
        /// It arrived.
        Delivered,
        /// It never will.
        Undelivered,
    }
    /// How a message ended.
    OutcomeWord = kite_domain::lot::Outcome {
        /// Never handed over, because it was cancelled.
        Cancelled,
        /// Never handed over, because a rule forbids it.
        Refused,
        /// Too old, or no receipt came in time: the result is not known.
        Expired,
        /// Cannot be delivered.
        Undelivered,
        /// Delivered.
        Delivered,
    }
    /// Where an attempt stands.
    AttemptStateWord = kite_domain::lot::AttemptState {
        /// Assigned to a relay.
        Routed,
        /// About to be handed over, or without an answer yet.
        Submitted,
        /// The answer was lost.
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
    /// Why an attempt failed.
    FailureWord = kite_domain::failure::FailureClass {
        /// The relay or its network.
        RelayFault,
        /// The recipient's device for now.
        HandsetTemporary,
        /// The recipient's address for good.
        HandsetPermanent,
        /// The sender's number or address.
        Sender,
        /// The relay's standing with the recipient's provider: blocked, greylisted, slowed down.
        Reputation,
        /// What was sent.
        Content,
        /// It does not match an approved template.
        Template,
        /// The recipient cannot be reached over this channel.
        ChannelUnavailable,
        /// The recipient refuses advertisements.
        OptOut,
        /// An advertisement outside its rules.
        AdRule,
        /// The relay has seen it before.
        Duplicate,
        /// No balance, or not in the contract.
        Balance,
        /// No answer.
        Unknown,
        /// A code that no dictionary holds.
        Unclassified,
    }
    /// Who paused a sending.
    PauseByWord = kite_domain::sending::PauseBy {
        /// Whose sending it is.
        Tenant,
        /// The operator of the platform.
        Operator,
    }
    /// Where a sending stands.
    SendingStateWord = kite_projections::SendingState {
        /// Its time has not come.
        Scheduled,
        /// On its way.
        InProgress,
        /// Nothing of it goes out until it is resumed.
        Paused,
        /// Cancelled.
        Cancelled,
        /// Every message is final.
        Completed,
    }
    /// Where a message stands.
    MessageStatusWord = kite_projections::MessageStatus {
        /// No attempt yet.
        Open,
        /// Assigned to a relay.
        Routed,
        /// About to be handed over, or without an answer yet.
        Submitted,
        /// The answer was lost.
        Unknown,
        /// A relay took it.
        Accepted,
        /// An attempt failed, and what follows is not decided yet.
        Failed,
        /// Delivered.
        Delivered,
        /// Cannot be delivered.
        Undelivered,
        /// Too old, or no receipt came in time.
        Expired,
        /// Cancelled before it was handed over.
        Cancelled,
        /// A rule forbids it.
        Refused,
        /// Assigned to a relay, and waiting for its window to open.
        Held,
    }
    /// The state of a relay before any objective is considered.
    StandingWord = kite_domain::advice::RelayStanding {
        /// Enough was measured, and it looks well.
        Measured,
        /// Too little was measured.
        Unmeasured,
        /// Its breaker is probing it.
        Probing,
        /// It delivers too little.
        Failing,
        /// Its breaker is tripped.
        Tripped,
    }
    /// What the share of a relay is for.
    RoleWord = kite_domain::advice::Role {
        /// It carries traffic.
        Carrying,
        /// It gets a little, to be measured.
        Measuring,
        /// Others are better; it is a fallback.
        StandingBy,
        /// It looks bad.
        LeftOut,
    }
    /// What kind of answer an advice is.
    VerdictWord = kite_domain::advice::AdviceKind {
        /// Weights that follow from the objective and the figures.
        Advised,
        /// Every measured relay looks bad: the weights as they were.
        KeptPrevious,
        /// There is no relay to give anything to.
        NoRelay,
    }
    /// Why a relay may not carry a message now.
    IneligibleWord = kite_domain::relay::Ineligible {
        /// Nobody has defined it.
        NotDefined,
        /// It does not offer the channel.
        NoChannel,
        /// It does not deliver to this kind of number.
        OutOfReach,
        /// The sender is not registered with it.
        SenderNotRegistered,
        /// An operator took it out of use.
        Suspended,
        /// Nobody works for it.
        Unattended,
        /// Its breaker is tripped.
        BreakerTripped,
        /// It is being probed, and enough is on its way.
        Probing,
        /// The policy gives it no share.
        NoShare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_a_file_is_the_word_in_json() {
        let all = all();
        assert!(all.contains(&("channel_unavailable".to_owned(), "channel_unavailable".into())));
        for (displayed, written) in all {
            assert_eq!(written, displayed);
        }
    }
}
