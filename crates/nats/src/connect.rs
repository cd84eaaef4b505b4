//! The connection to the servers, and what they must be like.

use async_nats::jetstream::context::{AccountErrorKind, Context, ContextBuilder};
use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use kite_commands::worker::Failure;
use rustls::ClientConfig;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The oldest server: consumers by a filter of their own, and streams whose limits can be changed.
const VERSION_MIN: (u32, u32) = (2, 10);
/// How long the first connection may take, over all servers.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long one server may take to be reached.
const EACH_WITHIN: Duration = Duration::from_secs(3);
/// After so long without an answer a server counts as lost: two pings.
const PING_EVERY: Duration = Duration::from_secs(3);
/// How long the answer to a request may take, and the acknowledgement of what is published.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The pause before a lost server is tried again grows to this.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where the servers are, and who asks.
#[derive(Clone)]
pub struct Server {
    /// `nats://host:port` or `tls://host:port`; all of one cluster.
    pub urls: Vec<String>,
    /// Who this is.
    pub login: Login,
    /// TLS, with the roots that a server's certificate must lead to; none: no TLS.
    pub tls: Option<ClientConfig>,
    /// How this process is called where connections are listed.
    pub client_name: String,
}

/// How a process says who it is.
#[derive(Clone)]
pub enum Login {
    /// Not at all, or by its certificate.
    Nobody,
    /// With a password.
    Password {
        /// The user.
        user: String,
        /// Its password.
        password: String,
    },
    /// With the text of a credentials file (a user's JWT and its key).
    Credentials(String),
}

/// The queue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No server answers.
    #[error("no NATS server can be reached within {} s", CONNECT_WITHIN.as_secs())]
    Unreachable(#[source] Option<async_nats::ConnectError>),
    /// The text is no file of credentials.
    #[error("the credentials cannot be read")]
    Credentials(#[source] io::Error),
    /// A URL is none.
    #[error("{url} is no address of a NATS server")]
    Url {
        /// What was given.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// The server is too old.
    #[error("the NATS server is of version {0}; {major}.{minor} or newer is needed", major = VERSION_MIN.0, minor = VERSION_MIN.1)]
    TooOld(String),
    /// The server keeps no streams.
    #[error(
        "the NATS server keeps no streams for this account, or its cluster has no leader: is JetStream enabled?"
    )]
    NoJetStream(#[source] async_nats::jetstream::context::AccountError),
    /// A stream cannot be made.
    #[error("the stream {name} cannot be made as it has to be")]
    Stream {
        /// Its name.
        name: String,
        /// Why.
        source: async_nats::jetstream::context::CreateStreamError,
    },
}

/// A connection that comes back by itself.
#[derive(Clone)]
pub struct Connection {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    /// How often it was made: what was asked before may have no answer.
    pub(crate) made: watch::Receiver<u64>,
}

impl Connection {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// If none can be reached, or it is not what is needed.
    pub async fn open(server: &Server) -> Result<Self, OpenError> {
        let (make, made) = watch::channel(0u64);
        let options = options(server, make)?;
        let connected = tokio::time::timeout(CONNECT_WITHIN, options.connect(addresses(server)?)).await;
        let client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(OpenError::Unreachable(Some(error))),
            Err(_) => return Err(OpenError::Unreachable(None)),
        };
        let version = client.server_info().version;
        if !is_fit(&version) {
            return Err(OpenError::TooOld(version));
        }
        let jetstream = ContextBuilder::new().timeout(ANSWER_WITHIN).build(client.clone());
        // A cluster that has just been started has no leader for a while, and does not answer.
        let until = Instant::now() + CONNECT_WITHIN;
        while let Err(error) = jetstream.query_account().await {
            let is_early = error.kind() == AccountErrorKind::TimedOut && Instant::now() < until;
            if !is_early {
                return Err(OpenError::NoJetStream(error));
            }
        }
        Ok(Self { client, jetstream, made })
    }

    /// Whether a server is there now.
    pub fn is_there(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Publishes as anybody may who has the rights.
    ///
    /// # Errors
    /// If no stream takes it.
    pub async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), Failure> {
        self.jetstream.publish(subject.to_owned(), payload).await?.await?;
        Ok(())
    }

    /// How much of a stream nobody has pulled yet of what this consumer is for.
    ///
    /// # Errors
    /// If there is none, or the server does not answer.
    pub async fn not_pulled(&self, stream: &str, consumer: &str) -> Result<u64, Failure> {
        let stream = self.jetstream.get_stream_no_info(stream).await?;
        Ok(stream.consumer_info(consumer).await?.num_pending)
    }

    /// Deletes a stream with all that is in it.
    ///
    /// # Errors
    /// If there is none, or the server does not answer.
    pub async fn delete_stream(&self, name: &str) -> Result<(), Failure> {
        self.jetstream.delete_stream(name).await?;
        Ok(())
    }

    /// Sends what was published and not sent yet.
    pub async fn flush(&self) {
        if let Err(error) = self.client.flush().await {
            tracing::debug!(%error, "what was not sent yet is lost");
        }
    }
}

fn options(server: &Server, make: watch::Sender<u64>) -> Result<ConnectOptions, OpenError> {
    let options = match &server.login {
        Login::Nobody => ConnectOptions::new(),
        Login::Password { user, password } => {
            ConnectOptions::with_user_and_password(user.clone(), password.clone())
        }
        Login::Credentials(text) => ConnectOptions::with_credentials(text).map_err(OpenError::Credentials)?,
    };
    let options = options
        .name(&server.client_name)
        .ping_interval(PING_EVERY)
        .connection_timeout(EACH_WITHIN)
        .request_timeout(Some(ANSWER_WITHIN))
        .reconnect_delay_callback(|attempt| {
            let doubled = Duration::from_millis(50) * 2u32.saturating_pow(attempt.min(8) as u32);
            doubled.min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(move |event| {
            let make = make.clone();
            async move {
                match event {
                    Event::Connected => {
                        tracing::info!("connected to the work queue");
                        make.send_modify(|count| *count += 1);
                    }
                    Event::Disconnected => tracing::warn!("the connection to the work queue is lost"),
                    other => tracing::debug!(event = %other, "of the work queue"),
                }
            }
        });
    Ok(match &server.tls {
        Some(tls) => options.tls_client_config(tls.clone()).require_tls(true),
        None => options,
    })
}

fn addresses(server: &Server) -> Result<Vec<async_nats::ServerAddr>, OpenError> {
    let address =
        |url: &String| url.parse().map_err(|source| OpenError::Url { url: without_password(url), source });
    server.urls.iter().map(address).collect()
}

/// A URL may hold a password, and errors are logged.
fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => url.to_owned(),
    }
}

fn is_fit(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= VERSION_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_known_by_its_version() {
        for (version, is_it) in
            [("2.9.25", false), ("2.10.0", true), ("2.15.1-RC.1", true), ("3.0.0", true), ("", false)]
        {
            assert_eq!(is_fit(version), is_it, "{version}");
        }
    }

    #[test]
    fn no_error_tells_a_password() {
        assert_eq!(without_password("nats://kite:secret@host:x"), "…@host:x");
        assert_eq!(without_password("host:x"), "host:x");
    }
}
