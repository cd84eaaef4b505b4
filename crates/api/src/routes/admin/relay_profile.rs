//! The terms of a relay as an operator writes and sees them. Credentials are only written, never shown.

use chrono::{DateTime, Utc};
use kite_commands::relay_desk::RelayDesk;
use kite_domain::codes::CodeDictionary;
use kite_domain::relay::{
    CLIENT_KEY, ChannelTerms, Credential, ENCRYPTED, Endpoint, PRICE_MILLIWON_MAX, ProfileFault,
    Redefinition, RelayCredentials, RelayEntry, RelayProfile,
};
use kite_domain::slug::RelayId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

use super::not_understood::{NotUnderstoodCountView, Strange};
use super::relay_codes::{ClassedCodeView, UnknownCodeView};
use super::relay_now::{RelayNowView, UnattendedView};
use super::relay_tls::{RelayTlsBody, RelayTlsView, misfit};
use crate::problem::FieldError;
use crate::routes::lengths::NAME_CHARACTERS_MAX;
use crate::vocabulary::{
    BillingWord, BreakerWord, ChannelWord, PhoneKindWord, ReceiptModeWord, SmtpSecurityWord,
};

/// The longest that a receipt is waited for: 30 days. The longest deadline on record is 80 hours.
const RECEIPT_DEADLINE_SECONDS_MAX: u32 = 30 * 86_400;

/// How a relay is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "protocol", rename_all = "snake_case", deny_unknown_fields)]
pub enum EndpointBody {
    /// The HTTP relay protocol.
    Http {
        /// Without the `/v1/…`.
        #[schema(example = "https://relay.example.com")]
        base_url: String,
    },
    /// A mail server.
    Smtp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Whether the connection is encrypted.
        security: SmtpSecurityWord,
    },
}

/// What a relay offers on one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelBody {
    /// The price of a message part in thousandths of a won.
    #[schema(example = 8900, minimum = 0, maximum = 100_000_000)]
    pub price_milliwon: i64,
    /// When that is due.
    #[serde(default = "on_delivery")]
    pub bills: BillingWord,
    /// How long to wait for a receipt, in seconds.
    #[serde(default = "a_day")]
    #[schema(default = 86400, minimum = 1, maximum = 2_592_000)]
    pub receipt_deadline_seconds: u32,
}

fn on_delivery() -> BillingWord {
    BillingWord::Delivered
}

fn a_day() -> u32 {
    86_400
}

/// The credentials between Kite and the relay. They are only written, never shown. What is left out stays as it was,
/// as long as the endpoint is the same; `null` removes it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CredentialsBody {
    /// The key or password that we show.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub api_key: Option<Option<String>>,
    /// The user name, for a mail server.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub user: Option<Option<String>>,
    /// The secret that signs pushed receipts (`whsec_…`).
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub receipt_secret: Option<Option<String>>,
    /// The private key of `tls.client_certificate_pem` as PEM, without a password.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub client_key: Option<Option<String>>,
}

/// Told apart from what is left out: `null`.
fn given<'de, D: serde::Deserializer<'de>>(body: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(body).map(Some)
}

impl CredentialsBody {
    /// Which are taken away.
    fn without(&self) -> Vec<Credential> {
        let Self { api_key, user, receipt_secret, client_key } = self;
        let each = [
            (Credential::ApiKey, api_key),
            (Credential::User, user),
            (Credential::ReceiptSecret, receipt_secret),
            (Credential::ClientKey, client_key),
        ];
        each.into_iter()
            .filter(|(_, given)| **given == Some(None))
            .map(|(credential, _)| credential)
            .collect()
    }
}

impl From<CredentialsBody> for RelayCredentials {
    fn from(body: CredentialsBody) -> Self {
        let CredentialsBody { api_key, user, receipt_secret, client_key } = body;
        Self {
            api_key: api_key.flatten(),
            user: user.flatten(),
            receipt_secret: receipt_secret.flatten(),
            client_key: client_key.flatten(),
        }
    }
}

