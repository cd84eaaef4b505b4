//! A mail server as a relay.
//!
//! The conversation is held step by step instead of through lettre's transport, because only the steps tell what is
//! certain: until the message's data begins, nothing was taken; once it began, a lost connection means unknown.
//! Mail servers neither de-duplicate nor answer status queries, so that matters.
//!
//! A call hands its messages over one after the other on one connection; calls in flight are connections in flight.
//! Credentials never cross a connection that is not encrypted, unless the profile says `plain`: whoever stands between
//! can take the offer of TLS out of the server's greeting.

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use kite_commands::worker::describe;
use kite_domain::ids::AttemptReference;
use kite_domain::receipt::{RELAY_REFERENCE_LENGTH_MAX, bounded};
use kite_domain::relay::{RelayProfile, SmtpSecurity};
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::{Error as SmtpError, response::Response};
use lettre::{Address, Message};
use parking_lot::Mutex;
use smol_str::{SmolStr, format_smolstr};
use std::sync::Arc;
use std::time::Duration;

use super::{
    CallFailed, MessageAnswer, NotTaken, OutgoingMessage, PulledReceipts, RateLimit, RelayClient, Standing,
    SubmitAnswer, words,
};

/// How long a connection may take at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A relay that is a mail server.
pub struct SmtpRelayClient {
    host: String,
    port: u16,
    security: SmtpSecurity,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    hello: ClientId,
    answer_timeout: Duration,
    idle: Mutex<Vec<AsyncSmtpConnection>>,
    idle_max: usize,
}

/// A message in the form of the wire.
struct Letter {
    from: Address,
    to: Address,
    bytes: Vec<u8>,
}

/// What a step of the conversation came to, when it did not go on.
enum Halt {
    /// The server said no.
    Reply(SmtpError),
    /// The connection is gone.
    Broken(Arc<str>),
}

