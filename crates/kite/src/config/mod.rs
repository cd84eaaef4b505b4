//! Configuration: the commented default file compiled in, then a file, then `KITE_…` variables, then flags.

mod postgres;
mod queue;
mod roles;
#[cfg(test)]
mod tests;
mod tls_to_server;

use anyhow::{Context, ensure};
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use kite_api::ApiConfig;
use kite_commands::accept::AcceptLimits;
use kite_commands::clock::SystemClock;
use kite_commands::{Clock, Vault};
use kite_domain::tenant::LimitsInForce;
use kite_event_store::postgres::PostgresOptions;
use kite_event_store::sqlite::SqliteOptions;
use kite_relay::RelaySettings;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use crate::server::{ServerSettings, TlsSettings};
pub use crate::spans::TracingSettings;
pub use postgres::{PostgresSettings, SslMode};
pub use queue::{NatsSettings, QueueEngine, QueueSettings};
pub use roles::Role;
use roles::Shared;

/// The default file: also the manual.
pub const DEFAULT: &str = include_str!("default.toml");

/// Variables with our prefix that set nothing here: the log level, those of the examples of the API documentation,
/// and the seed of the tests.
const NOT_SETTINGS: [&str; 4] = ["log", "key", "url", "test_seed"];

/// The shortest operator's key that is taken.
const ADMIN_KEY_MIN: usize = 24;

/// Everything that can be set.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
    /// The file in which the digests of the log's seals are also kept; empty: none.
    pub seals_file: PathBuf,
    /// The directory for backups that are requested over the API; empty: none are taken.
    pub backup_dir: PathBuf,
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
    /// Where administration and metrics listen; none: where the API does.
    #[serde(deserialize_with = "address_or_none")]
    pub admin_listen: Option<SocketAddr>,
    /// The first operator's key; empty: none.
    pub admin_key: String,
    /// The file of the keys that encrypt credentials; empty: there is none.
    pub secrets_keys_file: PathBuf,
    /// The keys that encrypt credentials, themselves; empty: see the file.
    pub secrets_keys: String,
    /// The parts to run; empty: all.
    pub roles: BTreeSet<Role>,
    /// Messages kept in memory by the write side.
    pub lots_in_memory_messages_max: u64,
    /// How long a stop may take, in seconds.
    pub shutdown_s_max: u64,
    /// Bounds of acceptance.
    pub limits: Limits,
    /// The event store.
    pub store: StoreSettings,
    /// The read models.
    pub read_models: ReadModelSettings,
    /// The server, if something is kept in PostgreSQL.
    pub postgres: PostgresSettings,
    /// The work queue.
    pub queue: QueueSettings,
    /// The servers, if the work queue is NATS JetStream.
    pub nats: NatsSettings,
    /// The certificate of the listener.
    pub tls: TlsSettings,
    /// The listener.
    pub server: ServerSettings,
    /// The API.
    pub api: ApiConfig,
    /// Where spans go.
    pub tracing: TracingSettings,
    /// The relay workers.
    pub relays: RelaySettings,
}

/// Bounds of acceptance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// See [`AcceptLimits`].
    pub open_messages_max: u64,
    /// See [`AcceptLimits`].
    pub scheduled_messages_max: u64,
    /// See [`AcceptLimits`].
    pub password_reserve_per_cent: u8,
    /// See [`AcceptLimits`].
    pub projector_lag_events_max: u64,
    /// See [`AcceptLimits`].
    pub retry_after_s: u32,
    /// See [`AcceptLimits`].
    pub schedule_days_max: u32,
    /// The limits of a tenant for which the operator has set no others.
    pub tenant: LimitsInForce,
}

/// What keeps the log, or the read models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// A file in the data directory, for one process.
    Sqlite,
    /// A database, for several processes.
    Postgres,
}

/// The event store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Where the log is kept.
    pub engine: Engine,
    /// Batches that may wait for the writer.
    pub queue_requests_max: usize,
    /// Bytes that may wait for the writer.
    pub queue_bytes_max: usize,
    /// The newest events kept in memory, in bytes.
    pub recent_bytes_max: usize,
    /// The streams whose last version is kept in memory.
    pub streams_in_memory_max: usize,
}

/// The read models.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadModelSettings {
    /// Where they are kept.
    pub engine: Engine,
    /// Connections to a server for queries.
    pub connections_max: usize,
}

impl Config {
    /// The default.
    ///
    /// # Errors
    /// None that a test would not have found.
    pub fn compiled_in() -> anyhow::Result<Self> {
        Ok(Figment::from(Toml::string(DEFAULT)).extract()?)
    }

