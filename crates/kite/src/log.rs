//! The log of an instance, wherever it is kept.

use anyhow::{Context, bail, ensure};
use kite_commands::clock::{Ids, SystemIds};
use kite_commands::lease::{LeaseError, Leases, PostgresLeases, TERM};
use kite_event_store::sqlite::SqliteOptions;
use kite_event_store::{EventStore, LogIndex, PostgresEventStore, SharedError, SqliteEventStore};
use kite_projections::postgres::{Postgres, PostgresOptions};
use kite_projections::{ReadModels, Storage};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

use crate::config::{Config, Engine};
use crate::data_dir::{LOG, LOG_ID, refuse_backup};
use crate::private::{private_directory, refuse_foreign};

/// Tells for how long a log has not answered.
pub(crate) type Silence = Box<dyn Fn() -> Duration + Send + Sync>;

/// A log that is open.
pub(crate) enum Log {
    /// In the data directory. Nobody else has it.
    Sqlite(Arc<SqliteEventStore>),
    /// In a database, shared with other processes.
    Postgres {
        store: Arc<PostgresEventStore>,
        /// By what the work is shared with the others, and this life of the process, as they know it. None for a command.
        shared: Option<(Arc<dyn Leases>, String)>,
        /// None for a command that does not use the data directory.
        directory: Option<OwnDirectory>,
    },
}