/// The terms of a relay.
#[derive(Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Alpha", "endpoint": {"protocol": "http", "base_url": "https://relay.example.com"},
    "channels": {"sms": {"price_milliwon": 8900}, "lms": {"price_milliwon": 25000}},
    "batch_max": 100, "rate_parts_per_second": 2000, "receipts": "push", "codes": "solapi",
    "credentials": {"api_key": "…", "receipt_secret": "whsec_…"}
}))]
pub struct RelayBody {
    /// Its name, for people.
    #[schema(max_length = 100)]
    pub name: String,
    /// How it is reached.
    pub endpoint: EndpointBody,
    /// What it offers: its price table.
    #[schema(value_type = BTreeMap<String, ChannelBody>)]
    pub channels: BTreeMap<ChannelWord, ChannelBody>,
    /// The kinds of phone number that it delivers to.
    #[serde(default = "mobiles")]
    pub reaches: Vec<PhoneKindWord>,
    /// The most messages in one call.
    #[serde(default = "hundred")]
    #[schema(default = 100)]
    pub batch_max: u32,
    /// The most message parts a second; none: unlimited.
    #[serde(default)]
    pub rate_parts_per_second: Option<u32>,
    /// The most calls at once.
    #[serde(default = "eight")]
    #[schema(default = 8)]
    pub calls_in_flight_max: u16,
    /// How long to wait for an answer, in milliseconds; after that the outcome is unknown.
    #[serde(default = "five_seconds")]
    #[schema(default = 5000)]
    pub answer_timeout_ms: u32,
    /// A repeated reference is not delivered again.
    #[serde(default)]
    pub deduplicates: bool,
    /// It can be asked what became of a reference.
    #[serde(default)]
    pub answers_status: bool,
    /// How receipts come.
    pub receipts: ReceiptModeWord,
    /// The dictionary of its codes.
    #[schema(example = "solapi")]
    pub codes: String,
    /// TLS: which certificates of the relay are trusted, and which certificate Kite shows.
    #[serde(default)]
    pub tls: RelayTlsBody,
    /// The credentials; what is left out stays as it was, and `null` removes it. When scheme, protocol, host or port
    /// of the endpoint change, or its security becomes weaker, nothing stays: give each again, or `null`.
    #[serde(default)]
    pub credentials: CredentialsBody,
}

fn mobiles() -> Vec<PhoneKindWord> {
    vec![PhoneKindWord::KoreanMobile]
}

fn hundred() -> u32 {
    100
}

fn eight() -> u16 {
    8
}

fn five_seconds() -> u32 {
    5_000
}

