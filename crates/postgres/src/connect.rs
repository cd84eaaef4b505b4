//! Connections: how they are made, and what a server must be like.

use deadpool_postgres::{ConfigConnectImpl, Connect, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::ClientConfig;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{OpenError, is_silence};
use crate::hosts::{each, first};

/// PostgreSQL 15, as the server counts.
const SERVER_VERSION_MIN: i32 = 150_000;
/// What a session is like whatever the server's default is: each statement sees what was committed before it, and one that waits for
/// a lock ends when its client is gone, so that such sessions do not pile up. No statement here runs long enough to be worth being
/// compiled first.
const SESSION: &str =
    r"-c default_transaction_isolation=read\ committed -c client_connection_check_interval=5s -c jit=off";
/// For statements that find all rows by an index: planned once, and as they would be of large tables, also while these are empty.
const BY_INDEX: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without an answer of the other machine a connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a server that was reached may take until it can be asked.
const ONCE_CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// How long somebody waits for a connection of a pool.
const POOL_WAIT: Duration = Duration::from_secs(5);

/// Where a server is.
#[derive(Clone)]
pub struct Server {
    /// `postgres://user:password@host:port,host:port/database`. Of several hosts, which are all tried at once, the one that may be
    /// written to is used.
    pub url: String,
    /// TLS, with the roots that the server's certificate must lead to; none: no TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A connection that nobody drives yet: whoever gets it has to poll it.
pub type Driven = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Makes connections to the server that may be written to.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    /// The same for each host.
    hosts: Vec<Config>,
    tls: MakeRustlsConnect,
}

impl Connector {
    /// Of this server, under this name (`application_name`).
    ///
    /// # Errors
    /// The URL is none, or TLS cannot be set up.
    pub fn new(server: &Server, name: &str) -> Result<Self, OpenError> {
        let mut config: Config = server.url.parse().map_err(OpenError::Url)?;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_TIMEOUT);
        config.keepalives_idle(SILENCE_MAX / 2);
        config.keepalives_interval(SILENCE_MAX / 5);
        config.keepalives_retries(2);
        config.tcp_user_timeout(SILENCE_MAX);
        let own = config.get_options().map(|own| format!("{own} {SESSION}"));
        config.options(own.unwrap_or_else(|| SESSION.to_owned()));
        if config.get_application_name().is_none() {
            config.application_name(name);
        }
        let tls = match &server.tls {
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                Arc::clone(tls)
            }
            None => {
                config.ssl_mode(SslMode::Disable);
                Arc::new(without_roots()?)
            }
        };
        let hosts = each(&config);
        Ok(Self { config, hosts, tls: MakeRustlsConnect::new((*tls).clone()) })
    }

    /// The same, for sessions whose statements find all rows by an index.
    #[must_use]
    pub fn by_index(mut self) -> Self {
        let others = self.config.get_options().unwrap_or_default();
        let options = format!("{others} {BY_INDEX}");
        self.config.options(options);
        self.hosts = each(&self.config);
        self
    }

    /// Connects, to whichever host is the first to be fit: none waits for another one that says nothing.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn connect(&self) -> Result<(Client, Driven), Error> {
        let trying = self.hosts.iter().map(|host| host.connect(self.tls.clone()));
        first(trying).await.map_err(most_telling)
    }

    /// Tells the server to give up what this session is doing if the answer is dropped before it is [`Cancelling::done`]. A session
    /// that waits for a standby does not see otherwise that its client is gone. Nobody may use the session after that.
    pub fn cancel_on_drop(&self, client: &Client) -> Cancelling {
        Cancelling { token: Some(client.cancel_token()), tls: self.tls.clone() }
    }

    /// Does something over a connection that is made for it.
    ///
    /// # Errors
    /// Those of the work; the server cannot be reached, or its connection ends meanwhile.
    pub async fn once<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let (mut client, connection) =
            timeout(ONCE_CONNECT_WITHIN, self.connect()).await.map_err(|_| OpenError::Silent)??;
        let mut connection = pin!(connection);
        let mut work = pin!(work(&mut client));
        tokio::select! {
            done = &mut work => done,
            ended = &mut connection => match ended {
                Err(error) => Err(error.into()),
                // It says in its own words what has become of it.
                Ok(()) => work.await,
            },
        }
    }

    /// [`Connector::once`], to open what an instance uses.
    ///
    /// # Errors
    /// The same; if the role lacks rights, what to do about it.
    pub async fn open<T>(
        &self,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let role = self.config.get_user().unwrap_or("ROLE");
        self.once(work).await.map_err(|error| error.for_instance(role))
    }

    /// At most so many connections, made as they are needed.
    ///
    /// # Errors
    /// None that is known.
    pub fn pool(&self, max: usize) -> Result<Pool, OpenError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.config.clone(), OfPool(self.clone()), recycling);
        let pool = Pool::builder(manager).max_size(max).runtime(Runtime::Tokio1);
        Ok(pool.wait_timeout(Some(POOL_WAIT)).create_timeout(Some(POOL_WAIT)).build()?)
    }
}

