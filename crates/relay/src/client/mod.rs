//! Calling a relay. A client reports exactly what is certain, message by message: accepted, refused for good, refused
//! for now, not tried, or unknown; and separately, in [`MessageAnswer::NotTaken`], what the relay said about itself.
//!
//! What a relay says about one message is never applied to another message or to the relay.
//!
//! The decisive moment is the first byte of the message that may have been sent. If a connection was never made,
//! nothing was accepted; after that moment, no answer means unknown, whatever the error is. But a relay that refuses
//! us in the TLS handshake has read nothing after it, even if we learn that later (`tls.rs`).

pub(crate) mod check;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub(crate) mod observed;
mod redaction;
pub mod smtp;
mod tls;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::Vault;
use kite_commands::vault::DecryptError;
use kite_domain::ids::AttemptReference;
use kite_domain::not_understood::{Misread, SaidHow};
use kite_domain::receipt::RawReceipt;
use kite_domain::relay::{Endpoint, ProfileFault, RelayProfile};
use kite_domain::slug::RelayId;
use kite_domain::text::MessageType;
use reqwest::Url;
use reqwest::header::InvalidHeaderValue;
use smol_str::SmolStr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use tls::TlsError;

/// A message ready to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// What the relay is to know it by.
    pub reference: AttemptReference,
    /// sms, lms or email.
    pub message_type: MessageType,
    /// The sender's number or address.
    pub from: SmolStr,
    /// The recipient's.
    pub to: SmolStr,
    /// For lms and e-mail.
    pub subject: Option<Arc<str>>,
    /// The whole text.
    pub text: Arc<str>,
    /// The relay has refused it for now before: another such refusal says nothing about the relay.
    pub was_put_off: bool,
}

/// Why a message was certainly not accepted, though it may be later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotTaken {
    /// There was no connection.
    NoConnection,
    /// Too many messages a second.
    RateLimited,
    /// The relay is out of service.
    OutOfService,
    /// The relay does not accept our key, or does not know us.
    Unauthorised,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageAnswer {
    /// The relay has it.
    Accepted {
        /// The relay's own reference.
        relay_reference: Option<SmolStr>,
        /// The relay had it before.
        duplicate: bool,
    },
    /// The relay does not want it.
    Refused {
        /// Its code, the most telling one.
        code: SmolStr,
        /// A more general code, if the relay gives two.
        general_code: Option<SmolStr>,
        /// Its words.
        text: Option<String>,
    },
    /// The relay does not want it now, for a reason of the message's own: its recipient's server greylists, the
    /// mailbox is full. Others may pass.
    RefusedForNow {
        /// Its code, the most telling one.
        code: SmolStr,
        /// A more general code, if the relay gives two.
        general_code: Option<SmolStr>,
        /// Its words.
        text: Option<String>,
        /// How long the relay wants no call with this message, if it said so.
        retry_after: Option<Duration>,
    },
    /// The call ended before it came to this message.
    NotTried,
    /// Certainly not accepted, because of the relay: it takes nothing at the moment.
    NotTaken {
        /// Why.
        why: NotTaken,
        /// In words.
        reason: Arc<str>,
    },
    /// No answer: it may or may not have been taken.
    Unknown {
        /// What happened instead.
        reason: Arc<str>,
    },
}

/// What a relay said to a hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitAnswer {
    /// One a message, in order.
    pub messages: Vec<MessageAnswer>,
    /// How long the relay wants no calls, if it said so.
    pub retry_after: Option<Duration>,
}

impl SubmitAnswer {
    /// The same for all messages.
    pub fn all(count: usize, answer: MessageAnswer) -> Self {
        Self { messages: vec![answer; count], retry_after: None }
    }
}

/// What a relay knows of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Never came in.
    NotFound,
    /// On its way.
    Accepted {
        /// The relay's own reference.
        relay_reference: Option<SmolStr>,
    },
    /// It is over; as a receipt says it.
    Over(RawReceipt),
    /// It was refused at hand-over.
    Refused {
        /// The relay's code.
        code: SmolStr,
    },
    /// The part of the answer about it cannot be read.
    Unclear,
}

