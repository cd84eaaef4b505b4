//! The words of enums, as they are stored and sent: serde says the same as whoever asks for the word.

use serde::Serialize;
use strum::VariantArray;

use crate::address::{EmailError, PhoneError, SenderRefusal};
use crate::failure::FailureClass;
use crate::keys::{Role, Scope};
use crate::load::Full;
use crate::lot::{AttemptState, Outcome};
use crate::not_understood::{MisreadReason, SaidHow};
use crate::policy::PolicyObjective;
use crate::receipt::ReceiptStatus;
use crate::relay::Credential;
use crate::sender::SenderStatus;
use crate::sending::{MessageClass, PauseBy};
use crate::text::{MaxType, MessageType, TemplateError, TextPart, TextRefusal};

/// Serde's words for all of them, which are the same as the others.
fn words<T>() -> Vec<&'static str>
where
    T: VariantArray + Serialize + Copy + Into<&'static str>,
{
    let each = T::VARIANTS.iter().map(|value| {
        let word: &str = (*value).into();
        assert_eq!(serde_json::to_value(value).unwrap(), word);
        word
    });
    each.collect()
}

#[test]
fn serde_says_the_same_words() {
    assert_eq!(words::<MessageType>(), ["sms", "lms", "mms", "email", "alimtalk"]);
    assert_eq!(words::<MaxType>(), ["sms", "lms", "mms"]);
    assert_eq!(words::<TextPart>(), ["subject", "text"]);
    assert_eq!(words::<MessageClass>(), ["otp", "notice", "ad"]);
    assert_eq!(words::<PauseBy>(), ["tenant", "operator"]);
    assert_eq!(words::<Outcome>(), ["cancelled", "refused", "expired", "undelivered", "delivered"]);
    assert_eq!(
        words::<AttemptState>(),
        ["routed", "submitted", "unknown", "accepted", "expired", "refused", "undelivered", "delivered"]
    );
    assert_eq!(words::<ReceiptStatus>(), ["delivered", "undelivered"]);
    assert_eq!(words::<SenderStatus>(), ["requested", "approved", "refused", "expired", "withdrawn"]);
    assert_eq!(words::<Role>(), ["auditor", "operator", "administrator"]);
    assert_eq!(words::<Scope>(), ["send", "read", "manage"]);
    assert_eq!(words::<SaidHow>(), ["pushed", "pulled", "responded", "answered"]);
    assert_eq!(
        words::<MisreadReason>(),
        ["no_json", "no_object", "missing", "wrong_type", "unknown_word", "no_time", "too_long"]
    );
    assert_eq!(
        words::<SenderRefusal>(),
        ["sender_range_reserved", "sender_mobile_retired", "sender_toll_free", "sender_international"]
    );
    assert_eq!(
        words::<FailureClass>(),
        [
            "relay_fault",
            "handset_temporary",
            "handset_permanent",
            "sender",
            "reputation",
            "content",
            "template",
            "channel_unavailable",
            "opt_out",
            "ad_rule",
            "duplicate",
            "balance",
            "unknown",
            "unclassified",
        ]
    );
}

#[test]
fn words_that_are_only_told_are_as_they_were() {
    let full: Vec<&str> = Full::VARIANTS.iter().map(|bound| bound.word()).collect();
    assert_eq!(
        full,
        ["tenant_open_messages", "tenant_scheduled_messages", "open_messages", "scheduled_messages"]
    );
    let credentials =
        [Credential::ApiKey, Credential::User, Credential::ReceiptSecret, Credential::ClientKey];
    assert_eq!(credentials.map(Credential::name), ["api_key", "user", "receipt_secret", "client_key"]);
    assert_eq!(Credential::ReceiptSecret.field(), "credentials.receipt_secret");
}

#[test]
fn a_code_is_what_serde_calls_the_variant() {
    let said = |value: serde_json::Value, code: &str, tag: &str| assert_eq!(value[tag], code);
    let phone = PhoneError::NotADigit { character: 'x', position: 3 };
    said(serde_json::to_value(&phone).unwrap(), phone.code(), "code");
    let email = EmailError::AtSignMissing;
    said(serde_json::to_value(&email).unwrap(), email.code(), "code");
    let template = TemplateError::VariableNameEmpty { position: 3 };
    said(serde_json::to_value(&template).unwrap(), template.code(), "code");
    let text = TextRefusal::PlaceholderInResult { part: TextPart::Text, position: 3 };
    said(serde_json::to_value(&text).unwrap(), text.code(), "code");
    for objective in [
        PolicyObjective::Ratio { weights: Vec::new() },
        PolicyObjective::Price,
        PolicyObjective::Speed,
        PolicyObjective::Recommended,
    ] {
        said(serde_json::to_value(&objective).unwrap(), objective.word(), "objective");
    }
}

#[test]
fn a_word_is_read_back_or_refused_with_those_there_are() {
    for channel in MessageType::ALL {
        assert_eq!(channel.as_str().parse(), Ok(*channel));
    }
    let refused = "Sms".parse::<MessageType>().unwrap_err();
    assert_eq!(refused.to_string(), "\"Sms\" is not one of sms, lms, mms, email, alimtalk");
}