impl Log {
    /// Opens it as the configuration says, and makes the data directory this process's own.
    ///
    /// # Errors
    /// Says what is in the way.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        match config.store.engine {
            Engine::Sqlite => Self::in_file(config),
            Engine::Postgres => Self::in_postgres(config).await,
        }
    }

    fn in_file(config: &Config) -> anyhow::Result<Self> {
        let directory = &config.data_dir;
        refuse_backup(directory)?;
        refuse_foreign(directory, LOG)?;
        private_directory(directory)?;
        let store = SqliteEventStore::open(&directory.join(LOG), config.sqlite_options())
            .with_context(|| format!("cannot open the log in {}", directory.display()))?;
        Ok(Self::Sqlite(Arc::new(store)))
    }

    /// For a command of an operator: the log that is there, which nobody else may have open if it is in the data directory.
    ///
    /// # Errors
    /// Says what is in the way.
    pub(crate) async fn of_operator(config: &Config, directory: Directory) -> anyhow::Result<Self> {
        if config.store.engine == Engine::Sqlite {
            return Ok(Self::Sqlite(open_log(&config.data_dir)?));
        }
        if directory == Directory::Used {
            refuse_other(&config.data_dir)?;
        }
        let options = config.postgres_options()?;
        let store = PostgresEventStore::open(options).await.context("cannot open the log in PostgreSQL")?;
        let own = match directory {
            Directory::Used => Some(OwnDirectory::take(&config.data_dir, &store.log_id().to_string())?),
            Directory::Unused => None,
        };
        Ok(Self::Postgres { store: Arc::new(store), shared: None, directory: own })
    }

    async fn in_postgres(config: &Config) -> anyhow::Result<Self> {
        let directory = &config.data_dir;
        refuse_other(directory)?;
        let options = config.postgres_options()?;
        let server = options.server.clone();
        let store = PostgresEventStore::open(options).await.context("cannot open the log in PostgreSQL")?;
        let leases = PostgresLeases::open(&server, TERM).await.context("cannot use the leases")?;
        let mut own = OwnDirectory::take(directory, &store.log_id().to_string())?;
        if !own.life.is_empty() {
            // Whose directory this was is dead: what it held need not wait for the time of its leases.
            end_life(&leases, &own.life).await.context("cannot use the leases")?;
        }
        // Only now: what cannot be given back yet is given back at the next start.
        let life = SystemIds.next().to_string();
        own.begin(&life)?;
        let shared = Some((Arc::new(leases) as _, life));
        Ok(Self::Postgres { store: Arc::new(store), shared, directory: Some(own) })
    }

    /// Where the read models are kept that are made from it.
    ///
    /// # Errors
    /// They cannot be used as they are.
    pub(crate) async fn read_models(&self, config: &Config, use_of: ReadModelUse) -> anyhow::Result<Storage> {
        let Self::Postgres { store, .. } = self else { return Ok(Storage::from(&config.data_dir)) };
        if config.read_models.engine == Engine::Sqlite {
            return Ok(Storage::from(&config.data_dir));
        }
        let options = PostgresOptions {
            server: config.postgres.server()?,
            connections_max: config.read_models.connections_max,
            log_id: store.log_id(),
            scratch_dir: config.data_dir.clone(),
        };
        let postgres = match use_of {
            ReadModelUse::AsTheyAre => Postgres::open(options).await,
            ReadModelUse::Rebuilt => Postgres::open_to_rebuild(options).await,
        };
        Ok(Storage::from(postgres.context("cannot use the read models in PostgreSQL")?))
    }

    /// To append and to read.
    pub(crate) fn store(&self) -> Arc<dyn EventStore> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres { store, .. } => store.clone(),
        }
    }

    /// To look things up.
    pub(crate) fn index(&self) -> Arc<dyn LogIndex> {
        match self {
            Self::Sqlite(store) => store.clone(),
            Self::Postgres { store, .. } => store.clone(),
        }
    }

    /// By what the work is shared, if there are other processes, and the name of this one.
    pub(crate) fn shared(&self) -> Option<(Arc<dyn Leases>, &str)> {
        match self {
            Self::Postgres { shared: Some((leases, life)), .. } => Some((leases.clone(), life)),
            Self::Postgres { shared: None, .. } | Self::Sqlite(_) => None,
        }
    }

    /// Why it takes nothing any more, once that is so.
    pub(crate) fn stopped(&self) -> watch::Receiver<Option<SharedError>> {
        match self {
            Self::Sqlite(store) => store.stopped(),
            Self::Postgres { store, .. } => store.stopped(),
        }
    }

    /// For how long it has not answered: one in a file always does.
    pub(crate) fn silence(&self) -> Silence {
        match self {
            Self::Sqlite(_) => Box::new(|| Duration::ZERO),
            Self::Postgres { store, .. } => {
                let store = store.clone();
                Box::new(move || store.silent_for())
            }
        }
    }

    /// Read models may be behind the log, but never ahead of it: then it has lost what they show.
    ///
    /// # Errors
    /// Names the model, and what to do.
    pub(crate) async fn refuse_to_go_back(&self, models: &ReadModels) -> anyhow::Result<()> {
        let Self::Postgres { store, .. } = self else { return Ok(()) };
        for (name, position) in models.positions() {
            // Others may have written and projected what this process has not heard of yet.
            let mut head = store.head();
            let _ = tokio::time::timeout(HEARD_WITHIN, head.wait_for(|head| *head >= position)).await;
            let head = *store.head().borrow();
            ensure!(
                position <= head,
                "the read model {name} shows the log up to position {position}, and the log ends at {head}: what came \
                 after was lost, by a restore or by a standby that had not got everything. What is there now is shown \
                 again once the data directory is deleted, or shared read models are rebuilt (kite replay --rebuild; \
                 docs/how-to/run-on-postgresql.md)"
            );
        }
        Ok(())
    }

    /// Writes what waits and ends. Whether that was possible.
    pub(crate) async fn close(self) -> bool {
        match self {
            Self::Sqlite(store) => tokio::task::spawn_blocking(move || store.close()).await.is_ok(),
            Self::Postgres { store, directory, .. } => {
                store.close().await;
                // What its read models show is not in the log any more: no later start is to use them.
                match directory.filter(|_| store.has_lost_something()) {
                    Some(mut own) => own.give_up().is_ok(),
                    None => true,
                }
            }
        }
    }
}

/// How long the end of the log may take to be heard of.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// In place of the id of a log that has lost what the read models show.
const LOST: &str = "something was lost of";

/// What is done with read models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadModelUse {
    /// They are read and gone on with.
    AsTheyAre,
    /// They are made again, in whatever version they are.
    Rebuilt,
}

