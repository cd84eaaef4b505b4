//! The terms of a relay: where it is, what it takes, what it costs, what can be expected of it. All of it is data.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::RelayTls;
use crate::address::PhoneKind;
use crate::slug::RelayId;
use crate::text::Channel;

/// When the relay charges for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum BillingMoment {
    /// As soon as it accepts it.
    Accepted,
    /// Only once it is delivered.
    #[default]
    Delivered,
}

/// The highest price of a message part, in thousandths of a won: 100,000 won. A higher price is a typing error, and
/// would make sums over many messages overflow.
pub const PRICE_MILLIWON_MAX: i64 = 100_000_000;

/// The most parts of one message that are charged for: no network puts together more.
const PARTS_MAX: u16 = 255;

/// What a message of so many parts costs at this price, in thousandths of a won. A log may hold prices from before
/// there was a limit: a higher price counts as the limit, so that 300 million of the most expensive messages add up
/// without overflow.
pub fn cost_milliwon(price_milliwon: i64, parts: u16) -> i64 {
    price_milliwon.clamp(0, PRICE_MILLIWON_MAX) * i64::from(parts.min(PARTS_MAX))
}

/// What a relay offers on one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTerms {
    /// The price of one message (part) in thousandths of a won.
    pub price_milliwon: i64,
    /// When that price is due.
    #[serde(default)]
    pub bills: BillingMoment,
    /// How long to wait for a receipt after the hand-over, in seconds; then the outcome is unknown for good.
    pub receipt_deadline_s: u32,
}

/// How receipts come from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptMode {
    /// The relay calls us.
    Push,
    /// We ask, persist, then acknowledge.
    Pull,
    /// There are none: acceptance is the last information, and counts as delivered.
    None,
}

/// Whether an SMTP connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum SmtpSecurity {
    /// STARTTLS when the server offers it.
    #[default]
    Opportunistic,
    /// STARTTLS, or no connection.
    Required,
    /// TLS from the first byte.
    Wrapped,
    /// Never; for a server on the same machine.
    Plain,
}

/// How the relay is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum Endpoint {
    /// The protocol of docs/relay-protocol.md.
    Http {
        /// Without the `/v1/…`.
        base_url: String,
    },
    /// A mail server.
    Smtp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Encryption.
        #[serde(default)]
        security: SmtpSecurity,
    },
}

/// The credentials between the relay and us. Never shown again once stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct RelayCredentials {
    /// We to the relay: the bearer key, or the SMTP password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// We to the relay: the SMTP user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The relay to us: the secret that signs pushed receipts (`whsec_…`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_secret: Option<String>,
    /// We to the relay: the private key of [`RelayTls::client_certificate_pem`]. PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<String>,
}

/// The beginning of an encrypted credential. No credential that is given may begin like this.
pub const ENCRYPTED: &str = "encrypted:1:";

/// One of the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(const_into_str, serialize_all = "snake_case", prefix = "credentials.")]
pub enum Credential {
    /// [`RelayCredentials::api_key`].
    ApiKey,
    /// [`RelayCredentials::user`].
    User,
    /// [`RelayCredentials::receipt_secret`].
    ReceiptSecret,
    /// [`RelayCredentials::client_key`].
    ClientKey,
}

impl Credential {
    /// Its name, within the credentials.
    pub const fn name(self) -> &'static str {
        self.field().split_at("credentials.".len()).1
    }

    /// Which field of a profile it is, as the API names it.
    pub const fn field(self) -> &'static str {
        self.into_str()
    }
}

impl RelayCredentials {
    /// Every credential, set or not.
    pub fn each(&self) -> impl Iterator<Item = (Credential, Option<&str>)> {
        let Self { api_key, user, receipt_secret, client_key } = self;
        [
            (Credential::ApiKey, api_key.as_deref()),
            (Credential::User, user.as_deref()),
            (Credential::ReceiptSecret, receipt_secret.as_deref()),
            (Credential::ClientKey, client_key.as_deref()),
        ]
        .into_iter()
    }

    /// [`RelayCredentials::each`], to be changed.
    pub fn each_mut(&mut self) -> impl Iterator<Item = (Credential, &mut Option<String>)> {
        let Self { api_key, user, receipt_secret, client_key } = self;
        [
            (Credential::ApiKey, api_key),
            (Credential::User, user),
            (Credential::ReceiptSecret, receipt_secret),
            (Credential::ClientKey, client_key),
        ]
        .into_iter()
    }

    /// One of them.
    pub fn get(&self, wanted: Credential) -> Option<&str> {
        self.each().find(|(credential, _)| *credential == wanted)?.1
    }

    /// Takes what is left out here from the previous definition.
    pub(super) fn complete(&mut self, known: &Self) {
        for ((_, given), (_, known)) in self.each_mut().zip(known.each()) {
            if given.is_none() {
                *given = known.map(str::to_owned);
            }
        }
    }
}

impl std::fmt::Debug for RelayCredentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RelayCredentials(…)")
    }
}

/// Everything that is known about a relay before it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayProfile {
    /// Its id.
    pub relay: RelayId,
    /// Its name, for people.
    pub name: String,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// What it offers.
    pub channels: BTreeMap<Channel, ChannelTerms>,
    /// The kinds of phone number that it delivers to.
    pub reaches: Vec<PhoneKind>,
    /// The most messages in one call.
    pub batch_max: u32,
    /// The most message parts a second; none: unlimited.
    pub rate_parts_per_second: Option<u32>,
    /// The most calls at once.
    pub calls_in_flight_max: u16,
    /// How long to wait for the answer to a call, in milliseconds. After that the outcome is unknown.
    pub answer_timeout_ms: u32,
    /// A repeated reference is not delivered again.
    pub deduplicates: bool,
    /// It can be asked what became of a reference.
    pub answers_status: bool,
    /// How receipts come.
    pub receipts: ReceiptMode,
    /// The name of the dictionary that explains its codes.
    pub codes: SmolStr,
    /// How we prove over TLS who we are.
    #[serde(default, skip_serializing_if = "RelayTls::is_empty")]
    pub tls: RelayTls,
    /// The credentials, in an object of its own, so that it can be kept out of audits.
    #[serde(default)]
    pub credentials: RelayCredentials,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_costs_its_parts_within_the_bounds_of_both() {
        assert_eq!(
            [1, 3, 255, 256].map(|parts| cost_milliwon(9_000, parts)),
            [9_000, 27_000, 2_295_000, 2_295_000]
        );
        assert_eq!(cost_milliwon(9_000, 0), 0);
        let stored_before_there_was_a_bound =
            [i64::MIN, -1, PRICE_MILLIWON_MAX, PRICE_MILLIWON_MAX + 1, i64::MAX];
        let costs = stored_before_there_was_a_bound.map(|price| cost_milliwon(price, 2));
        let most = 2 * PRICE_MILLIWON_MAX;
        assert_eq!(costs, [0, 0, most, most, most]);
    }
}
