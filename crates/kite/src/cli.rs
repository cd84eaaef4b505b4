//! The command line.

use clap::{Args, Parser, Subcommand};
use kite_event_store::Position;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Kite distributes messages over several relay carriers, exactly in the ratio asked for, and loses none.
#[derive(Debug, Parser)]
#[command(name = "kite", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What Kite can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything in one process with simulated relays, send messages through it, and show what happens.
    Demo(DemoOptions),
    /// Run Kite.
    Serve(ServeOptions),
    /// Rebuild the read models from the log: to verify them, to replace them, or to apply parked events again.
    Replay(ReplayOptions),
    /// Print events of the log of a stopped instance, one JSON object per line. A running instance is asked over the
    /// API.
    Audit(AuditOptions),
    /// Copy the log into a new directory, while an instance runs or is stopped; or verify such a copy.
    Backup(BackupOptions),
    /// Make a data directory from a backup. It knows that it is a copy, and hands nothing over until it is released.
    Restore(RestoreOptions),
    /// List the relays, or call them without handing over a message and report each step.
    #[command(subcommand)]
    Relays(RelaysCommand),
    /// Make keys that encrypt the credentials of relays, or start to use a new one.
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Make or update what Kite keeps in PostgreSQL.
    #[command(subcommand)]
    Postgres(PostgresCommand),
    /// Show, publish again or drop what no worker understood in a work queue on NATS.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Options of `kite demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// How many messages to send.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub messages: u32,
    /// The seed of the simulated relays and the recipients.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep the data here, and continue with what is there. Without it, a temporary directory is used and removed.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API listens. Port 0: any free port. Without it: 127.0.0.1:8080, or any free port if that one is taken.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Stop when every message is final, instead of serving until Ctrl-C.
    #[arg(long)]
    pub exit: bool,
    /// Print one JSON object on standard output, and nothing else there.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kite serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// The configuration file. What it leaves out has its default (`kite config default`).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The parts to run: api, router, publisher, worker, projector, timekeeper. All of them if not given.
    #[arg(long, value_delimiter = ',', value_name = "ROLE,…")]
    pub roles: Vec<crate::config::Role>,
    /// Overrides `data_dir`.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Overrides `listen`.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
}

/// Which log is meant, and whose read models.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct LogOptions {
    /// The data directory of a stopped instance.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The configuration of an instance: its log, wherever that is kept, and its data directory. The instance has to be stopped,
    /// but for `audit` of a log in PostgreSQL and for read models in PostgreSQL.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Options of `kite replay`.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct ReplayMode {
    /// Rebuild every read model beside the live one and compare every row. Exits with 1 if there is a difference.
    #[arg(long)]
    pub verify: bool,
    /// Rebuild every read model and replace the live one, whose file is kept as `*.previous`. Read models in PostgreSQL are
    /// rebuilt beside the live ones, while everything goes on, by the owner of the database.
    #[arg(long)]
    pub rebuild: bool,
    /// Show the events that a read model could not apply and has parked, one per line. Exits with 1 if there are any.
    #[arg(long)]
    pub parked: bool,
    /// Apply parked events again, after a fix: every read model that has parked something is rebuilt and replaces the
    /// live one. What still cannot be applied stays parked, and the exit code is 1.
    #[arg(long)]
    pub retry_parked: bool,
}

/// Options of `kite replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayOptions {
    /// What to do with the rebuilt read models.
    #[command(flatten)]
    pub mode: ReplayMode,
    /// Which log.
    #[command(flatten)]
    pub log: LogOptions,
    /// With --rebuild and --retry-parked: even from a log that differs from its seals (`kite audit --verify`).
    #[arg(long, conflicts_with_all = ["verify", "parked"])]
    pub unverified: bool,
    /// Print one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kite audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditOptions {
    /// Which log.
    #[command(flatten)]
    pub log: LogOptions,
    /// Only this stream, such as `sending-<id>` or `lot-<id>-0`.
    #[arg(long)]
    pub stream: Option<String>,
    /// Only events after this position.
    #[arg(long, default_value_t = 0)]
    pub after: Position,
    /// At most this many events.
    #[arg(long, default_value_t = 1_000)]
    pub limit: usize,
    /// Check the whole log against its seals instead of printing it. Names the position of every event that was
    /// changed, moved or added, or after which one is missing, and exits with 1.
    #[arg(long, conflicts_with_all = ["stream", "after", "limit"])]
    pub verify: bool,
    /// With --verify: also compare the seals with the digests that were kept in this file (`seals_file`).
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub seals: Option<PathBuf>,
    /// With --verify: print one JSON object on standard output.
    #[arg(long, requires = "verify")]
    pub json: bool,
}

