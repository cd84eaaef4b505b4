//! Connections: how they are made, and what a server must be like.

use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{OpenError, PostgresOptions};

/// PostgreSQL 15, as the server counts.
const SERVER_VERSION_MIN: i32 = 150_000;
/// What a session is like whatever the server's default is: each statement sees what was committed before it.
const SESSION: &str = r"-c default_transaction_isolation=read\ committed";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without an answer of the other machine a connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A connection that nobody drives yet.
pub(super) type Driven =
    Connection<Socket, <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream>;

/// Makes connections to the server that may be written to.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

impl Connector {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, OpenError> {
        let mut config: Config = options.url.parse().map_err(OpenError::Url)?;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_TIMEOUT);
        config.keepalives_idle(SILENCE_MAX / 2);
        config.keepalives_interval(SILENCE_MAX / 5);
        config.keepalives_retries(2);
        config.tcp_user_timeout(SILENCE_MAX);
        let own = config.get_options().map(|own| format!("{own} {SESSION}"));
        config.options(own.unwrap_or_else(|| SESSION.to_owned()));
        if config.get_application_name().is_none() {
            config.application_name("kite");
        }
        let tls = match &options.tls {
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                Arc::clone(tls)
            }
            None => {
                config.ssl_mode(SslMode::Disable);
                Arc::new(without_roots()?)
            }
        };
        Ok(Self { config, tls: MakeRustlsConnect::new((*tls).clone()) })
    }

    /// Connects. Whoever gets the connection has to poll it.
    pub(super) async fn connect(&self) -> Result<(Client, Driven), tokio_postgres::Error> {
        self.config.connect(self.tls.clone()).await
    }
}

/// Never used: a server that is not asked for TLS does not get to it.
fn without_roots() -> Result<ClientConfig, OpenError> {
    let builder =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(OpenError::Tls)?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// What the server must be like, for what is said of durability to be true.
///
/// # Errors
/// It is too old, or may lose what it has acknowledged.
pub(super) async fn check_server(client: &Client) -> Result<(), OpenError> {
    let setting = async |name: &str| -> Result<String, OpenError> {
        Ok(client.query_one("SELECT current_setting($1)", &[&name]).await?.get(0))
    };
    let version = setting("server_version_num").await?;
    if version.parse::<i32>().unwrap_or(0) < SERVER_VERSION_MIN {
        return Err(OpenError::ServerTooOld { version: setting("server_version").await? });
    }
    for (name, wrong) in [("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "off")] {
        if setting(name).await? == wrong {
            return Err(OpenError::NotDurable { setting: name });
        }
    }
    let encoding = setting("server_encoding").await?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { encoding });
    }
    Ok(())
}