impl RelayBody {
    /// The profile, or everything that is wrong with it.
    ///
    /// `known` is the earlier definition of the relay, with its credentials as they can be read.
    pub(crate) fn check(
        self,
        relay: RelayId,
        known: Option<&RelayProfile>,
        now: DateTime<Utc>,
    ) -> Result<Redefinition, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut wrong =
            |field: &str, code: &str, detail: String| errors.push(FieldError::new(field, code, detail));
        if self.name.trim().is_empty() {
            wrong("name", "empty", "a relay needs a name".to_owned());
        }
        if self.name.chars().count() > NAME_CHARACTERS_MAX {
            wrong("name", "too_long", format!("at most {NAME_CHARACTERS_MAX} characters are allowed"));
        }
        if self.channels.is_empty() {
            wrong("channels", "empty", "a relay offers at least one channel".to_owned());
        }
        for (channel, terms) in &self.channels {
            let channel: kite_domain::text::Channel = (*channel).into();
            if !(0..=PRICE_MILLIWON_MAX).contains(&terms.price_milliwon) {
                let detail = format!("a price is 0 to {PRICE_MILLIWON_MAX} thousandths of a won");
                wrong(&format!("channels.{channel}.price_milliwon"), "out_of_range", detail);
            }
            if !(1..=RECEIPT_DEADLINE_SECONDS_MAX).contains(&terms.receipt_deadline_seconds) {
                let detail = format!("must be 1 to {RECEIPT_DEADLINE_SECONDS_MAX}");
                wrong(&format!("channels.{channel}.receipt_deadline_seconds"), "out_of_range", detail);
            }
        }
        let bounds = [
            ("batch_max", u64::from(self.batch_max), 1..=10_000),
            ("rate_parts_per_second", u64::from(self.rate_parts_per_second.unwrap_or(1)), 1..=1_000_000),
            ("calls_in_flight_max", u64::from(self.calls_in_flight_max), 1..=1_000),
            ("answer_timeout_ms", u64::from(self.answer_timeout_ms), 100..=600_000),
        ];
        for (field, value, range) in bounds {
            if !range.contains(&value) {
                wrong(field, "out_of_range", format!("must be {} to {}", range.start(), range.end()));
            }
        }
        if CodeDictionary::named(&self.codes).is_none() {
            let known: Vec<_> = CodeDictionary::names().collect();
            wrong(
                "codes",
                "unknown_dictionary",
                format!("{:?} is not one of {}", self.codes, known.join(", ")),
            );
        }
        let secret = self.credentials.receipt_secret.as_ref().and_then(Option::as_deref);
        if secret.is_some_and(|secret| standardwebhooks::Webhook::new(secret).is_err()) {
            wrong("credentials.receipt_secret", "invalid_secret", "must be whsec_ and base64".to_owned());
        }
        let without = self.credentials.without();
        let profile = self.into_profile(relay);
        let begins_reserved = |text: &str| text.starts_with(ENCRYPTED);
        for (credential, _) in
            profile.credentials.each().filter(|(_, text)| text.is_some_and(begins_reserved))
        {
            wrong(credential.field(), "reserved", format!("must not begin with {ENCRYPTED}"));
        }
        if profile.credentials.client_key.is_some() && profile.tls.client_certificate_pem.is_none() {
            wrong(CLIENT_KEY, "not_used", "is the key of no tls.client_certificate_pem".to_owned());
        }
        let new = Redefinition { profile, without };
        let again = new.after(known).err().map_or_else(Vec::new, |again| again.faults().collect());
        let whole = new.after(known).unwrap_or_else(|_| new.profile.clone());
        let is_named = |fault: &ProfileFault| again.iter().any(|named| named.field == fault.field);
        let faults: Vec<ProfileFault> = whole.faults().into_iter().filter(|fault| !is_named(fault)).collect();
        for fault in again.into_iter().chain(faults).chain(whole.outdated(now)) {
            wrong(fault.field, fault.code, fault.detail);
        }
        errors.extend(misfit(&whole));
        if errors.is_empty() { Ok(new) } else { Err(errors) }
    }

    fn into_profile(self, relay: RelayId) -> RelayProfile {
        let reaches: BTreeSet<kite_domain::address::PhoneKind> =
            self.reaches.into_iter().map(Into::into).collect();
        let channels = self.channels.into_iter().map(|(channel, terms)| {
            let terms = ChannelTerms {
                price_milliwon: terms.price_milliwon,
                bills: terms.bills.into(),
                receipt_deadline_s: terms.receipt_deadline_seconds,
            };
            (channel.into(), terms)
        });
        RelayProfile {
            relay,
            name: self.name,
            endpoint: match self.endpoint {
                EndpointBody::Http { base_url } => Endpoint::Http { base_url },
                EndpointBody::Smtp { host, port, security } => {
                    Endpoint::Smtp { host, port, security: security.into() }
                }
            },
            channels: channels.collect(),
            reaches: reaches.into_iter().collect(),
            batch_max: self.batch_max,
            rate_parts_per_second: self.rate_parts_per_second,
            calls_in_flight_max: self.calls_in_flight_max,
            answer_timeout_ms: self.answer_timeout_ms,
            deduplicates: self.deduplicates,
            answers_status: self.answers_status,
            receipts: self.receipts.into(),
            codes: self.codes.into(),
            tls: self.tls.into(),
            credentials: self.credentials.into(),
        }
    }
}