    /// The default, then the text of a file.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn from_text(text: &str) -> anyhow::Result<Self> {
        let figment = Figment::from(Toml::string(DEFAULT)).merge(Toml::string(text));
        let config: Self = figment.extract().map_err(|error| anyhow::anyhow!("{}", in_words(error)))?;
        config.check_roles().context("roles")?;
        config.server.check(&config.api)?;
        config.tls.check()?;
        config.tracing.check()?;
        config.check_listeners()?;
        config.check_limits().context("limits")?;
        config.check_engines()?;
        Ok(config)
    }

    /// The default, then the file, then the environment.
    ///
    /// # Errors
    /// Names the file and the key that is wrong.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if let Some(file) = file {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Self::from_text(&text).map_err(|error| anyhow::anyhow!("{}: {error:#}", file.display()))?;
            figment = figment.merge(Toml::string(&text));
        }
        let config: Self = figment
            .merge(Env::prefixed("KITE_").ignore(&NOT_SETTINGS).split("__"))
            .extract()
            .map_err(|error| anyhow::anyhow!("environment: {}", in_words(error)))?;
        config.check_roles().context("environment: roles")?;
        config.server.check(&config.api).context("environment")?;
        config.tls.check().context("environment")?;
        config.tracing.check().context("environment")?;
        config.check_listeners().context("environment")?;
        config.check_limits().context("environment: limits")?;
        config.check_engines().context("environment")?;
        Ok(config)
    }

    /// Whether what is kept fits together.
    fn check_engines(&self) -> anyhow::Result<()> {
        let is_apart = self.read_models.engine == Engine::Postgres && self.store.engine != Engine::Postgres;
        ensure!(!is_apart, "read_models.engine: \"postgres\" needs store.engine = \"postgres\"");
        ensure!(
            self.read_models.connections_max > 0,
            "read_models.connections_max: 0 would let nothing be read"
        );
        Ok(())
    }

    /// Whether these parts can work together in one process.
    ///
    /// # Errors
    /// Says which part lacks which other, and why it needs it.
    pub fn check_roles(&self) -> anyhow::Result<()> {
        let is_shared = Shared {
            models: self.read_models.engine == Engine::Postgres,
            queue: self.queue.engine == QueueEngine::Nats,
        };
        roles::check(&self.roles(), is_shared)
    }

    /// Whether the event store and the work queue can be what they are set to.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn check_store(&self) -> anyhow::Result<()> {
        if self.queue.engine == QueueEngine::Nats {
            self.nats.server()?;
        }
        if self.store.engine == Engine::Sqlite {
            return Ok(());
        }
        self.postgres.server()?;
        if self.read_models.engine == Engine::Sqlite {
            roles::check_shared(&self.roles()).context("roles")?;
        }
        anyhow::ensure!(
            self.backup_dir.as_os_str().is_empty(),
            "backup_dir: the log is in PostgreSQL, which has backups of its own"
        );
        Ok(())
    }

    /// Whether the two listeners are compatible.
    ///
    /// # Errors
    /// Names the key.
    pub fn check_listeners(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.admin_listen.is_none_or(|admin| admin != self.listen || admin.port() == 0),
            "admin_listen: {} is where the API listens already",
            self.listen
        );
        Ok(())
    }

    /// Where administration is reached.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_listen.unwrap_or(self.listen)
    }

    /// Whether this process may have as many descriptors as it needs.
    ///
    /// # Errors
    /// Names the key, and how many there are.
    pub fn check_descriptors(&self) -> anyhow::Result<()> {
        crate::server::rooms(&self.server, self.admin_listen.is_some()).map(drop)
    }

    /// Whether the operator's key is empty, or cannot be guessed.
    ///
    /// # Errors
    /// Names the key of the configuration.
    pub fn check_admin_key(&self) -> anyhow::Result<()> {
        let characters = self.admin_key.chars().count();
        anyhow::ensure!(
            characters == 0 || characters >= ADMIN_KEY_MIN,
            "admin_key: {characters} characters can be guessed; at least {ADMIN_KEY_MIN} are needed (openssl rand -hex 32)"
        );
        Ok(())
    }

    /// Whether the directory for backups, if there is one, is outside the data directory.
    ///
    /// # Errors
    /// Names the key.
    pub fn check_backup_dir(&self) -> anyhow::Result<()> {
        if self.backup_dir.as_os_str().is_empty() {
            return Ok(());
        }
        crate::data_dir::refuse_inside(&self.backup_dir, &self.data_dir).context("backup_dir")
    }

    /// The keys that encrypt the relays' credentials.
    ///
    /// # Errors
    /// Names the key of the configuration and what is wrong, never a key.
    pub fn vault(&self) -> anyhow::Result<Vault> {
        let file = &self.secrets_keys_file;
        let vault = match (file.as_os_str().is_empty(), self.secrets_keys.is_empty()) {
            (true, _) => Vault::parse(&self.secrets_keys).context("secrets_keys"),
            (false, true) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("secrets_keys_file: cannot read {}", file.display()))?;
                Vault::parse(&text).with_context(|| format!("secrets_keys_file: {}", file.display()))
            }
            (false, false) => {
                anyhow::bail!("secrets_keys and secrets_keys_file are both set: leave one out")
            }
        }?;
        anyhow::ensure!(
            file.as_os_str().is_empty() || vault.has_key(),
            "secrets_keys_file: {} holds no key (kite secrets key prints one)",
            file.display()
        );
        Ok(vault)
    }

    /// Whether the limits of acceptance leave room for anything.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn check_limits(&self) -> anyhow::Result<()> {
        let limits = &self.limits;
        anyhow::ensure!(
            limits.password_reserve_per_cent <= 50,
            "password_reserve_per_cent: {} is not 0 to 50",
            limits.password_reserve_per_cent
        );
        let rates = [
            ("requests_per_second", limits.tenant.requests_per_second),
            ("recipients_per_second", limits.tenant.recipients_per_second),
        ];
        for (key, rate) in rates {
            anyhow::ensure!(rate > 0, "tenant.{key}: 0 would let nothing through");
        }
        Ok(())
    }

    /// Whether the certificate of the listener can be used now.
    ///
    /// # Errors
    /// Names the key and the file, and what is wrong with it.
    pub fn check_certificate(&self) -> anyhow::Result<()> {
        self.tls.check_files(SystemClock.now())
    }

    /// How an address of the listener is written for those who call it.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_on() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// The parts to run.
    pub fn roles(&self) -> BTreeSet<Role> {
        match self.roles.is_empty() {
            true => Role::ALL.iter().copied().collect(),
            false => self.roles.clone(),
        }
    }

    /// The limits of acceptance, as the write side takes them.
    pub fn accept_limits(&self) -> AcceptLimits {
        AcceptLimits {
            recipients_max: self.api.recipients_max,
            open_messages_max: self.limits.open_messages_max,
            scheduled_messages_max: self.limits.scheduled_messages_max,
            password_reserve_per_cent: self.limits.password_reserve_per_cent,
            tenant: self.limits.tenant,
            projector_lag_events_max: self.limits.projector_lag_events_max,
            retry_after_s: self.limits.retry_after_s,
            schedule_days_max: self.limits.schedule_days_max,
            night: self.relays.night,
            ..AcceptLimits::default()
        }
    }

    /// The options of an event store in PostgreSQL.
    ///
    /// # Errors
    /// See [`PostgresSettings::server`].
    pub fn postgres_options(&self) -> anyhow::Result<PostgresOptions> {
        Ok(PostgresOptions {
            queue_requests_max: self.store.queue_requests_max,
            queue_bytes_max: self.store.queue_bytes_max,
            recent_bytes_max: self.store.recent_bytes_max,
            readers: self.postgres.connections_max,
            ..PostgresOptions::at(self.postgres.server()?)
        })
    }

    /// The options of an event store in a file.
    pub fn sqlite_options(&self) -> SqliteOptions {
        SqliteOptions {
            queue_requests_max: self.store.queue_requests_max,
            queue_bytes_max: self.store.queue_bytes_max,
            recent_bytes_max: self.store.recent_bytes_max,
            heads_max: self.store.streams_in_memory_max,
            ..SqliteOptions::default()
        }
    }
}