/// Options of `kite backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupOptions {
    /// The directory to make. It must not exist, or must be empty.
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    pub to: Option<PathBuf>,
    /// The data directory. Without it, the one that the configuration names.
    #[arg(long, value_name = "DIR", conflicts_with = "verify")]
    pub data: Option<PathBuf>,
    /// The configuration of the instance.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "verify"])]
    pub config: Option<PathBuf>,
    /// Check a backup against its manifest, and its log against its seals. Exits with 1 if something has changed.
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    pub verify: Option<PathBuf>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `kite restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreOptions {
    /// The backup.
    #[arg(long, value_name = "DIR", required_unless_present = "release", conflicts_with = "release")]
    pub from: Option<PathBuf>,
    /// The data directory to make, which must not exist or must be empty; with --release, the one of a stopped copy.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Also restore a log that differs from its seals (`kite backup --verify`).
    #[arg(long, conflicts_with = "release")]
    pub unverified: bool,
    /// Let a stopped copy take the place of its original. For a running one use the API (POST
    /// /v1/admin/instance/release).
    #[arg(long, requires = "original_is_dead", requires = "reason")]
    pub release: bool,
    /// Your confirmation that the original hands nothing over any more and never will again. If it is still in use
    /// after all, messages are sent twice.
    #[arg(long, requires = "release")]
    pub original_is_dead: bool,
    /// Since when it is dead, such as 2026-03-02T03:00:00Z: what was scheduled for later is certainly not with any relay.
    /// Without it: since now.
    #[arg(long, value_name = "TIME", requires = "release")]
    pub dead_since: Option<chrono::DateTime<chrono::Utc>>,
    /// How you know.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "release")]
    pub reason: String,
}

/// Commands of `kite config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Print the default configuration with its comments: the manual.
    Default,
    /// Read a configuration as `kite serve` would, and name the file and key that is wrong.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Commands of `kite postgres`.
#[derive(Debug, Clone, Subcommand)]
pub enum PostgresCommand {
    /// Make the schemas of the log, the leases and the read models, or bring them into the newest shape. For the owner of the
    /// database; once, and after an upgrade. What is there stays as it is.
    Migrate {
        /// The configuration: where the server is, with a user who may make schemas.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// A role of PostgreSQL as which instances run: it may append to the log, read, and change rows of leases
        /// and read models. Once for each role. One that is an instance already need not be named.
        #[arg(long = "instance", value_name = "ROLE")]
        instances: Vec<String>,
        /// A role of PostgreSQL that may read the views in the schema `kite`, and nothing else. Once for each role.
        #[arg(long = "reader", value_name = "ROLE")]
        readers: Vec<String>,
    },
}

/// Commands of `kite secrets`.
#[derive(Debug, Clone, Subcommand)]
pub enum SecretsCommand {
    /// Print a new key: a line for the file of keys. Put it first, and keep the others until `rotate` is done.
    Key {
        /// The id of the key: letters, digits, - and _. Without it: the day.
        #[arg(long)]
        id: Option<String>,
    },
    /// Encrypt all credentials with the first key. A running instance must have been started with it.
    Rotate(SecretsRotateOptions),
}

/// Commands of `kite queue`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// How much is in the queue, and which jobs were not understood, the oldest first.
    List {
        /// Where it is.
        #[command(flatten)]
        options: QueueOptions,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// One of them, with its text.
    Show {
        /// Where it is.
        #[command(flatten)]
        options: QueueOptions,
        /// Its number in the list.
        number: u64,
    },
    /// Publish them again, as they were: after an upgrade of the workers, for example.
    Retry {
        /// Where it is.
        #[command(flatten)]
        options: QueueOptions,
        /// Which.
        #[command(flatten)]
        which: QueueWhich,
    },
    /// Delete them. What they were about is in the log, and is published again while it is still to be done.
    Drop {
        /// Where it is.
        #[command(flatten)]
        options: QueueOptions,
        /// Which.
        #[command(flatten)]
        which: QueueWhich,
    },
}

/// Which queue.
#[derive(Debug, Clone, Args)]
pub struct QueueOptions {
    /// The configuration of an instance.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Which jobs.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct QueueWhich {
    /// Their numbers in the list.
    pub numbers: Vec<u64>,
    /// All that are there now.
    #[arg(long)]
    pub all: bool,
}

/// Options of `kite secrets rotate`.
#[derive(Debug, Clone, Args)]
pub struct SecretsRotateOptions {
    /// The configuration: the keys, where the running instance listens, and the operator's key.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address of the running instance, instead of the configuration's.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The data directory of a stopped instance, instead of a running one.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data: Option<PathBuf>,
}

/// Commands of `kite relays`.
#[derive(Debug, Clone, Subcommand)]
pub enum RelaysCommand {
    /// Every relay: whether it has workers, its breaker, and why.
    List(RelaysOptions),
    /// Call a relay, or all of them, without handing over a message. Exits with 1 if one cannot be used.
    Check {
        /// Which relay; all of them if not given.
        relay: Option<String>,
        /// Whom to ask.
        #[command(flatten)]
        options: RelaysOptions,
    },
}

/// Where to ask about relays: a running instance over its API, or the data directory of a stopped one.
#[derive(Debug, Clone, Args)]
pub struct RelaysOptions {
    /// The configuration of the running instance: where it listens, and the operator's key. Your own key is read from
    /// the environment: `KITE_KEY`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address of the running instance, instead of the configuration's.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The data directory of a stopped instance, instead of a running one.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data: Option<PathBuf>,
    /// Print one JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}
