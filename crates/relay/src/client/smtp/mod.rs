//! A mail server as a relay.
//!
//! The conversation is held step by step instead of through lettre's transport, because only the steps tell what is
//! certain: until the message's data begins, nothing was accepted; once it began, a lost connection means unknown.
//! Mail servers neither de-duplicate nor answer status queries, so that matters.
//!
//! A call hands its messages over one after the other on one connection; calls in flight are connections in flight.
//! If a server takes only so many mails over a connection, Kite connects again.
//!
//! From the recipient on, a reply is about this message (`smtp/reply.rs`), and the others of the call continue. What
//! the server says before it knows the recipient is about the server. What might be about either (a connection that
//! ends at one recipient) counts as the server's from the second message in a row.
//!
//! Credentials never cross a connection that is not encrypted, unless the profile says `plain`: somebody in between
//! can remove the offer of TLS from the server's greeting.

mod reply;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use hashlink::LinkedHashSet;
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
use smol_str::SmolStr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    CallFailed, MessageAnswer, NotTaken, OutgoingMessage, PulledReceipts, RateLimit, RelayClient, Standing,
    SubmitAnswer, TlsError, redaction, tls,
};
use reply::{Said, not_taken};
pub(super) use reply::{Stage, meaning};

/// After this many replies in a row that may be about the server, they count as about the server.
const SUSPECTS_MAX: u32 = 2;
/// Messages that got such a reply, kept in memory.
const SUSPECTS_KEPT: usize = 4_096;
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
    idle: Mutex<Vec<Line>>,
    idle_max: usize,
    /// Replies in a row that may be about the server.
    suspects: Mutex<Suspects>,
}

/// A message in the form of the wire.
struct Letter {
    from: Address,
    to: Address,
    bytes: Vec<u8>,
}

/// Counts replies that may be about the server. A message counts only once: it may get the same reply again, and
/// postponed messages come back together.
#[derive(Default)]
struct Suspects {
    /// The number of messages in a row with such a reply, each for the first time.
    in_a_row: u32,
    /// The oldest first.
    told: LinkedHashSet<AttemptReference>,
}

impl Suspects {
    /// One more; returns whether they are enough.
    fn are_enough_with(&mut self, message: &OutgoingMessage) -> bool {
        if message.was_put_off || self.told.replace(message.reference).is_some() {
            return false;
        }
        if self.told.len() > SUSPECTS_KEPT {
            self.told.pop_front();
        }
        self.in_a_row += 1;
        self.in_a_row >= SUSPECTS_MAX
    }
}

/// A connection, and how many mails it has carried.
struct Line {
    connection: AsyncSmtpConnection,
    mails: u32,
}

/// What became of a message on one connection.
struct Passage {
    said: Said,
    /// The connection, if it can carry another message.
    line: Option<Line>,
    /// The connection may have ended because it had carried mails before, and nothing was accepted: a new connection
    /// will show.
    is_worn_out: bool,
}