/// Whether a command works on read models in the data directory, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directory {
    /// It does.
    Used,
    /// It only looks at the log.
    Unused,
}

/// The log in the data directory of a stopped instance.
pub(crate) fn open_log(data: &Path) -> anyhow::Result<Arc<SqliteEventStore>> {
    refuse_backup(data)?;
    let path = data.join(LOG);
    if !path.exists() {
        bail!("there is no log in {}", data.display());
    }
    let store = SqliteEventStore::open(&path, SqliteOptions::default()).with_context(|| {
        format!("cannot open the log in {}; is an instance running on it?", data.display())
    })?;
    Ok(Arc::new(store))
}

/// A directory for the read models of a log that is elsewhere has to be one, or nothing yet.
fn refuse_other(directory: &Path) -> anyhow::Result<()> {
    refuse_backup(directory)?;
    ensure!(
        !directory.join(LOG).exists(),
        "{} has a log of its own: with store.engine = \"postgres\" it has to be another directory",
        directory.display()
    );
    refuse_foreign(directory, LOG_ID)?;
    private_directory(directory)
}

/// How often a server is asked that is slow because many processes start at once, and the pause between.
const TRIES_AT_START: usize = 10;
const START_PAUSE: Duration = Duration::from_millis(200);

/// Gives back what a former life of this process held.
async fn end_life(leases: &PostgresLeases, life: &str) -> Result<(), LeaseError> {
    for _ in 1..TRIES_AT_START {
        if leases.end_life(life).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep_until(tokio::time::Instant::now() + START_PAUSE).await;
    }
    leases.end_life(life).await
}

/// A data directory that is this process's for as long as this is there. Its file says which log its read models are made from,
/// and which life of a process had it last.
pub(crate) struct OwnDirectory {
    file: File,
    log_id: String,
    /// Empty: none has had it.
    life: String,
}

impl OwnDirectory {
    /// Takes a directory whose read models are made from this log, or will be.
    fn take(directory: &Path, log_id: &str) -> anyhow::Result<Self> {
        let path = directory.join(LOG_ID);
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another process uses {}", directory.display()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut lines = text.lines().map(str::trim);
        let (known, life) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        ensure!(
            known.is_empty() || known == log_id,
            "the read models in {} are of another log ({known}, and this one is {log_id}): take another directory, or \
             delete this one",
            directory.display(),
        );
        let mut own = Self { file, log_id: log_id.to_owned(), life: life.to_owned() };
        own.write()?;
        Ok(own)
    }

    /// Another life has it.
    fn begin(&mut self, life: &str) -> std::io::Result<()> {
        life.clone_into(&mut self.life);
        self.write()
    }

    /// Its read models show what the log has lost: no later start is to use them.
    fn give_up(&mut self) -> std::io::Result<()> {
        self.log_id = format!("{LOST} {}", self.log_id);
        self.write()
    }

    /// In place, so that a crash leaves the old text or the new one: an empty file would fit any log.
    fn write(&mut self) -> std::io::Result<()> {
        let text = format!("{}\n{}\n", self.log_id, self.life);
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_process_and_to_one_log() {
        let directory = tempfile::tempdir().unwrap();
        let take = |id: &str| OwnDirectory::take(directory.path(), id);
        let told = |id: &str| take(id).err().unwrap().to_string();
        let mut own = take("one").unwrap();
        assert_eq!(own.life, "");
        assert!(told("one").starts_with("another process uses "));
        own.begin("a long life").unwrap();
        drop(own);
        let other = told("other");
        assert!(other.contains("are of another log (one, and this one is other)"), "{other}");
        // Whoever takes it without a life of its own, such as a command, leaves the name of the last.
        drop(take("one").unwrap());
        let mut own = take("one").unwrap();
        assert_eq!(own.life, "a long life");
        own.begin("a life").unwrap();
        drop(own);
        let mut own = take("one").unwrap();
        assert_eq!(own.life, "a life");
        own.give_up().unwrap();
        drop(own);
        assert!(told("one").contains("(something was lost of one, and"));
    }
}