/// A relay as an operator sees it. It shows which credentials are set, but not their values.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Relay)]
pub struct RelayView {
    /// Its id.
    #[schema(example = "alpha")]
    pub relay: String,
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub endpoint: EndpointBody,
    /// What it offers.
    #[schema(value_type = BTreeMap<String, ChannelBody>)]
    pub channels: BTreeMap<ChannelWord, ChannelBody>,
    /// The kinds of phone number that it delivers to.
    pub reaches: Vec<PhoneKindWord>,
    /// The most messages in one call.
    pub batch_max: u32,
    /// The most message parts a second; none: unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_parts_per_second: Option<u32>,
    /// The most calls at once.
    pub calls_in_flight_max: u16,
    /// How long to wait for an answer, in milliseconds.
    pub answer_timeout_ms: u32,
    /// A repeated reference is not delivered again.
    pub deduplicates: bool,
    /// It can be asked what became of a reference.
    pub answers_status: bool,
    /// How receipts come.
    pub receipts: ReceiptModeWord,
    /// The dictionary of its codes.
    pub codes: String,
    /// TLS with it, where something is said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RelayTlsView>,
    /// The credentials that are set, by name.
    pub credentials_set: Vec<&'static str>,
    /// Why an operator took it out of use, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
    /// Why it has no workers, if it has none: then it is given nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unattended: Option<UnattendedView>,
    /// Where its circuit breaker stands.
    pub breaker: BreakerWord,
    /// Codes that an operator gave a class, in place of the dictionary.
    pub codes_classed: Vec<ClassedCodeView>,
    /// Codes that it gave for failures and that neither the dictionary nor an operator knows, the most frequent first.
    pub codes_unknown: Vec<UnknownCodeView>,
    /// How many of its answers could not be read; left out: never any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_understood: Option<NotUnderstoodCountView>,
    /// What its workers see of it at this moment; left out if this process has no workers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<RelayNowView>,
}

impl RelayView {
    /// As it is at this moment.
    pub(super) fn of(entry: &RelayEntry, desk: &dyn RelayDesk, strange: Strange, now: DateTime<Utc>) -> Self {
        Self {
            codes_unknown: UnknownCodeView::of(entry, strange.codes),
            not_understood: strange
                .not_understood
                .map(|count| NotUnderstoodCountView::of(count, strange.full_until)),
            tls: RelayTlsView::of(&entry.profile.tls, now),
            now: desk.now(&entry.profile.relay).map(RelayNowView::from),
            ..Self::from(entry)
        }
    }
}

impl From<&RelayEntry> for RelayView {
    fn from(entry: &RelayEntry) -> Self {
        let profile = entry.profile.as_ref();
        let channels = profile.channels.iter().map(|(channel, terms)| {
            let terms = ChannelBody {
                price_milliwon: terms.price_milliwon,
                bills: terms.bills.into(),
                receipt_deadline_seconds: terms.receipt_deadline_s,
            };
            ((*channel).into(), terms)
        });
        Self {
            relay: profile.relay.to_string(),
            name: profile.name.clone(),
            endpoint: match &profile.endpoint {
                Endpoint::Http { base_url } => EndpointBody::Http { base_url: base_url.clone() },
                Endpoint::Smtp { host, port, security } => {
                    EndpointBody::Smtp { host: host.clone(), port: *port, security: (*security).into() }
                }
            },
            channels: channels.collect(),
            reaches: profile.reaches.iter().map(|kind| (*kind).into()).collect(),
            batch_max: profile.batch_max,
            rate_parts_per_second: profile.rate_parts_per_second,
            calls_in_flight_max: profile.calls_in_flight_max,
            answer_timeout_ms: profile.answer_timeout_ms,
            deduplicates: profile.deduplicates,
            answers_status: profile.answers_status,
            receipts: profile.receipts.into(),
            codes: profile.codes.to_string(),
            tls: None,
            credentials_set: profile
                .credentials
                .each()
                .filter_map(|(credential, text)| text.map(|_| credential.name()))
                .collect(),
            suspended: entry.suspended.clone(),
            unattended: entry.unattended.as_ref().map(UnattendedView::from),
            breaker: entry.breaker.into(),
            codes_classed: ClassedCodeView::all(entry),
            codes_unknown: Vec::new(),
            not_understood: None,
            now: None,
        }
    }
}