/// The result of a step of the conversation, if it did not continue.
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
    /// If TLS cannot be set up for this host.
    pub fn new(
        host: &str,
        port: u16,
        security: SmtpSecurity,
        profile: &RelayProfile,
    ) -> Result<Self, TlsError> {
        let tls = match security {
            SmtpSecurity::Plain => None,
            SmtpSecurity::Opportunistic | SmtpSecurity::Required | SmtpSecurity::Wrapped => {
                Some(tls::mail_parameters(host, profile)?)
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
            suspects: Mutex::default(),
        })
    }

    async fn connect(&self) -> Result<Line, MessageAnswer> {
        let limit = self.answer_timeout.min(CONNECT_TIMEOUT);
        match tokio::time::timeout(limit, self.connect_without_limit()).await {
            Ok(connected) => connected.map(|connection| Line { connection, mails: 0 }),
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
                    stream.map_err(|error| not_taken(NotTaken::NoConnection, describe(&error).into()))?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await
            }
        };
        let mut connection = connected.map_err(|error| not_connected(&error))?;
        self.secure(&mut connection).await?;
        Ok(connection)
    }

    /// Encrypts and authenticates as far as required and offered.
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

    /// Whether the conversation may continue over this connection, if it is not encrypted.
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

    /// Hands one message over, on the connection that is there or on a new one.
    async fn deliver(&self, message: &OutgoingMessage, line: &mut Option<Line>) -> Said {
        let letter = match letter(message) {
            Ok(letter) => letter,
            Err((code, text)) => return Said::about_message(reply::refused(code.into(), None, text)),
        };
        if let Some(known) = line.take().or_else(|| self.idle.lock().pop()) {
            let passage = self.converse(known, &letter).await;
            if !passage.is_worn_out {
                *line = passage.line;
                return passage.said;
            }
            // Closed while it was idle, or the server takes no more over it: nothing is lost, and a new one tells more.
            self.idle.lock().clear();
        }
        match self.connect().await {
            Ok(fresh) => {
                let passage = self.converse(fresh, &letter).await;
                *line = passage.line;
                passage.said
            }
            Err(answer) => Said::about_server(answer),
        }
    }

    async fn converse(&self, mut line: Line, letter: &Letter) -> Passage {
        let is_used = line.mails > 0;
        line.mails += 1;
        let ended = |said, is_worn_out| Passage { said, line: None, is_worn_out };
        if let Err((stage, halt)) = self.introduce(&mut line.connection, letter).await {
            return match halt {
                Halt::Broken(reason) => ended(Said::broken(stage, reason), is_used),
                Halt::Reply(error) => {
                    let said = by_reply(stage, &error);
                    // A refusal of this sender says nothing of the connection.
                    let is_of_server = matches!(said.answer, MessageAnswer::NotTaken { .. });
                    let is_worn_out =
                        is_used && (said.ends_connection || (stage == Stage::Sender && is_of_server));
                    if said.ends_connection || self.step(&mut line.connection, Rset).await.is_err() {
                        return ended(said, is_worn_out);
                    }
                    let line = if is_worn_out { None } else { Some(line) };
                    Passage { said, line, is_worn_out }
                }
            };
        }
        match tokio::time::timeout(self.answer_timeout, line.connection.message(&letter.bytes)).await {
            Err(_) => ended(Said::unknown("no answer in time after the data".into()), false),
            Ok(Ok(response)) => {
                let relay_reference = queued_as(&response);
                let answer = MessageAnswer::Accepted { relay_reference, duplicate: false };
                Passage { said: Said::about_message(answer), line: Some(line), is_worn_out: false }
            }
            Ok(Err(error)) if error.status().is_some() => {
                let said = by_reply(Stage::Content, &error);
                let is_worn_out = is_used && said.ends_connection;
                let line = (!said.ends_connection).then_some(line);
                Passage { said, line, is_worn_out }
            }
            Ok(Err(error)) => ended(Said::unknown(describe(&error).into()), false),
        }
    }

    /// Sender, recipient, and leave to send the data.
    async fn introduce(
        &self,
        connection: &mut AsyncSmtpConnection,
        letter: &Letter,
    ) -> Result<(), (Stage, Halt)> {
        let mut parameters = Vec::new();
        let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if !is_ascii(&letter.from) || !is_ascii(&letter.to) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !letter.bytes.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let at = |stage| move |halt| (stage, halt);
        let mail = Mail::new(Some(letter.from.clone()), parameters);
        self.step(connection, mail).await.map_err(at(Stage::Sender))?;
        self.step(connection, Rcpt::new(letter.to.clone(), Vec::new()))
            .await
            .map_err(at(Stage::Recipient))?;
        self.step(connection, Data).await.map_err(at(Stage::Content))
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

    fn keep(&self, line: Line) {
        let mut idle = self.idle.lock();
        if idle.len() < self.idle_max {
            idle.push(line);
        }
    }

    /// The result for a message, and whether the call continues to the next. What may be about the server counts as
    /// about it at the second message in a row.
    fn judge(&self, said: Said, message: &OutgoingMessage) -> (MessageAnswer, Onward) {
        match said.suspicion {
            None => {
                self.suspects.lock().in_a_row = 0;
                let ends = matches!(said.answer, MessageAnswer::NotTaken { .. });
                (said.answer, if ends { Onward::End } else { Onward::Next })
            }
            Some(suspicion) if self.suspects.lock().are_enough_with(message) => {
                // An outcome that is not known stays so; the rest waits.
                let is_unknown = matches!(said.answer, MessageAnswer::Unknown { .. });
                (if is_unknown { said.answer } else { suspicion }, Onward::End)
            }
            Some(_) => (said.answer, Onward::Next),
        }
    }
}

/// Whether a call continues.
#[derive(PartialEq, Eq)]
enum Onward {
    Next,
    End,
}

#[async_trait]
impl RelayClient for SmtpRelayClient {
    async fn submit(&self, messages: &[OutgoingMessage]) -> SubmitAnswer {
        let mut answers = Vec::with_capacity(messages.len());
        let mut line = None;
        let began = tokio::time::Instant::now();
        for message in messages {
            // What is begun later might go out after the time of the intent.
            if began.elapsed() > self.answer_timeout {
                break;
            }
            let said = self.deliver(message, &mut line).await;
            let (answer, onward) = self.judge(said, message);
            answers.push(redaction::impersonal(answer, &message.to));
            if onward == Onward::End {
                break;
            }
        }
        if let Some(line) = line {
            self.keep(line);
        }
        answers.resize(messages.len(), MessageAnswer::NotTried);
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

fn by_reply(stage: Stage, error: &SmtpError) -> Said {
    let basic = error.status().map_or(0, u16::from);
    let words = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    meaning(stage, basic, words)
}

fn not_connected(error: &SmtpError) -> MessageAnswer {
    match error.status() {
        Some(_) => by_reply(Stage::Connection, error).answer,
        None => not_taken(NotTaken::NoConnection, describe(error).into()),
    }
}

pub(super) fn queued_as(response: &Response) -> Option<SmolStr> {
    let (_, rest) = response.first_line()?.split_once("queued as ")?;
    let reference = rest.split_whitespace().next().map(SmolStr::from)?;
    Some(bounded(reference, RELAY_REFERENCE_LENGTH_MAX))
}

/// A connection whose small writes leave at once. An SMTP conversation is many of them, and each would otherwise wait
/// for the acknowledgement of the one before, which the other side delays by 40 ms.
async fn prompt_stream(server: (&str, u16)) -> std::io::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