/// A call that asked for something and got nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CallFailed {
    /// What happened.
    pub reason: Arc<str>,
    /// How long the relay wants no calls, if it said so.
    pub retry_after: Option<Duration>,
    /// Whether the relay was reached and works: a rate limit. Such a failure is no evidence against it.
    pub is_rate_limit: RateLimit,
}

/// Whether a failed call was one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// Yes: the relay works.
    Yes,
    /// No: something is wrong.
    No,
}

/// Receipts handed out under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledReceipts {
    /// Names them in the acknowledgement; empty when there is nothing to acknowledge.
    pub lease: String,
    /// As they came.
    pub receipts: Vec<RawReceipt>,
    /// Receipts among them that could not be read. They are kept before the lease is acknowledged.
    pub misread: Vec<Misread>,
}

/// A relay, as the workers see it.
#[async_trait]
pub trait RelayClient: Send + Sync + 'static {
    /// Hands messages over, at most the relay's batch size.
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer;

    /// Asks about the results of references, at most the relay's batch size. One answer each, in order. `now`
    /// replaces a time that the relay leaves out.
    async fn status(
        &self,
        references: &[AttemptReference],
        now: DateTime<Utc>,
    ) -> Result<Vec<Standing>, CallFailed>;

    /// Asks for at most `limit` receipts. They come again unless they are acknowledged.
    async fn pull_receipts(&self, limit: u32) -> Result<PulledReceipts, CallFailed>;

    /// Tells the relay that the receipts of a lease are stored.
    async fn acknowledge(&self, lease: &str) -> Result<(), CallFailed>;

    /// The answers to calls that could not be read, since this was last asked. A client whose relay can say nothing
    /// unreadable returns none.
    fn take_misread(&self) -> Vec<(SaidHow, Misread)> {
        Vec::new()
    }

    /// The time in the last answer, by the relay's clock and to the second, since this was last asked.
    fn take_time(&self) -> Option<DateTime<Utc>> {
        None
    }
}

/// A relay that no client can be built for.
#[derive(Debug, thiserror::Error)]
#[error("relay {relay} cannot be reached as defined")]
pub struct ConnectorError {
    /// Which relay.
    pub relay: RelayId,
    /// What is wrong with its definition.
    pub source: ClientError,
}

/// Why no client can be built from a profile.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Its credentials cannot be opened.
    #[error(transparent)]
    Locked(#[from] DecryptError),
    /// Something in it can be used by no client.
    #[error(transparent)]
    Profile(#[from] ProfileFault),
    /// Its address is none.
    #[error("endpoint.base_url: is no address")]
    BaseUrl(#[source] <Url as FromStr>::Err),
    /// Its key cannot be sent.
    #[error("credentials.api_key: holds characters that a header cannot")]
    Key(#[from] InvalidHeaderValue),
    /// Its certificates or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The library refuses all of it together.
    #[error("the client cannot be built")]
    Library(#[source] reqwest::Error),
    /// The connector knows no such relay.
    #[error("nobody is there to be connected to")]
    Unknown,
}

/// Makes clients from profiles.
pub trait Connector: Send + Sync + 'static {
    /// A client for the relay. Connects only when it is used.
    fn client(&self, profile: &RelayProfile) -> Result<Arc<dyn RelayClient>, ConnectorError>;
}

/// Real relays. The keys open their credentials.
#[derive(Debug, Clone, Default)]
pub struct NetworkConnector(pub Arc<Vault>);

impl Connector for NetworkConnector {
    fn client(&self, profile: &RelayProfile) -> Result<Arc<dyn RelayClient>, ConnectorError> {
        build(profile, &self.0).map_err(|source| ConnectorError { relay: profile.relay.clone(), source })
    }
}

fn build(profile: &RelayProfile, vault: &Vault) -> Result<Arc<dyn RelayClient>, ClientError> {
    let profile = &vault.open(profile)?;
    if let Some(fault) = profile.unusable().into_iter().next() {
        return Err(fault.into());
    }
    Ok(match &profile.endpoint {
        Endpoint::Http { base_url } => Arc::new(http::HttpRelayClient::new(base_url, profile)?),
        Endpoint::Smtp { host, port, security } => {
            Arc::new(smtp::SmtpRelayClient::new(host, *port, *security, profile)?)
        }
    })
}
