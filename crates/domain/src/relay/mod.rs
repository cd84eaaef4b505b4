//! A relay (중계사): a carrier that accepts messages for delivery. Operators define relays for the whole platform.

mod access;
mod codes;
mod directory;
mod profile;
mod redefinition;
mod tls;

pub use access::ProfileFault;
pub use codes::{CODES_CLASSED_MAX, ClassedCodes, CodeClassed, CodeUnclassed};
pub use directory::{Ineligible, RelayDirectory, RelayEntry};
pub use profile::{
    BillingMoment, ChannelTerms, Credential, ENCRYPTED, Endpoint, PRICE_MILLIWON_MAX, ReceiptMode,
    RelayCredentials, RelayProfile, SmtpSecurity, cost_milliwon,
};
pub use redefinition::{GiveAgain, Redefinition};
pub use tls::{CA, CLIENT_CERTIFICATE, CLIENT_KEY, RelayCertificate, RelayTls};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use crate::slug::RelayId;

/// A relay is there, or its terms are new. The newest definition counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayDefined {
    /// All of it.
    pub profile: RelayProfile,
}

/// An operator took the relay out of use. Only an operator puts it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaySuspended {
    /// Which relay.
    pub relay: RelayId,
    /// Why, in the operator's words.
    pub reason: String,
}

/// An operator put the relay back into use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayResumed {
    /// Which relay.
    pub relay: RelayId,
}

/// Where a relay's circuit breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum BreakerPhase {
    /// Everything goes through.
    #[default]
    Passing,
    /// Nothing does.
    Tripped,
    /// A few do, to see.
    Probing,
}

/// The breaker of a relay changed its mind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayBreakerChanged {
    /// Which relay.
    pub relay: RelayId,
    /// Where it stood.
    pub from: BreakerPhase,
    /// Where it stands.
    pub to: BreakerPhase,
    /// Why, in words with figures.
    pub reason: String,
    /// When tripped: not to be probed before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "chrono::serde::ts_milliseconds_option"
    )]
    pub until: Option<DateTime<Utc>>,
}

/// Why nobody works for a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnattendedCause {
    /// No client can be built from its definition; a better definition helps.
    Unusable,
    /// Its workers have ended, and end again whenever they are restarted.
    WorkersGone,
}

/// No worker serves the relay: it is given nothing, and waiting messages go elsewhere if possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayUnattended {
    /// Which relay.
    pub relay: RelayId,
    /// Why, as a word.
    pub cause: UnattendedCause,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub since: DateTime<Utc>,
}

/// Somebody works for the relay again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayAttended {
    /// Which relay.
    pub relay: RelayId,
}

/// The stream of a relay: `relay-<id>`.
pub fn stream(relay: &RelayId) -> SmolStr {
    format_smolstr!("relay-{relay}")
}