/// An address; none for an empty or missing text.
fn address_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| serde::de::Error::custom(format!("`{text}` is no address such as 127.0.0.1:8081")))
}

/// The value of this key is never shown: an error would otherwise repeat a value that it does not accept.
const SECRETS: [&str; 6] = ["admin_key", "secrets_keys", "otlp_headers", "url", "servers", "password"];

fn in_words(error: figment::Error) -> String {
    let is_secret = |path: &[String]| path.iter().any(|part| SECRETS.contains(&part.as_str()));
    let told: Vec<String> = error
        .into_iter()
        .map(|one| match one.path.is_empty() {
            true => without_source(&one.kind.to_string()),
            false if is_secret(&one.path) => {
                format!("{}: is no text; put it in quotes", one.path.join("."))
            }
            false => format!("{}: {}", one.path.join("."), one.kind),
        })
        .collect();
    told.join("; ")
}

/// A parser's message, without the line of the file that it shows, which may contain a secret.
fn without_source(said: &str) -> String {
    let is_source = |line: &&str| {
        line.split_once('|')
            .is_some_and(|(before, _)| before.trim().bytes().all(|byte| byte.is_ascii_digit()))
    };
    said.lines().filter(|line| !is_source(line)).collect::<Vec<_>>().join(": ")
}
