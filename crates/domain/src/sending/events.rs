//! The events of a sending.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::MessageClass;
use crate::heap_size;
use crate::ids::SendingId;
use crate::policy::FailoverTerms;
use crate::slug::TenantId;

/// What to do with an advertisement while its window is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum WindowAction {
    /// Wait until it opens, then go out spread over a while.
    #[default]
    Hold,
    /// Finish the message as refused.
    Refuse,
}

/// What an advertisement was accepted under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdTerms {
    /// What to do at night.
    pub window: WindowAction,
    /// The recipients have agreed to night advertisements, too, so no window applies.
    pub night_consent: bool,
    /// The brands of its senders; none: one of them has no brand, and every refusal of the tenant's advertisements counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brands: Vec<SmolStr>,
}

/// What is to be said, with `#{variables}` still in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingContent {
    /// For lms and e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Normalised; the ad marking included.
    pub text: String,
    /// Values for variables that a recipient does not bring.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<SmolStr, String>,
}

/// The seal. The lots are in the log before it; without it none of them is ever routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingAccepted {
    /// Which sending.
    pub sending: SendingId,
    /// Whose.
    pub tenant: TenantId,
    /// How urgent.
    pub class: MessageClass,
    /// The sending number, for sms and lms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_phone: Option<SmolStr>,
    /// The sending address, for e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_email: Option<SmolStr>,
    /// How many lots, numbered from 0.
    pub lots: u32,
    /// How many messages in all of them.
    pub messages: u32,
    /// How many recipients were refused and are no message.
    pub refused: u32,
    /// Not to be routed before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub scheduled_at: Option<DateTime<Utc>>,
    /// Not to be handed over after.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub expires_at: DateTime<Utc>,
    /// What happens on failure.
    pub failover: FailoverTerms,
    /// Set for advertisements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ad: Option<AdTerms>,
    /// The caller's own name for the sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_reference: Option<String>,
    /// The caller's own data, given back as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Value>,
    /// SHA-256 of the request's body, hexadecimal; a repeat under the same idempotency key must have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_hash: Option<String>,
    /// What is to be said; may name people.
    pub personal: SendingContent,
}

impl SendingAccepted {
    /// What it takes in memory, in bytes, about.
    pub fn memory_bytes(&self) -> usize {
        let texts = [&self.client_reference, &self.body_hash, &self.personal.subject];
        size_of::<Self>()
            + texts.into_iter().flatten().map(String::capacity).sum::<usize>()
            + self.personal.text.capacity()
            + heap_size::of_optional(self.from_phone.as_ref())
            + heap_size::of_optional(self.from_email.as_ref())
            + self
                .ad
                .iter()
                .flat_map(|ad| &ad.brands)
                .map(|brand| size_of::<SmolStr>() + brand.len())
                .sum::<usize>()
            + heap_size::of_map(&self.personal.variables)
            + self.custom.as_ref().map_or(0, heap_size::of_json)
    }
}

/// An idempotency key belongs to this sending from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingClaimed {
    /// Which sending.
    pub sending: SendingId,
    /// SHA-256 of the request's body, hexadecimal.
    pub body_hash: String,
}

/// The sending was claimed and never sealed (the process died): this event takes the place of the seal for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingAbandoned {
    /// Which sending.
    pub sending: SendingId,
}

/// The scheduled time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingReleased {
    /// Which sending.
    pub sending: SendingId,
}

/// Who paused or resumed a sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum PauseBy {
    /// Whose sending it is.
    Tenant,
    /// The operator of the platform, whose decision has priority.
    Operator,
}

impl PauseBy {
    /// The word for it, as on the wire.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// Nothing of it is routed or handed over until it is resumed. Messages that a relay already has continue, and so
/// does its lifetime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingPaused {
    /// Which sending.
    pub sending: SendingId,
    /// By whom. What an operator paused, its tenant cannot resume.
    pub by: PauseBy,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A paused sending continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingResumed {
    /// Which sending.
    pub sending: SendingId,
    /// By whom.
    pub by: PauseBy,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is not handed over yet never will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingCancelled {
    /// Which sending.
    pub sending: SendingId,
    /// Why, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Every message is final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendingCompleted {
    /// Which sending.
    pub sending: SendingId,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut SendingAccepted, String);

    #[test]
    fn a_sending_weighs_every_text_that_it_brings() {
        let whole = include_str!("../../golden/sending-accepted.v1.json");
        let plain: SendingAccepted = serde_json::from_str(whole).unwrap();
        let long = "x".repeat(100_000);
        let texts: [(&str, Change); 9] = [
            ("client_reference", |terms, text| terms.client_reference = Some(text)),
            ("body_hash", |terms, text| terms.body_hash = Some(text)),
            ("subject", |terms, text| terms.personal.subject = Some(text)),
            ("text", |terms, text| terms.personal.text = text),
            ("from_phone", |terms, text| terms.from_phone = Some(text.into())),
            ("from_email", |terms, text| terms.from_email = Some(text.into())),
            ("brand", |terms, text| terms.ad.as_mut().unwrap().brands.push(text.into())),
            ("variable", |terms, text| drop(terms.personal.variables.insert("name".into(), text))),
            ("custom", |terms, text| terms.custom = Some(Value::String(text))),
        ];
        for (name, change) in texts {
            let mut heavy = plain.clone();
            change(&mut heavy, long.clone());
            let more = heavy.memory_bytes() - plain.memory_bytes();
            assert!((99_000..102_000).contains(&more), "{name}: {more}");
        }
    }
}