/// See [`Connector::cancel_on_drop`].
pub struct Cancelling {
    token: Option<CancelToken>,
    tls: MakeRustlsConnect,
}

impl Cancelling {
    /// There is an answer.
    pub fn done(mut self) {
        self.token = None;
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        let (Some(token), Ok(runtime)) = (self.token.take(), Handle::try_current()) else { return };
        let tls = self.tls.clone();
        runtime.spawn(async move {
            // A server that cannot be reached has nothing to give up that anybody waits for.
            let _ = timeout(CONNECT_TIMEOUT, token.cancel_query(tls)).await;
        });
    }
}

/// [`Connector::connect`], for a pool, which drives its connections itself.
struct OfPool(Connector);

impl Connect for OfPool {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        let Connector { hosts, tls, .. } = &self.0;
        Box::pin(async move {
            let driving = ConfigConnectImpl { tls: tls.clone() };
            first(hosts.iter().map(|host| driving.connect(host))).await.map_err(most_telling)
        })
    }
}

/// Of what came of each host: what a server has said, or at least something else than that there was no answer.
fn most_telling(errors: Vec<Error>) -> Error {
    let telling = |error: &Error| (error.as_db_error().is_some(), !is_silence(error));
    errors.into_iter().max_by_key(telling).expect("there is a host")
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
pub async fn check_server(client: &Client) -> Result<(), OpenError> {
    let setting = async |name: &str| -> Result<String, OpenError> {
        Ok(client.query_one("SELECT current_setting($1)", &[&name]).await?.get(0))
    };
    let version = setting("server_version_num").await?;
    if version.parse::<i32>().unwrap_or(0) < SERVER_VERSION_MIN {
        return Err(OpenError::ServerTooOld { version: setting("server_version").await? });
    }
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        if setting(name).await? == "off" {
            return Err(OpenError::NotDurable { setting: name, value: "off".to_owned() });
        }
    }
    let (commit, standbys) =
        (setting("synchronous_commit").await?, setting("synchronous_standby_names").await?);
    if !standbys.is_empty() && ["local", "remote_write"].contains(&&*commit) {
        return Err(OpenError::NotDurable { setting: "synchronous_commit", value: commit });
    }
    let encoding = setting("server_encoding").await?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { encoding });
    }
    Ok(())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener};
    use tokio::net::{TcpSocket, TcpStream};

    /// Where whoever wants to connect is not even refused, as long as this is kept.
    async fn unreachable() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(waiting) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queue.push(waiting.unwrap());
        }
        (address, (listener, queue))
    }

    async fn refused(hosts: &str) -> Error {
        let server = Server { url: format!("postgres://kite@{hosts}/kite"), tls: None };
        let refused = Connector::new(&server, "kite").unwrap().connect().await;
        refused.map(drop).unwrap_err()
    }

    #[tokio::test]
    async fn of_several_errors_it_is_not_silence_that_is_told_of() {
        let (silent, _kept) = unreachable().await;
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let [one, both, turned] =
            [format!("{silent}"), format!("{silent},{closed}"), format!("{closed},{silent}")];
        let (one, both, turned) = tokio::join!(refused(&one), refused(&both), refused(&turned));
        assert!(is_silence(&one), "{one:?}");
        for error in [both, turned] {
            assert!(!is_silence(&error), "{error:?}");
        }
    }
}