impl SmtpRelayClient {
    /// A client for the mail server.
    ///
    /// # Errors
    /// In words: TLS cannot be set up for this host.
    pub fn new(
        host: &str,
        port: u16,
        security: SmtpSecurity,
        profile: &RelayProfile,
    ) -> Result<Self, String> {
        let tls = match security {
            SmtpSecurity::Plain => None,
            SmtpSecurity::Opportunistic | SmtpSecurity::Required | SmtpSecurity::Wrapped => {
                Some(TlsParameters::new(host.to_owned()).map_err(|error| describe(&error))?)
            }
        };
        let credentials =
            profile.credentials.api_key.clone().map(|password| {
                Credentials::new(profile.credentials.user.clone().unwrap_or_default(), password)
            });
        Ok(Self {
            host: host.to_owned(),
            port,
            security,
            tls,
            credentials,
            hello: ClientId::default(),
            answer_timeout: Duration::from_millis(u64::from(profile.answer_timeout_ms.max(1))),
            idle: Mutex::default(),
            idle_max: usize::from(profile.calls_in_flight_max),
        })
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, MessageAnswer> {
        let limit = self.answer_timeout.min(CONNECT_TIMEOUT);
        match tokio::time::timeout(limit, self.connect_without_limit()).await {
            Ok(connected) => connected,
            Err(_) => Err(not_taken(NotTaken::NoConnection, "no connection in time".into())),
        }
    }

    async fn connect_without_limit(&self) -> Result<AsyncSmtpConnection, MessageAnswer> {
        let server = (self.host.as_str(), self.port);
        let connected = match self.tls.clone().filter(|_| self.security == SmtpSecurity::Wrapped) {
            Some(tls) => {
                let timeout = Some(self.answer_timeout);
                AsyncSmtpConnection::connect_tokio1(server, timeout, &self.hello, Some(tls), None).await
            }
            None => {
                let stream = prompt_stream(server).await;
                let stream =
                    stream.map_err(|error| not_taken(NotTaken::NoConnection, error.to_string().into()))?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await
            }
        };
        let mut connection = connected.map_err(|error| not_connected(&error))?;
        self.secure(&mut connection).await?;
        Ok(connection)
    }

    /// Encrypts and authenticates as far as is asked for and offered.
    async fn secure(&self, connection: &mut AsyncSmtpConnection) -> Result<(), MessageAnswer> {
        let wants_tls = match self.security {
            SmtpSecurity::Required | SmtpSecurity::Opportunistic => connection.can_starttls(),
            SmtpSecurity::Wrapped | SmtpSecurity::Plain => false,
        };
        if let Some(tls) = self.tls.clone().filter(|_| wants_tls) {
            connection.starttls(tls, &self.hello).await.map_err(|error| not_connected(&error))?;
        }
        self.allow_in_the_clear(connection)?;
        if let Some(credentials) = &self.credentials {
            let authenticated = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            authenticated.map_err(|error| not_connected(&error))?;
        }
        Ok(())
    }

    /// Whether the conversation may go on over this connection, if it is not encrypted.
    fn allow_in_the_clear(&self, connection: &AsyncSmtpConnection) -> Result<(), MessageAnswer> {
        if connection.is_encrypted() || self.security == SmtpSecurity::Plain {
            return Ok(());
        }
        if self.credentials.is_some() {
            let reason = "the server offers no TLS, and the credentials are not sent without it";
            return Err(not_taken(NotTaken::Unauthorised, reason.into()));
        }
        match self.security {
            SmtpSecurity::Opportunistic | SmtpSecurity::Plain => Ok(()),
            SmtpSecurity::Required | SmtpSecurity::Wrapped => {
                Err(not_taken(NotTaken::NoConnection, "the server offers no TLS, which is required".into()))
            }
        }
    }

    async fn deliver(&self, message: &OutgoingMessage) -> MessageAnswer {
        let letter = match letter(message) {
            Ok(letter) => letter,
            Err((code, text)) => return refused(SmolStr::new_static(code), None, text),
        };
        let reused = self.idle.lock().pop();
        if let Some(connection) = reused {
            match self.converse(connection, &letter).await {
                // The server had closed it while it was idle: nothing is lost, and a new one tells more.
                MessageAnswer::NotTaken { why: NotTaken::NoConnection, .. } => self.idle.lock().clear(),
                answer => return answer,
            }
        }
        match self.connect().await {
            Ok(connection) => self.converse(connection, &letter).await,
            Err(answer) => answer,
        }
    }

    async fn converse(&self, mut connection: AsyncSmtpConnection, letter: &Letter) -> MessageAnswer {
        if let Err(halt) = self.introduce(&mut connection, letter).await {
            return match halt {
                Halt::Broken(reason) => not_taken(NotTaken::NoConnection, reason),
                Halt::Reply(error) => {
                    let answer = by_reply(&error);
                    if self.step(&mut connection, Rset).await.is_ok() {
                        self.keep(connection);
                    }
                    answer
                }
            };
        }
        match tokio::time::timeout(self.answer_timeout, connection.message(&letter.bytes)).await {
            Err(_) => MessageAnswer::Unknown { reason: "no answer in time after the data".into() },
            Ok(Ok(response)) => {
                self.keep(connection);
                MessageAnswer::Accepted { relay_reference: queued_as(&response), duplicate: false }
            }
            Ok(Err(error)) if error.status().is_some() => {
                self.keep(connection);
                by_reply(&error)
            }
            Ok(Err(error)) => MessageAnswer::Unknown { reason: describe(&error).into() },
        }
    }

    /// Sender, recipient, and leave to send the data.
    async fn introduce(&self, connection: &mut AsyncSmtpConnection, letter: &Letter) -> Result<(), Halt> {
        let mut parameters = Vec::new();
        let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if !is_ascii(&letter.from) || !is_ascii(&letter.to) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !letter.bytes.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        self.step(connection, Mail::new(Some(letter.from.clone()), parameters)).await?;
        self.step(connection, Rcpt::new(letter.to.clone(), Vec::new())).await?;
        self.step(connection, Data).await
    }

    async fn step(
        &self,
        connection: &mut AsyncSmtpConnection,
        command: impl std::fmt::Display,
    ) -> Result<(), Halt> {
        match tokio::time::timeout(self.answer_timeout, connection.command(command)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.status().is_some() => Err(Halt::Reply(error)),
            Ok(Err(error)) => Err(Halt::Broken(describe(&error).into())),
            Err(_) => Err(Halt::Broken("no answer in time before the data".into())),
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max {
            idle.push(connection);
        }
    }
}

#[async_trait]
impl RelayClient for SmtpRelayClient {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            let answer = words::impersonal(self.deliver(message).await, &message.to);
            // What comes after a relay that is not there is not tried, and so certainly not taken.
            let rest = match &answer {
                MessageAnswer::NotTaken { .. } => Some(answer.clone()),
                MessageAnswer::Unknown { reason } => Some(not_taken(NotTaken::NoConnection, reason.clone())),
                MessageAnswer::Accepted { .. } | MessageAnswer::Refused { .. } => None,
            };
            answers.push(answer);
            if let Some(rest) = rest {
                answers.resize(messages.len(), rest);
                break;
            }
        }
        SubmitAnswer { messages: answers, retry_after: None }
    }

    async fn status(
        &self,
        references: &[AttemptReference],
        _now: DateTime<Utc>,
    ) -> Result<Vec<Standing>, CallFailed> {
        Ok(vec![Standing::Unclear; references.len()])
    }

    async fn pull_receipts(&self, _limit: u32) -> Result<PulledReceipts, CallFailed> {
        Err(no_such_call())
    }

    async fn acknowledge(&self, _lease: &str) -> Result<(), CallFailed> {
        Err(no_such_call())
    }
}

fn no_such_call() -> CallFailed {
    CallFailed {
        reason: "a mail server has no receipts".into(),
        retry_after: None,
        is_rate_limit: RateLimit::No,
    }
}

fn letter(message: &OutgoingMessage) -> Result<Letter, (&'static str, String)> {
    let sender: Mailbox =
        message.from.parse().map_err(|_| ("5.1.7", "the sender is no address".to_owned()))?;
    let recipient: Mailbox =
        message.to.parse().map_err(|_| ("5.1.3", "the recipient is no address".to_owned()))?;
    let domain = sender.email.domain().to_owned();
    let (from, to) = (sender.email.clone(), recipient.email.clone());
    let letter = Message::builder()
        .from(sender)
        .to(recipient)
        .subject(message.subject.as_deref().unwrap_or_default())
        .message_id(Some(format!("<{}@{domain}>", message.reference)))
        .header(ContentType::TEXT_PLAIN)
        .body(message.text.to_string())
        .map_err(|error| ("5.6.0", describe(&error)))?;
    Ok(Letter { from, to, bytes: letter.formatted() })
}

/// What a negative reply means: out of service or too fast is for later, all else is a refusal.
fn by_reply(error: &SmtpError) -> MessageAnswer {
    let basic = error.status().map_or(0, u16::from);
    let words = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    meaning(basic, words)
}

/// What the code of a negative reply and its words mean.
pub(super) fn meaning(basic: u16, words: String) -> MessageAnswer {
    let enhanced = words.split_whitespace().next().filter(|word| is_enhanced(word));
    let reason = || format!("{basic} {words}").into();
    match (basic, enhanced) {
        (421, _) | (_, Some("4.3.2")) => not_taken(NotTaken::OutOfService, reason()),
        (_, Some(code)) if code.starts_with("4.7.") => not_taken(NotTaken::RateLimited, reason()),
        (530 | 535, _) => not_taken(NotTaken::Unauthorised, reason()),
        (_, Some(code)) => refused(code.into(), Some(format_smolstr!("{basic}")), words.clone()),
        (_, None) => refused(format_smolstr!("{basic}"), None, words),
    }
}

fn not_connected(error: &SmtpError) -> MessageAnswer {
    match by_reply(error) {
        answer @ MessageAnswer::NotTaken { .. } if error.status().is_some() => answer,
        _ => not_taken(NotTaken::NoConnection, describe(error).into()),
    }
}

/// RFC 3463: class, subject and detail.
fn is_enhanced(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| {
            (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    is_number(parts.next()) && is_number(parts.next()) && is_number(parts.next()) && parts.next().is_none()
}

pub(super) fn queued_as(response: &Response) -> Option<SmolStr> {
    let (_, rest) = response.first_line()?.split_once("queued as ")?;
    let reference = rest.split_whitespace().next().map(SmolStr::from)?;
    Some(bounded(reference, RELAY_REFERENCE_LENGTH_MAX))
}

fn not_taken(why: NotTaken, reason: Arc<str>) -> MessageAnswer {
    MessageAnswer::NotTaken { why, reason }
}

fn refused(code: SmolStr, general_code: Option<SmolStr>, text: String) -> MessageAnswer {
    MessageAnswer::Refused { code, general_code, text: (!text.is_empty()).then_some(text) }
}

/// A connection whose small writes leave at once. An SMTP conversation is many of them, and each would otherwise wait
/// for the acknowledgement of the one before, which the other side delays by 40 ms.
async fn prompt_stream(server: (&str, u16)) -> std::io::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
